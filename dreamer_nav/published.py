"""Published scores and DreamerV2 learning curves; reference/README.md says where they are from."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "AGENTS",
    "SUITES",
    "AtariScores",
    "LearningCurve",
    "Suite",
    "atari_scores",
    "curves",
    "find_task",
]

_FOLDER = Path(__file__).with_name("reference")

# Columns of atari_scores.csv and the agents' names, the youngest first.
AGENTS = {
    "dreamerv2": "DreamerV2",
    "iqn": "IQN",
    "rainbow": "Rainbow",
    "c51": "C51",
    "dqn": "DQN",
}


class Suite(NamedTuple):
    """A benchmark with published curves: the environment's option that names a task, and its frames."""

    task_option: str
    action_repeat: int
    """Frames of an agent step where a run's settings leave it to the environment."""
    settings: Mapping[str, Any]
    """The environment's other options in the published runs."""


_ATARI_SETTINGS = {
    "sticky": 0.25,
    "noops": 30,
    "image_size": 64,
    "grayscale": True,
    "full_actions": True,
    "life_loss_terminal": False,
    "time_limit_frames": 108_000,
}
_DMC_SETTINGS = {"sensors": ["pixels"], "image_size": 64, "shadows": True, "camera": None}

# By the environment's name.
SUITES = {"atari": Suite("game", 4, _ATARI_SETTINGS), "dmc": Suite("task", 2, _DMC_SETTINGS)}

# DreamerV2's name of a task that dm_control calls otherwise.
_ALIASES = {"ballincupcatch": "cup_catch"}


@dataclass(frozen=True)
class AtariScores:
    """Returns in one game: the anchors of normalisation, and published agents after 200M frames."""

    random: float
    gamer: float
    record: float
    agents: dict[str, float]
    """By the keys of `AGENTS`."""


@dataclass(frozen=True)
class LearningCurve:
    """Published returns by environment frames, all (n,); frames ascend.

    `mean` and `std` are over `runs` of them, which may differ from point to point.
    """

    frames: np.ndarray
    runs: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    def at(self, frames: float) -> tuple[float, float] | None:
        """Mean and standard deviation at `frames`, linear between points.

        None before the first point. After the last one, the last.
        """
        if frames < self.frames[0]:
            return None
        values = (np.interp(frames, self.frames, column) for column in (self.mean, self.std))
        mean, std = (float(value) for value in values)
        return mean, std


@cache
def atari_scores() -> dict[str, AtariScores]:
    """The scores of the paper's 55 games, by DreamerV2's names of them."""
    found = {}
    for row in _rows("atari_scores.csv"):
        values = {key: float(text) for key, text in row.items() if key != "game"}
        random, gamer, record = (values.pop(key) for key in ("random", "gamer", "record"))
        found[row["game"]] = AtariScores(random, gamer, record, agents=values)
    return found


@cache
def curves(suite: str) -> dict[str, LearningCurve]:
    """DreamerV2's learning curves of a suite of `SUITES`, by DreamerV2's names of the tasks."""
    points: dict[str, list[list[float]]] = {}
    for row in _rows(f"{suite}_curves.csv"):
        numbers = [float(row[key]) for key in ("frames", "runs", "mean", "std")]
        points.setdefault(row[SUITES[suite].task_option], []).append(numbers)
    return {task: LearningCurve(*np.array(rows).T) for task, rows in points.items()}


def find_task(suite: str, name: str) -> str | None:
    """DreamerV2's name of a task however it is spelled (jamesbond, JamesBond, james_bond)."""
    plain = _plain(name)
    return {_plain(task): task for task in curves(suite)}.get(plain, _ALIASES.get(plain))


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _rows(file: str) -> list[dict[str, str]]:
    with (_FOLDER / file).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
