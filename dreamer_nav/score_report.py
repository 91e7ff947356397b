"""Runs of Atari and DeepMind Control beside the published scores, as tables and as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dreamer_nav import __version__
from dreamer_nav.published import AGENTS, SUITES, atari_scores, curves
from dreamer_nav.run_scores import RunScore
from dreamer_nav.scores import (
    LEVEL,
    RESAMPLES,
    Anchors,
    aggregate,
    clipped_record,
    estimate_aggregates,
    human_normalized,
    record_normalized,
    stratified_bootstrap,
    task_mean,
)
from dreamer_nav.text_table import aligned

__all__ = ["format_report", "score_report"]

_FEW_EPISODES = 10  # an evaluation of fewer is called noisy

_SUITE_NAMES = {"atari": "Atari", "dmc": "DeepMind Control"}
_AGGREGATES = {
    "gamer_median": "human-normalised, median",
    "gamer_mean": "human-normalised, mean",
    "gamer_iqm": "human-normalised, interquartile mean",
    "record_mean": "record-normalised, mean",
    "clipped_record_mean": "record-normalised and clipped, mean",
}


# -- the figures ---------------------------------------------------------------------------------


def score_report(scores: Sequence[RunScore]) -> dict[str, Any]:
    """Every task's scores beside the published ones, and the aggregates over the games of Atari.

    Published agents are aggregated over the same games as the runs.
    """
    tasks: dict[str, dict[str, Any]] = {}
    for suite in SUITES:
        by_task = _by_task([score for score in scores if score.suite == suite])
        if by_task:
            tasks[suite] = {task: _task_figures(runs) for task, runs in by_task.items()}
    report: dict[str, Any] = {
        "version": __version__,
        "interval": {"level": LEVEL, "method": "percentile bootstrap", "resamples": RESAMPLES},
        "runs": [asdict(score) for score in scores],
        "tasks": tasks,
    }
    if "atari" in tasks:
        report["aggregates"] = _aggregates(_by_task([s for s in scores if s.suite == "atari"]))
    return report


def _by_task(scores: Sequence[RunScore]) -> dict[str, list[RunScore]]:
    found: dict[str, list[RunScore]] = {}
    for score in sorted(scores, key=lambda score: (score.task, score.seed)):
        found.setdefault(score.task, []).append(score)
    return found


def _returns(runs: Sequence[RunScore]) -> np.ndarray:
    return np.array([run.mean for run in runs])


def _anchors(games: Sequence[str]) -> Anchors:
    rows = [atari_scores()[game] for game in games]
    return Anchors(*np.array([(row.random, row.gamer, row.record) for row in rows]).T)


def _task_figures(runs: Sequence[RunScore]) -> dict[str, Any]:
    first, frames = runs[0], [run.frames for run in runs]
    figures: dict[str, Any] = {
        "frames": [min(frames), max(frames)],
        "runs": len(runs),
        "episodes": sum(run.episodes for run in runs),
        "return": _return_interval(runs),
    }
    curve = curves(first.suite)[first.task]
    end = {"frames": int(curve.frames[-1]), "return": float(curve.mean[-1])}
    if first.suite == "atari":
        anchors, matrix = _anchors([first.task]), _returns(runs)[:, None]
        figures["human_normalized"] = float(human_normalized(matrix, anchors).mean())
        figures["record_normalized"] = float(record_normalized(matrix, anchors).mean())
        figures["clipped_record"] = float(clipped_record(matrix, anchors).mean())
        end["return"] = atari_scores()[first.task].agents["dreamerv2"]
    figures["dreamerv2"] = {"same_frames": _at_the_same_frames(runs), "end": end}
    return figures


def _return_interval(runs: Sequence[RunScore]) -> dict[str, float | None]:
    """Over runs where there are several, else over the one run's episodes."""
    returns = _returns(runs)
    if len(runs) == 1:
        return {"mean": runs[0].mean, "low": runs[0].low, "high": runs[0].high}
    ((low, high),) = stratified_bootstrap([returns], [task_mean])
    return {"mean": float(returns.mean()), "low": low, "high": high}


def _published_returns(runs: Sequence[RunScore]) -> list[tuple[float, float]] | None:
    """The published mean and deviation after each run's frames; None if one is before the curve."""
    curve = curves(runs[0].suite)[runs[0].task]
    found = [point for run in runs if (point := curve.at(run.frames)) is not None]
    return found if len(found) == len(runs) else None


def _at_the_same_frames(runs: Sequence[RunScore]) -> dict[str, float] | None:
    points = _published_returns(runs)
    if points is None:
        return None
    mean, std = np.mean(points, axis=0).tolist()
    return {"return": mean, "std": std}


def _aggregates(by_game: Mapping[str, Sequence[RunScore]]) -> dict[str, Any]:
    anchors = _anchors(list(by_game))
    own = estimate_aggregates([_returns(runs) for runs in by_game.values()], anchors)
    found: dict[str, Any] = {
        "games": len(by_game),
        "dreamer": {name: estimate._asdict() for name, estimate in own.items()},
    }
    points = [_published_returns(runs) for runs in by_game.values()]
    if all(points):
        means = [np.array([mean for mean, _ in game]) for game in points if game is not None]
        found["dreamerv2_same_frames"] = aggregate(means, anchors)
    for agent in AGENTS:
        published = [np.array([atari_scores()[game].agents[agent]]) for game in by_game]
        found[agent] = aggregate(published, anchors)
    return found


# -- the tables ----------------------------------------------------------------------------------


def format_report(report: Mapping[str, Any], *, aggregates: bool = True) -> str:
    """The tables of what `score_report` returned, and how to read them."""
    parts = []
    for suite, tasks in report["tasks"].items():
        parts.append(f"{_SUITE_NAMES[suite]}: return, mean [95% interval]")
        parts.append(_task_table(suite, tasks))
    several = any(task["runs"] > 1 for tasks in report["tasks"].values() for task in tasks.values())
    if several:
        parts.append("Intervals are over the runs of a task, or the episodes of its only run.")
    if aggregates and "aggregates" in report:
        parts += _aggregate_parts(report["aggregates"])
    changed = [f"{run['run']} ({run['changes']})" for run in report["runs"] if run["changes"]]
    if changed:
        parts.append(f"Settings that the published agents may not have had: {', '.join(changed)}")
    few = [run["run"] for run in report["runs"] if run["episodes"] < _FEW_EPISODES]
    if few:
        parts.append(
            f"Of fewer than {_FEW_EPISODES} episodes, so noisy: {', '.join(few)}. "
            f"More: dreamer-nav eval {few[0]} --episodes 100"
        )
    return "\n\n".join(parts)


def _task_table(suite: str, tasks: Mapping[str, Any]) -> str:
    normalised = ["human-normalised", "record-normalised"] if suite == "atari" else []
    head = [SUITES[suite].task_option, "frames", "runs", "n", "return", *normalised]
    rows = [[*head, "DreamerV2 at these frames", "DreamerV2 at the end"]]
    for task, figures in tasks.items():
        same, end = figures["dreamerv2"]["same_frames"], figures["dreamerv2"]["end"]
        keys = ("human_normalized", "record_normalized") if normalised else ()
        rows.append(
            [
                task,
                _frames(*figures["frames"]),
                str(figures["runs"]),
                str(figures["episodes"]),
                _cell(figures["return"]["mean"], figures["return"], ",.1f"),
                *(f"{figures[key]:.3f}" for key in keys),
                f"{same['return']:,.1f} ± {same['std']:,.1f}" if same else "-",
                f"{end['return']:,.1f} ({_frames(end['frames'], end['frames'])})",
            ]
        )
    return aligned(rows)


def _aggregate_parts(aggregates: Mapping[str, Any]) -> list[str]:
    others = {"dreamerv2_same_frames": "DreamerV2 at these frames"}
    others |= {key: f"{name} 200M" for key, name in AGENTS.items()}
    others = {key: name for key, name in others.items() if key in aggregates}
    rows = [["", "these runs", *others.values()]]
    for key, label in _AGGREGATES.items():
        own = aggregates["dreamer"][key]
        cells = (f"{aggregates[other][key]:.3f}" for other in others)
        rows.append([label, _cell(own["value"], own, ".3f"), *cells])
    games, known = aggregates["games"], len(atari_scores())
    which = f"all {known} games" if games == known else f"{games} of the {known} games, all agents"
    parts = [f"Over {which}:", aligned(rows)]
    if aggregates["dreamer"]["gamer_mean"]["low"] is None:
        parts.append("No intervals here: one run of a game tells nothing of other seeds.")
    return parts


def _cell(value: float, bounds: Mapping[str, float | None], spec: str) -> str:
    if bounds["low"] is None:
        return format(value, spec)
    return f"{value:{spec}} [{bounds['low']:{spec}}, {bounds['high']:{spec}}]"


def _frames(low: int, high: int) -> str:
    ends = [f"{frames / 1e6:.3g}M" for frames in (low, high)]
    return ends[0] if low == high else "-".join(ends)
