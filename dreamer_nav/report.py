"""The figures of an evaluation: means with bootstrap intervals, as a table and as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from dreamer_nav.rollouts import EpisodeResult
from dreamer_nav.text_table import aligned

__all__ = [
    "Interval",
    "bootstrap_intervals",
    "format_scenes",
    "format_table",
    "report_json",
    "scenes_json",
    "summarize",
]

LEVEL, RESAMPLES, SEED = 0.95, 10_000, 0
_CHUNK = 2**22  # resampled episodes held at a time

# Heading and decimals of each measure, in the order of the table.
_ROWS = {
    "success": ("success", 2),
    "spl": ("SPL", 2),
    "soft_spl": ("SoftSPL", 2),
    "distance_to_goal_m": ("distance to goal (m)", 2),
    "path_length_m": ("path length (m)", 2),
    "collisions": ("collisions", 1),
    "steps": ("steps", 1),
    "return": ("return", 2),
}


class Interval(NamedTuple):
    """A mean over `n` episodes and its confidence interval."""

    mean: float
    low: float
    high: float
    n: int


Summary = Mapping[str, Interval]


def bootstrap_intervals(
    values: np.ndarray, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = SEED
) -> list[Interval]:
    """Means of the columns of `values` (n, measures) with percentile-bootstrap intervals.

    Episodes are resampled whole, the same ones for every column (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 13). Where all values are equal the interval has
    no width, which then says only that nothing else was seen.

    Raises:
        ValueError: no values, or some that are not finite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not len(values):
        raise ValueError(f"an interval needs values (n, measures), n >= 1, got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("an interval needs finite values")
    n = len(values)
    # Differences from one of the values: equal values then resample to exactly the same mean.
    base = values[0]
    rng, means = np.random.default_rng(seed), []
    for first in range(0, resamples, chunk := max(1, _CHUNK // n)):
        size = min(chunk, resamples - first)
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        means.append(counts @ (values - base) / n)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(np.concatenate(means), tails, axis=0) + base
    mean = (values - base).mean(axis=0) + base
    columns = zip(mean.tolist(), low.tolist(), high.tolist(), strict=True)
    return [Interval(*column, n) for column in columns]


def summarize(results: Sequence[EpisodeResult]) -> dict[str, Interval]:
    """Every measure's mean and interval over the episodes."""
    names = list(results[0].measures)
    values = np.array([[r.measures[name] for name in names] for r in results])
    return dict(zip(names, bootstrap_intervals(values), strict=True))


def format_table(policies: Mapping[str, Mapping[str, Interval]]) -> str:
    """One column a policy, one line a measure: mean and interval, aligned."""
    named = [name for name in _ROWS if any(name in summary for summary in policies.values())]
    others = sorted({name for summary in policies.values() for name in summary} - set(_ROWS))
    lines = [["", *policies]]
    for name in named + others:
        heading, decimals = _ROWS.get(name, (name, 2))
        cells = (_cell(summary.get(name), decimals) for summary in policies.values())
        lines.append([heading, *cells])
    return aligned(lines)


def format_scenes(scenes: Mapping[str, Mapping[str, Summary]], every: Mapping[str, Summary]) -> str:
    """Success and SPL: one column a policy, one line a scene and one for the average over all.

    Args:
        scenes: summaries by scene and policy.
        every: summaries of all scenes together, by policy.
    """
    tables = []
    for measure in ("success", "spl"):
        heading, decimals = _ROWS[measure]
        rows = [*scenes.items(), ("all scenes", every)]
        lines = [[heading, *every]]
        for scene, policies in rows:
            lines.append([scene, *(_cell(policies[p].get(measure), decimals) for p in every)])
        tables.append(aligned(lines))
    return "\n\n".join(tables)


def scenes_json(scenes: Mapping[str, Mapping[str, Summary]]) -> dict[str, Any]:
    """Means and intervals by scene, policy and measure, as JSON holds them."""
    return {
        scene: {
            policy: {name: interval._asdict() for name, interval in summary.items()}
            for policy, summary in policies.items()
        }
        for scene, policies in scenes.items()
    }


def _cell(interval: Interval | None, decimals: int) -> str:
    if interval is None:
        return "-"
    mean, low, high = (f"{x:.{decimals}f}" for x in interval[:3])
    return f"{mean} [{low}, {high}]"


def report_json(
    summaries: Mapping[str, Mapping[str, Interval]], results: Mapping[str, Sequence[EpisodeResult]]
) -> dict[str, Any]:
    """Means, intervals and single episodes of every policy, as JSON holds them."""
    return {
        "interval": {"level": LEVEL, "method": "percentile bootstrap", "resamples": RESAMPLES},
        "policies": {
            policy: {name: interval._asdict() for name, interval in summary.items()}
            for policy, summary in summaries.items()
        },
        "episodes": {policy: [asdict(e) for e in episodes] for policy, episodes in results.items()},
    }
