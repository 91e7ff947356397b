from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim_adapters.episodes import (
    Episode,
    EpisodeFileError,
    heading_from_habitat,
    heading_to_habitat,
    load_episodes,
    position_from_habitat,
    position_to_habitat,
    save_episodes,
)

HALF = math.sqrt(0.5)


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps(document).encode()))
    return path


def habitat_episode(**changes: Any) -> dict[str, Any]:
    episode = {
        "episode_id": "12",
        "scene_id": "gibson/Rosser.glb",
        "start_position": [1.0, 0.5, -2.0],
        "start_rotation": [0.0, 0.0, 0.0, 1.0],
        "goals": [{"position": [4.0, 0.5, 3.0], "radius": None}],
        "info": {"geodesic_distance": 6.5, "difficulty": "easy"},
        "shortest_paths": None,
        "start_room": None,
    }
    return {**episode, **changes}


def test_habitats_axes_map_to_ours() -> None:
    # Habitat: y up, the agent looks along -z. Ours: z up. 1 m forward (-z) is our +y.
    assert position_from_habitat([1.0, 2.0, 3.0]) == (1.0, -3.0, 2.0)
    assert position_from_habitat([0.0, 0.0, -1.0]) == (0.0, 1.0, 0.0)
    assert position_to_habitat([1.0, -3.0, 2.0]) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("rotation", "heading"),
    [
        ([0, 0, 0, 1], math.pi / 2),  # identity looks along -z, which is our +y
        ([0, HALF, 0, HALF], math.pi),  # +90 degrees about up is a left turn: -x
        ([0, -HALF, 0, HALF], 0.0),  # -90 degrees, a right turn: +x
        ([0, 1, 0, 0], -math.pi / 2),  # 180 degrees: +z, our -y
        ([0, math.sin(math.pi / 12), 0, math.cos(math.pi / 12)], math.pi / 2 + math.pi / 6),
        ([0, 0, 0, -1], math.pi / 2),  # q and -q are the same rotation
        ([0, 0, 0, 5], math.pi / 2),  # of any length
    ],
)
def test_headings_worked_by_hand(rotation: list[float], heading: float) -> None:
    assert heading_from_habitat(rotation) == pytest.approx(heading)


def test_the_heading_agrees_with_the_rotated_forward_vector() -> None:
    # q v q* with v = -z, by the cross product formula v + 2 w (u x v) + 2 u x (u x v).
    rng = np.random.default_rng(0)
    for q in rng.normal(size=(50, 4)):
        x, y, z, w = q / np.linalg.norm(q)
        u, v = np.array([x, y, z]), np.array([0.0, 0.0, -1.0])
        forward = v + 2.0 * w * np.cross(u, v) + 2.0 * np.cross(u, np.cross(u, v))
        ours = position_from_habitat(forward)
        assert heading_from_habitat(list(q)) == pytest.approx(math.atan2(ours[1], ours[0]))


@pytest.mark.parametrize("degrees", range(-180, 540, 15))
def test_headings_survive_the_round_trip(degrees: int) -> None:
    heading = math.radians(degrees)
    x, y, z, w = heading_to_habitat(heading)
    assert (x, z) == (0.0, 0.0)
    assert w >= 0
    difference = math.remainder(heading_from_habitat([x, y, z, w]) - heading, 2.0 * math.pi)
    assert abs(difference) < 1e-12


def test_a_rotation_without_a_heading_is_refused() -> None:
    with pytest.raises(ValueError, match="non-zero"):
        heading_from_habitat([0, 0, 0, 0])
    with pytest.raises(ValueError, match="straight up or down"):
        heading_from_habitat([HALF, 0, 0, HALF])


def test_a_habitat_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "val.json.gz", {"episodes": [habitat_episode()]})
    (episode,) = load_episodes(path)
    assert episode == Episode(
        episode_id="12",
        scene_id="gibson/Rosser.glb",
        start_position=(1.0, 2.0, 0.5),
        start_heading=math.pi / 2,
        goal_position=(4.0, -3.0, 0.5),
        geodesic_distance=6.5,
    )


def test_episodes_survive_the_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    episodes = []
    for i in range(20):
        a, b, c, d, e, f = (float(v) for v in rng.normal(size=6))
        heading = float(rng.uniform(-3.14, 3.14))
        episodes.append(Episode(str(i), f"scene-{i % 3}", (a, b, c), heading, (d, e, f), 1.0 + i))
    path = tmp_path / "new" / "val.json.gz"
    save_episodes(path, episodes)
    loaded = load_episodes(path)
    assert [e.start_heading for e in loaded] == pytest.approx([e.start_heading for e in episodes])
    for before, after in zip(episodes, loaded, strict=True):
        assert before.start_position == after.start_position
        assert before.goal_position == after.goal_position
        assert (before.episode_id, before.scene_id) == (after.episode_id, after.scene_id)
        assert before.geodesic_distance == after.geodesic_distance


def test_written_files_have_habitats_fields_only(tmp_path: Path) -> None:
    path = tmp_path / "val.json.gz"
    save_episodes(path, [Episode("3", "s", (1.0, 2.0, 0.5), math.pi / 2, (4.0, -3.0, 0.5), 6.5)])
    document = json.loads(gzip.decompress(path.read_bytes()))
    assert document == {
        "episodes": [
            {
                "episode_id": "3",
                "scene_id": "s",
                "start_position": [1.0, 0.5, -2.0],
                "start_rotation": [0.0, 0.0, 0.0, 1.0],
                "goals": [{"position": [4.0, 0.5, 3.0], "radius": 0.2}],
                "info": {"geodesic_distance": 6.5},
            }
        ]
    }


def test_the_same_episodes_give_the_same_bytes(tmp_path: Path, monkeypatch: Any) -> None:
    episodes = [Episode("3", "s", (1.0, 2.0, 0.5), 0.1, (4.0, -3.0, 0.5), 6.5)]
    save_episodes(tmp_path / "a.json.gz", episodes)
    monkeypatch.setattr("time.time", lambda: 2e9)
    save_episodes(tmp_path / "b.json.gz", episodes)
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json.gz", "b.json.gz"]


def test_the_content_folder_is_read_scene_by_scene(tmp_path: Path) -> None:
    split = tmp_path / "train"
    write(split / "train.json.gz", {"episodes": []})
    for scene in ("B", "A"):
        episode = habitat_episode(episode_id=scene.lower())
        write(split / "content" / f"{scene}.json.gz", {"episodes": [episode]})
    for path in (split, split / "train.json.gz"):
        assert [e.episode_id for e in load_episodes(path)] == ["a", "b"]
    assert [e.episode_id for e in load_episodes(split, scenes=["B"])] == ["b"]
    with pytest.raises(FileNotFoundError, match=r"C\.json\.gz.*holds A\.json\.gz, B\.json\.gz"):
        load_episodes(split, scenes=["C"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no episode file .*gone\.json\.gz: expected"):
        load_episodes(tmp_path / "gone.json.gz")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "val.json.gz", {"episodes": [habitat_episode()] * 50})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EpisodeFileError, match=r"val\.json\.gz is not a whole gzip file"):
        load_episodes(path)


def test_every_flipped_bit_of_a_file_is_noticed_or_harmless(tmp_path: Path) -> None:
    path = write(tmp_path / "val.json.gz", {"episodes": [habitat_episode()]})
    whole = path.read_bytes()
    right = load_episodes(path)
    for position in range(len(whole)):
        broken = bytearray(whole)
        broken[position] ^= 0x10
        path.write_bytes(bytes(broken))
        try:
            loaded = load_episodes(path)
        except EpisodeFileError as error:
            message = str(error)
        else:
            message = "val.json.gz" if loaded == right else f"byte {position} went unnoticed"
        assert "val.json.gz" in message


@pytest.mark.parametrize(
    "content", [b"hello", b"", gzip.compress(b"{", mtime=0), gzip.compress(b"\xff", mtime=0)]
)
def test_a_file_of_something_else_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "val.json.gz"
    path.write_bytes(content)
    with pytest.raises(EpisodeFileError, match=r"val\.json\.gz is not"):
        load_episodes(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_position": [1.0, 2.0]}, "'start_position' must be a list of 3 numbers"),
        ({"start_position": [1.0, 2.0, math.nan]}, "'start_position' must be finite"),
        ({"start_rotation": [0, 0, 0, 0]}, "non-zero quaternion"),
        ({"goals": []}, "one goal"),
        ({"info": None}, "NoneType"),
        ({"info": {}}, "no 'geodesic_distance'"),
        ({"info": {"geodesic_distance": -1.0}}, ">= 0"),
    ],
)
def test_a_wrong_episode_is_named(tmp_path: Path, changes: Any, message: str) -> None:
    episodes = [habitat_episode(), habitat_episode(**changes)]
    path = write(tmp_path / "val.json.gz", {"episodes": episodes})
    with pytest.raises(EpisodeFileError, match=rf"val\.json\.gz, episode 1: .*{message}.*expected"):
        load_episodes(path)


@pytest.mark.parametrize("document", [[], {}, {"episodes": {}}, {"episodes": []}])
def test_a_file_without_episodes_is_named(tmp_path: Path, document: Any) -> None:
    path = write(tmp_path / "val.json.gz", document)
    with pytest.raises(EpisodeFileError, match=r"val\.json\.gz"):
        load_episodes(path)


def test_another_ending_is_refused_when_writing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.json\.gz"):
        save_episodes(tmp_path / "val.json", [])
