"""Normalised scores, their aggregates over tasks and runs, and stratified bootstrap intervals.

Scores are arrays (..., R, G): runs in rows, tasks in columns. The DreamerV2 paper's aggregates take
one run of every task, aggregate these over the tasks, and average the result over the runs (note
of Table K.1); the mean of the scores would come out the same the other way round, their median not.

The interquartile mean and the bootstrap are those of rliable 1.2.0, whose figures they give but for
the random draws; it needs pandas, seaborn and arch for what is a few lines of NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

__all__ = [
    "AGGREGATES",
    "Anchors",
    "Estimate",
    "aggregate",
    "clipped_record",
    "estimate_aggregates",
    "human_normalized",
    "interquartile_mean",
    "record_normalized",
    "run_matrix",
    "stratified_bootstrap",
    "task_mean",
    "task_median",
]

LEVEL, RESAMPLES, SEED = 0.95, 10_000, 0
_CHUNK = 2**22  # resampled scores held at a time
_MAX_ROWS = 1000  # of a run matrix

Scores = Float[np.ndarray, "*batch R G"]
PerBatch = Float[np.ndarray, "*batch"] | np.floating  # the latter without batch axes


class Anchors(NamedTuple):
    """Returns that normalise each task's scores, all (G,)."""

    random: Float[np.ndarray, " G"]
    gamer: Float[np.ndarray, " G"]
    record: Float[np.ndarray, " G"]


def human_normalized(scores: Scores, anchors: Anchors) -> Scores:
    """0 for random play, 1 for the human gamer (Mnih et al., 2015)."""
    return (scores - anchors.random) / (anchors.gamer - anchors.random)


def record_normalized(scores: Scores, anchors: Anchors) -> Scores:
    """0 for random play, 1 for the human world record (Toromanoff et al., 2019)."""
    return (scores - anchors.random) / (anchors.record - anchors.random)


def clipped_record(scores: Scores, anchors: Anchors) -> Scores:
    """Record-normalised and at most 1, so that no single game decides (Hafner et al., 2021)."""
    return np.minimum(record_normalized(scores, anchors), 1.0)


def task_median(scores: Scores) -> PerBatch:
    """Median over tasks in every run, mean over runs."""
    return np.median(scores, axis=-1).mean(axis=-1)


def task_mean(scores: Scores) -> PerBatch:
    """Mean over tasks, mean over runs."""
    return scores.mean(axis=-1).mean(axis=-1)


def interquartile_mean(scores: Scores) -> PerBatch:
    """Mean of the middle half of all runs of all tasks together (Agarwal et al., 2021, rliable).

    As in their library, and `scipy.stats.trim_mean` with 0.25, the quarter that is cut at each end
    is rounded down to whole scores.
    """
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = int(0.25 * flat.shape[-1])
    return flat[..., cut : flat.shape[-1] - cut].mean(axis=-1)


Statistic = Callable[[Scores], PerBatch]


# How the aggregates of a table are computed from raw returns, in its order.
AGGREGATES: dict[str, Callable[..., PerBatch]] = {
    "gamer_median": lambda scores, anchors: task_median(human_normalized(scores, anchors)),
    "gamer_mean": lambda scores, anchors: task_mean(human_normalized(scores, anchors)),
    "gamer_iqm": lambda scores, anchors: interquartile_mean(human_normalized(scores, anchors)),
    "record_mean": lambda scores, anchors: task_mean(record_normalized(scores, anchors)),
    "clipped_record_mean": lambda scores, anchors: task_mean(clipped_record(scores, anchors)),
}


class Estimate(NamedTuple):
    """An aggregate and its interval; None where a task has one run, which tells no spread."""

    value: float
    low: float | None
    high: float | None


def run_matrix(runs: Sequence[Float[np.ndarray, "*batch _"]]) -> Scores:
    """Scores (..., R, G) of tasks with n_1, ..., n_G runs each.

    With as many runs of every task, row r holds the r-th run of each. Otherwise every task's runs
    are repeated up to the least common multiple of the numbers, so that no run is left out, all
    tasks weigh the same and so do a task's runs. (From 1000 rows on it stops, and the weights are
    equal to a thousandth or so.)
    """
    rows = min(math.lcm(*(task.shape[-1] for task in runs)), _MAX_ROWS)
    columns = [task[..., np.arange(rows) % task.shape[-1]] for task in runs]
    return np.stack(columns, axis=-1)


def stratified_bootstrap(
    runs: Sequence[Float[np.ndarray, " _"]],
    statistics: Sequence[Statistic],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[tuple[float, float]]:
    """Percentile intervals of statistics of runs drawn anew within each task (Agarwal et al., 2021).

    Every task keeps its number of runs: the interval is about other seeds, not other tasks. All
    statistics see the same resamples.

    Args:
        runs: the scores of each task's runs, (n_g,).
        statistics: of a run matrix.
    """
    rng = np.random.default_rng(seed)
    rows = len(run_matrix(runs))
    drawn: list[list[np.ndarray]] = [[] for _ in statistics]
    for first in range(0, resamples, chunk := max(1, _CHUNK // (rows * len(runs)))):
        size = min(chunk, resamples - first)
        resampled = run_matrix(
            [task[rng.integers(len(task), size=(size, len(task)))] for task in runs]
        )
        for values, statistic in zip(drawn, statistics, strict=True):
            values.append(np.asarray(statistic(resampled)))
    tails = [(1 - level) / 2, (1 + level) / 2]
    intervals = (np.quantile(np.concatenate(values), tails) for values in drawn)
    return [(float(low), float(high)) for low, high in intervals]


def aggregate(runs: Sequence[Float[np.ndarray, " _"]], anchors: Anchors) -> dict[str, float]:
    """Every aggregate of `AGGREGATES` over raw returns of each task's runs.

    Raises:
        ValueError: a task without runs, or returns that are not finite.
    """
    _check(runs)
    matrix = run_matrix(runs)
    return {name: float(of(matrix, anchors)) for name, of in AGGREGATES.items()}


def estimate_aggregates(
    runs: Sequence[Float[np.ndarray, " _"]], anchors: Anchors
) -> dict[str, Estimate]:
    """`aggregate` with 95% intervals over runs; None where a task has a single one."""
    values = aggregate(runs, anchors)
    if min(len(task) for task in runs) == 1:
        return {name: Estimate(value, None, None) for name, value in values.items()}
    statistics = [partial(of, anchors=anchors) for of in AGGREGATES.values()]
    bounds = zip(values, stratified_bootstrap(runs, statistics), strict=True)
    return {name: Estimate(values[name], *bound) for name, bound in bounds}


def _check(runs: Sequence[np.ndarray]) -> None:
    if not runs or not all(len(task) for task in runs):
        raise ValueError(f"every task needs a run, got {[len(task) for task in runs]} runs")
    if not all(np.isfinite(task).all() for task in runs):
        raise ValueError("scores must be finite")
