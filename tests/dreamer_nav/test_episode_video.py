from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from dreamer_nav import episode_video
from dreamer_nav.episode_video import EpisodeRecorder, camera_view
from dreamer_nav.floor_map import EpisodeMap, PathPicture
from dreamer_nav.rollouts import EpisodewisePolicy, UniformPolicy, run_episodes
from sim_adapters.dummy import make_dummy
from sim_adapters.nav_baselines import GreedyPolicy
from tests.dreamer_nav.flat_task import BLOCKED, FlatTask, MappedFlatTask

GREEN, RED = (60, 170, 80), (200, 60, 50)


def record(make: Callable[[], gym.Env], policy: Any = None, episodes: int = 7) -> EpisodeRecorder:
    recorder = EpisodeRecorder(episodes=6)
    policy = policy or EpisodewisePolicy(GreedyPolicy)
    run_episodes(policy, make, episodes=episodes, seed=0, num_envs=3, on_step=recorder.on_step)
    return recorder


def frames(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def close_to(pixels: np.ndarray, colour: tuple[int, ...], tolerance: int = 40) -> np.ndarray:
    return (np.abs(pixels.astype(int) - np.array(colour)) < tolerance).all(axis=-1)


def test_the_film_shows_six_episodes_and_frames_their_outcomes(tmp_path: Path) -> None:
    recorder = record(lambda: MappedFlatTask(split="val", max_steps=15))
    film, sheet = recorder.write(tmp_path / "videos", "val-7")
    assert (film.name, sheet.name) == ("episodes-val-7.mp4", "episodes-val-7.png")
    shown = frames(film)
    height, width = shown.shape[1] // 2, shown.shape[2] // 3
    assert width == 192 + 192 + 8  # a camera view, a map, and the white around them
    for i in range(6):
        top, left = i // 3 * height, i % 3 * width
        edge = shown[-1, top + 20 : top + height - 20, left : left + 3]
        assert close_to(edge, RED if i in BLOCKED else GREEN).all(), i
        assert not close_to(shown[0, top + 20 : top + height - 20, left : left + 3], GREEN).any()


def test_the_sheet_shows_the_maps_with_their_paths(tmp_path: Path) -> None:
    recorder = record(lambda: MappedFlatTask(split="val", max_steps=15))
    _, path = recorder.write(tmp_path, "x")
    with Image.open(path) as picture:
        sheet = np.asarray(picture)
    height, width = sheet.shape[0] // 2, sheet.shape[1] // 3
    for i in range(6):
        top, left = i // 3 * height, i % 3 * width
        panel = sheet[top : top + height, left : left + width]
        assert close_to(panel, (20, 150, 60)).sum() > 50, "goal"
        assert close_to(panel, (40, 90, 200)).sum() > 50, "start"
        assert close_to(panel[20:, 4:], (0, 0, 0)).mean() > 0.1, "the simulator's floor"


def test_a_simulator_without_maps_is_drawn_on_white(tmp_path: Path) -> None:
    film, sheet = record(lambda: FlatTask(split="val", max_steps=15)).write(tmp_path, "x")
    with Image.open(sheet) as picture:
        assert close_to(np.asarray(picture)[20:], (255, 255, 255)).mean() > 0.8
    assert film.exists()


def test_a_task_without_goals_has_a_film_alone(tmp_path: Path) -> None:
    recorder = record(lambda: make_dummy("delayed"), UniformPolicy(), episodes=2)
    (film,) = recorder.write(tmp_path, "x")
    shown = frames(film)
    assert shown.shape[2] == 2 * (192 + 8)
    assert len(shown) == 6 + 12  # a frame for each of 6 observations, and the outcome held


def test_long_episodes_skip_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode_video, "_MAX_FRAMES", 8)
    film, _ = record(lambda: MappedFlatTask(split="val", max_steps=45)).write(tmp_path, "x")
    # Of 46 observations every sixth and the last, and then the outcome.
    assert len(frames(film)) == 8 + 1 + 12


def test_nothing_recorded_writes_nothing(tmp_path: Path) -> None:
    assert EpisodeRecorder().write(tmp_path / "videos", "x") == []
    assert not (tmp_path / "videos").exists()


def test_near_is_bright_and_colours_stay_as_they_are() -> None:
    env: Any = gym.Env()
    env.observation_space = gym.spaces.Dict(
        {
            "depth": gym.spaces.Box(0.1, 10.0, (64, 64, 1), np.float32),
            "rgb": gym.spaces.Box(0, 255, (64, 64, 3), np.uint8),
        }
    )
    depth = np.repeat(np.linspace(0.1, 10.0, 64, dtype=np.float32)[None, :, None], 64, axis=0)
    rgb = np.full((64, 64, 3), (10, 200, 30), np.uint8)
    view = camera_view({"depth": depth, "rgb": rgb, "pointgoal": np.zeros(2)}, env)
    assert view.shape == (192, 2 * 192, 3)
    assert (view[:, :192] == (10, 200, 30)).all()
    brightness = view[0, 192:].astype(int).sum(axis=-1)
    assert (np.diff(brightness) <= 0).all()
    assert (brightness[0], brightness[-1]) == (252 + 255 + 164, 4)


def test_a_path_lies_where_the_map_says() -> None:
    # 5 m across 100 pixels, +y up: (1, 1) is 20 pixels from the left and from the bottom.
    floor = np.full((100, 100, 3), 255, np.uint8)
    start, goal = np.array([1.0, 1.0]), np.array([4.0, 3.0])
    world = EpisodeMap(floor, np.zeros(2), 20.0, start, goal, np.array([start, goal]))
    path = np.array([[1.0, 1.0], [1.0, 4.0]])
    picture = PathPicture(world, path, size=100).draw()
    assert close_to(picture[80, 20], (40, 90, 200)), "start"
    assert close_to(picture[40, 80], (20, 150, 60)), "goal"
    rows, columns = np.nonzero(close_to(picture, (250, 190, 60)))
    assert (rows.min(), rows.max()) == (pytest.approx(20, abs=2), pytest.approx(76, abs=4))
    assert columns.mean() == pytest.approx(20, abs=1)
    assert not close_to(PathPicture(world, path, 100).draw(step=0), (250, 190, 60)).any()


def test_the_robot_points_where_it_heads() -> None:
    world = EpisodeMap(
        np.full((100, 100, 3), 255, np.uint8),
        np.zeros(2),
        20.0,
        np.array([0.5, 0.5]),
        np.array([4.5, 4.5]),
        np.zeros((0, 2)),
    )
    middle = np.array([[2.5, 2.5]])
    for heading, axis in ((0.0, 1), (np.pi / 2, 0)):
        picture = PathPicture(world, middle, size=100).draw(0, heading)
        places = np.argwhere(close_to(picture, (230, 70, 30)))
        spread = places.max(axis=0) - places.min(axis=0)
        assert spread[axis] > spread[1 - axis]
