"""Rows that say where they came from, and replays small enough to count in."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dreamer_nav.config import ReplayConfig
from dreamer_nav.replay import Replay, RowSpec

SPECS = {
    "image": RowSpec((4, 4, 3), "uint8", 0.0, 255.0),
    "goal": RowSpec((2,), "float32", -np.inf, np.inf),
    "action": RowSpec((3,), "float32"),
}
SMALL = ReplayConfig(capacity_steps=60, batch_size=8, batch_length=5)
# The goal's first number is the row's number and its second the stream's: every slice shows where
# it came from.


def row(env: int, number: int, first: bool = False, last: bool = False) -> dict[str, np.ndarray]:
    return {
        "image": np.full((1, 4, 4, 3), number % 256, np.uint8),
        "goal": np.array([[number, env]], np.float32),
        "action": np.full((1, 3), 0 if first else number, np.float32),
        "reward": np.array([0 if first else number / 10], np.float32),
        "is_first": np.array([first]),
        "is_last": np.array([last]),
        "is_terminal": np.array([last]),
    }


def fill(replay: Replay, env: int, episodes: list[int], start: int = 0) -> int:
    """Add episodes of the given numbers of rows; returns the next row's number."""
    number = start
    for rows in episodes:
        for i in range(rows):
            replay.add(row(env, number, i == 0, i == rows - 1), np.array([env]))
            number += 1
    return number


def make(
    folder: Path, config: ReplayConfig = SMALL, num_envs: int = 1, slack_steps: int = 10
) -> Replay:
    return Replay(folder, SPECS, num_envs, config, slack_steps)


def starts(replay: Replay, seed: int, batches: int) -> np.ndarray:
    """(batches * B, 2): first row and stream of every slice drawn."""
    rng = np.random.default_rng(seed)
    drawn = [replay.sample(rng)["goal"][:, 0].copy() for _ in range(batches)]
    return np.concatenate(drawn).astype(int)


def batches(replay: Replay, seed: int = 9) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [replay.sample(rng) for _ in range(10)]


def assert_same(a: list[dict[str, np.ndarray]], b: list[dict[str, np.ndarray]]) -> None:
    for x, y in zip(a, b, strict=True):
        for key in x:
            np.testing.assert_array_equal(x[key], y[key])
