"""Navigation episodes, and the PointNav-v1 files that habitat-lab keeps them in.

Habitat's frame has y up and an agent that faces -z at the identity rotation; ours has z up and
headings counter-clockwise from +x. With habitat (x, y, z) = ours (x, z, -y), a habitat yaw of
theta about +y is our heading pi/2 + theta.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

Vector = Tuple[float, float, float]
Quaternion = Tuple[float, float, float, float]

_EXPECTED = (
    'expected habitat PointNav-v1 episodes: {"episodes": [{"episode_id", "scene_id", '
    '"start_position", "start_rotation", "goals", "info": {"geodesic_distance"}}, ...]}'
)


class EpisodeFileError(ValueError):
    """An episode file cannot be understood; the message names the file and what was expected."""


@dataclass(frozen=True)
class Episode:
    """One navigation episode: where the robot starts and where it has to go.

    Positions are (x, y, z) in metres with z up and z the height of the floor; headings are
    radians counter-clockwise from +x seen from above (a left turn is positive).
    """

    episode_id: str
    scene_id: str
    start_position: Vector
    start_heading: float
    goal_position: Vector
    geodesic_distance: float


def wrap_angle(angle: float) -> float:
    """Return `angle` in radians, brought into (-pi, pi]."""
    return math.pi - (math.pi - angle) % (2.0 * math.pi)


def position_from_habitat(position: Sequence[float]) -> Vector:
    """Return habitat's (x, y, z) in our frame."""
    x, y, z = (float(v) for v in position)
    return (x, -z, y)


def position_to_habitat(position: Sequence[float]) -> Vector:
    """Return our (x, y, z) in habitat's frame."""
    x, y, z = (float(v) for v in position)
    return (x, z, -y)


def heading_from_habitat(rotation: Sequence[float]) -> float:
    """Return the heading in (-pi, pi] of habitat's quaternion (x, y, z, w).

    Raises:
        ValueError: the quaternion is zero or the robot would look straight up or down.
    """
    x, y, z, w = (float(v) for v in rotation)
    squared_norm = x * x + y * y + z * z + w * w
    if not squared_norm > 1e-12:
        raise ValueError(f"a rotation needs a non-zero quaternion, got {list(rotation)}")
    # The image of -z, times the squared norm: minus the third column of the rotation matrix.
    forward_x = -2.0 * (x * z + w * y)
    forward_z = -(w * w - x * x - y * y + z * z)
    if math.hypot(forward_x, forward_z) < 1e-6 * squared_norm:
        raise ValueError(f"the rotation {list(rotation)} looks straight up or down: no heading")
    return math.atan2(-forward_z, forward_x)


def heading_to_habitat(heading: float) -> Quaternion:
    """Return the quaternion (x, y, z, w), w >= 0, of a robot that stands upright."""
    half_yaw = 0.5 * wrap_angle(heading - 0.5 * math.pi)
    return (0.0, math.sin(half_yaw), 0.0, math.cos(half_yaw))


def load_episodes(path: Union[str, Path], scenes: Optional[Iterable[str]] = None) -> List[Episode]:
    """Read episodes in habitat's PointNav-v1 format.

    Args:
        path: `<split>.json.gz` (or plain `.json`), or the folder `<split>` that holds it. Where
            a folder `content` lies beside the file, its `<scene>.json.gz` are read too, in the
            order of their names, after the episodes of the file itself.
        scenes: names of the files in `content` to read, without the ending; None reads all.

    Raises:
        FileNotFoundError: there is no such file, or none for one of `scenes`.
        EpisodeFileError: a file is not gzip, not JSON, or holds something else.
    """
    main = Path(path)
    if main.is_dir():
        main = main / f"{main.name}.json.gz"
    if not main.is_file():
        raise FileNotFoundError(f"no episode file {main}: {_EXPECTED}, gzip-compressed")
    episodes = _read(main)
    for file in _content_files(main.parent / "content", scenes):
        episodes.extend(_read(file))
    if not episodes:
        raise EpisodeFileError(f"{main} and its folder 'content' hold no episode: {_EXPECTED}")
    return episodes


def save_episodes(
    path: Union[str, Path], episodes: Sequence[Episode], goal_radius_m: float = 0.2
) -> None:
    """Write `episodes` in habitat's PointNav-v1 format, atomically, the same bytes every time.

    Args:
        path: must end in `.json.gz`; its folder is made if missing.
        episodes: what to write.
        goal_radius_m: the goals' "radius", which habitat keeps but measures success without.
    """
    target = Path(path)
    if not target.name.endswith(".json.gz"):
        raise ValueError(f"an episode file's name ends in .json.gz, got {target}")
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"episodes": [_to_habitat(e, goal_radius_m) for e in episodes]})
    partial = target.with_name(target.name + ".partial")
    # mtime=0: without it gzip stores the time of writing and no two files are equal.
    partial.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))
    os.replace(str(partial), str(target))


def _content_files(folder: Path, scenes: Optional[Iterable[str]]) -> List[Path]:
    if scenes is None:
        return sorted(folder.glob("*.json.gz"))
    files = [folder / f"{scene}.json.gz" for scene in scenes]
    for file in files:
        if not file.is_file():
            present = ", ".join(p.name for p in sorted(folder.glob("*.json.gz"))[:8]) or "nothing"
            raise FileNotFoundError(f"no episode file {file}; its folder holds {present}")
    return files


def _read(file: Path) -> List[Episode]:
    try:
        raw = file.read_bytes()
        if file.suffix == ".gz":
            raw = gzip.decompress(raw)
        document = json.loads(raw.decode("utf-8"))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise EpisodeFileError(
            f"{file} is not a whole gzip file ({error}); download or generate it again"
        ) from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError
        raise EpisodeFileError(f"{file} is not JSON ({error}); {_EXPECTED}") from error
    if not isinstance(document, dict) or not isinstance(document.get("episodes"), list):
        raise EpisodeFileError(f"{file} has no list 'episodes'; {_EXPECTED}")
    episodes = []
    for index, item in enumerate(document["episodes"]):
        try:
            episodes.append(_from_habitat(item))
        except KeyError as error:
            raise EpisodeFileError(f"{file}, episode {index}: no {error}; {_EXPECTED}") from error
        except (TypeError, ValueError) as error:
            raise EpisodeFileError(f"{file}, episode {index}: {error}; {_EXPECTED}") from error
    return episodes


def _numbers(item: Dict[str, Any], key: str, count: int) -> List[float]:
    values = item[key]
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{key!r} must be a list of {count} numbers, got {values!r}")
    numbers = [float(v) for v in values]
    if not all(math.isfinite(v) for v in numbers):
        raise ValueError(f"{key!r} must be finite, got {values!r}")
    return numbers


def _from_habitat(item: Dict[str, Any]) -> Episode:
    goals = item["goals"]
    if not isinstance(goals, list) or len(goals) != 1:
        raise ValueError(f"'goals' must be a list of one goal, got {goals!r}")
    distance = float(item["info"]["geodesic_distance"])
    if not (math.isfinite(distance) and distance >= 0):
        raise ValueError(f"'geodesic_distance' must be finite and >= 0, got {distance}")
    return Episode(
        episode_id=str(item["episode_id"]),
        scene_id=str(item["scene_id"]),
        start_position=position_from_habitat(_numbers(item, "start_position", 3)),
        start_heading=heading_from_habitat(_numbers(item, "start_rotation", 4)),
        goal_position=position_from_habitat(_numbers(goals[0], "position", 3)),
        geodesic_distance=distance,
    )


def _to_habitat(episode: Episode, goal_radius_m: float) -> Dict[str, Any]:
    return {
        "episode_id": episode.episode_id,
        "scene_id": episode.scene_id,
        "start_position": list(position_to_habitat(episode.start_position)),
        "start_rotation": list(heading_to_habitat(episode.start_heading)),
        "goals": [
            {
                "position": list(position_to_habitat(episode.goal_position)),
                "radius": goal_radius_m,
            }
        ],
        "info": {"geodesic_distance": episode.geodesic_distance},
    }
