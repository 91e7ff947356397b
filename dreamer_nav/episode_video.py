"""Films and a contact sheet of the first evaluation episodes: what the robot saw and where it went."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image

from dreamer_nav.atomic import atomic_path
from dreamer_nav.floor_map import EpisodeMap, PathPicture
from dreamer_nav.rollouts import Rollout
from dreamer_nav.video import as_rgb, label, side_by_side, write_mp4

__all__ = ["EpisodeRecorder", "camera_view"]

_PANEL = 192  # side of a camera view and of a map in the film
_SHEET_PANEL = 384
_MAX_FRAMES = 100  # of an episode; a longer one skips some, lest a stuck robot take a minute
_HOLD_FRAMES = 12  # the last picture with the outcome, at least this long
_FPS = 10.0
_GUTTER = 4
# Every fifth of matplotlib's colour map "inferno".
_FAR_TO_NEAR = np.array(
    [(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)]
)
_OUTCOME = {True: (60, 170, 80), False: (200, 60, 50)}


@dataclass
class _Recording:
    """One episode: a camera view and a pose for every observation."""

    index: int
    name: str
    map: EpisodeMap | None
    views: list[np.ndarray] = field(default_factory=list)
    poses: list[tuple[float, float, float]] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    outcome: str = ""
    success: bool | None = None


class EpisodeRecorder:
    """Keeps the first episodes of an evaluation: those, whatever becomes of them.

    Args:
        episodes: how many.
    """

    def __init__(self, episodes: int = 6) -> None:
        self._episodes = episodes
        self._recordings: dict[int, _Recording] = {}

    def on_step(self, rollout: Rollout) -> None:
        """Record the rollout's observation; call it after the reset and after every step."""
        if rollout.index >= self._episodes:
            return
        if rollout.steps == 0:
            name = str(rollout.info.get("scene_id", ""))
            recording = _Recording(rollout.index, name, EpisodeMap.of(rollout.env))
            self._recordings[rollout.index] = recording
        recording = self._recordings[rollout.index]
        recording.views.append(camera_view(rollout.obs, rollout.env))
        if recording.map is not None:
            simulator: Any = rollout.env.unwrapped.simulator  # type: ignore[attr-defined]
            x, y = simulator.position[:2].tolist()
            recording.poses.append((x, y, float(simulator.heading)))
        recording.captions.append(_progress(rollout))
        if rollout.done:
            _conclude(recording, rollout)

    def write(self, folder: Path, name: str) -> list[Path]:
        """Write episodes-`name`.mp4, and episodes-`name`.png with the paths where there are maps.

        Raises:
            OSError: the files cannot be written.
        """
        ended = [r for _, r in sorted(self._recordings.items()) if r.outcome]
        if not ended:
            return []
        folder.mkdir(parents=True, exist_ok=True)
        film = folder / f"episodes-{name}.mp4"
        films = [_film(r) for r in ended]
        write_mp4(film, side_by_side(films, columns=min(3, len(ended))), _FPS)
        if any(r.map is None for r in ended):
            return [film]
        sheet = folder / f"episodes-{name}.png"
        with atomic_path(sheet) as temporary:
            Image.fromarray(_sheet(ended)).save(temporary)
        return [film, sheet]


def _progress(rollout: Rollout) -> str:
    text = f"step {rollout.steps}"
    distance = rollout.info.get("distance_to_goal", rollout.info.get("geodesic_distance"))
    if distance is not None:
        return f"{text}, {float(distance):.1f} m to the goal"
    return f"{text}, return {rollout.total_return:.2f}"


def _conclude(recording: _Recording, rollout: Rollout) -> None:
    info = rollout.info
    if "success" in info:
        recording.success = bool(info["success"])
        result = "reached" if recording.success else "failed"
        distance = "" if recording.success else f" {float(info['distance_to_goal']):.1f} m away"
        recording.outcome = f"{result}{distance}, SPL {float(info.get('spl', 0.0)):.2f}"
    else:
        recording.outcome = f"return {rollout.total_return:.2f}"
    recording.outcome += f", {rollout.steps} steps"


def camera_view(obs: dict[str, np.ndarray], env: gym.Env) -> np.ndarray:
    """Every image of an observation side by side, uint8 (192, W, 3); near is bright in depth.

    An observation without images gives a black square.
    """
    space = env.observation_space
    assert isinstance(space, gym.spaces.Dict)
    panels = []
    for name in sorted(obs, reverse=True):  # rgb before depth
        image = np.asarray(obs[name])
        if image.ndim == 3:
            panels.append(_enlarged(_shown(name, image, space[name])))
    return np.concatenate(panels, axis=1) if panels else np.zeros((_PANEL, _PANEL, 3), np.uint8)


def _shown(name: str, image: np.ndarray, space: gym.Space) -> np.ndarray:
    """An image as colours; float images are mapped from their space's bounds."""
    if image.dtype == np.uint8:
        return as_rgb(image)
    assert isinstance(space, gym.spaces.Box)
    low, high = float(space.low.min()), float(space.high.max())
    share = (image.astype(np.float32) - low) / max(high - low, 1e-9)
    if "depth" not in name:
        return as_rgb(share)
    # The root spreads the near half of the range, where a robot's obstacles are.
    near = 1.0 - np.sqrt(np.clip(share[..., 0], 0.0, 1.0))
    stops = np.linspace(0.0, 1.0, len(_FAR_TO_NEAR))
    colours = [np.interp(near, stops, channel) for channel in _FAR_TO_NEAR.T]
    return np.stack(colours, axis=-1).astype(np.uint8)


def _enlarged(image: np.ndarray) -> np.ndarray:
    width = max(1, round(image.shape[1] * _PANEL / image.shape[0]))
    return np.asarray(Image.fromarray(image).resize((width, _PANEL), Image.Resampling.NEAREST))


def _film(recording: _Recording) -> np.ndarray:
    """Frames (T, H, W, 3) of one episode with its outcome at the end."""
    last = len(recording.views) - 1
    stride = -(-len(recording.views) // _MAX_FRAMES)
    shown = [*range(0, last, stride), last]
    picture = None
    if recording.map is not None:
        picture = PathPicture(recording.map, np.array(recording.poses)[:, :2], _PANEL)
    frames = [_frame(recording, picture, t, recording.captions[t]) for t in shown]
    ending = _frame(recording, picture, last, recording.outcome)
    frames += [_framed(ending, recording.success)] * _HOLD_FRAMES
    return np.stack(frames)


def _frame(recording: _Recording, picture: PathPicture | None, t: int, caption: str) -> np.ndarray:
    parts = [recording.views[t]]
    if picture is not None:
        parts.append(picture.draw(t, heading=recording.poses[t][2]))
    text = " ".join(f"{recording.index + 1}  {recording.name}  {caption}".split())
    return _bordered(label(np.concatenate(parts, axis=1), text))


def _framed(picture: np.ndarray, success: bool | None) -> np.ndarray:
    if success is None:
        return picture
    framed = picture.copy()
    for edge in (np.s_[:_GUTTER], np.s_[-_GUTTER:], np.s_[:, :_GUTTER], np.s_[:, -_GUTTER:]):
        framed[edge] = _OUTCOME[success]
    return framed


def _sheet(recordings: list[_Recording]) -> np.ndarray:
    """Maps with whole paths, in rows of three, uint8 (H, W, 3)."""
    pictures = []
    for r in recordings:
        assert r.map is not None
        picture = PathPicture(r.map, np.array(r.poses)[:, :2], _SHEET_PANEL).draw()
        pictures.append(_bordered(picture)[None])
    texts = [f"{r.index + 1}: {r.outcome}" for r in recordings]
    return side_by_side(pictures, texts, columns=min(3, len(recordings)))[0]


def _bordered(picture: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) with a white gutter around it."""
    return np.pad(picture, [(_GUTTER, _GUTTER)] * 2 + [(0, 0)], constant_values=255)
