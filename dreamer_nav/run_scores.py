"""Scores of runs of the suites that DreamerV2's are published of: which task, how far, what return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamer_nav.config import Config
from dreamer_nav.failures import UsageError
from dreamer_nav.published import SUITES, curves, find_task
from dreamer_nav.run_records import read_config, read_curve, read_evaluations
from dreamer_nav.settings import nearest

__all__ = [
    "PublishedTask",
    "RunScore",
    "evaluated_env",
    "own_evaluations",
    "published_task",
    "read_score",
    "read_task",
    "score_of",
]


@dataclass(frozen=True)
class PublishedTask:
    """A task that DreamerV2's curves are published of, as an environment has it.

    `changes` are its settings that the published runs did not have.
    """

    suite: str
    task: str
    action_repeat: int
    changes: str = ""


@dataclass(frozen=True)
class RunScore:
    """The newest evaluation of a run: the mean return over `episodes`, after `frames`.

    `low` and `high` are its 95% interval over episodes where `dreamer-nav eval` made one.
    """

    run: str
    suite: str
    task: str
    seed: int
    step: int
    frames: int
    mean: float
    low: float | None
    high: float | None
    episodes: int
    source: str
    changes: str
    """See `PublishedTask`."""


def published_task(env: Mapping[str, Any]) -> PublishedTask:
    """Which published task the environment's settings name.

    Raises:
        UsageError: none; the message completes "RUN ...".
    """
    name = env.get("name")
    if name not in SUITES:
        raise UsageError(f"is a run of {name}; published scores are of {' and '.join(SUITES)} only")
    suite = SUITES[name]
    wanted = str(env.get(suite.task_option))
    task = find_task(name, wanted)
    if task is None:
        close = nearest(wanted, curves(name))
        hint = f"did you mean {close}? " if close else ""
        known = ", ".join(curves(name))
        raise UsageError(f"plays {wanted}, of which no score is published; {hint}Known: {known}")
    repeat = int(env.get("action_repeat", suite.action_repeat))
    named = {key: env[key] for key in ("name", suite.task_option)}
    standard = {**suite.settings, **named, "action_repeat": repeat}
    changed = [key for key in sorted(env) if key not in standard or env[key] != standard[key]]
    changes = ", ".join(f"{key}={env[key]}" for key in changed)
    return PublishedTask(name, task, repeat, changes)


def read_score(run_dir: Path) -> RunScore:
    """The run's newest evaluation, by `dreamer-nav eval` or while it trained.

    At the same step the former counts, which has more episodes. Evaluations in an environment with
    other settings than the run's are left out.

    Raises:
        UsageError: no run, none of a published task, or not evaluated yet.
    """
    config, task = read_task(run_dir)
    own = own_evaluations(run_dir, config)
    training = read_curve(run_dir, "eval/return")
    last = int(training.steps[-1]) if len(training.steps) else -1
    if own and own[0]["step"] >= last:
        return score_of(run_dir, config.seed, task, own[0])
    if last < 0:
        raise UsageError(f"{run_dir} has no evaluation yet; make one: dreamer-nav eval {run_dir}")
    figures = {"mean": float(training.values[-1]), "n": config.train.eval_episodes}
    return _score(run_dir, config.seed, task, last, figures, "evaluation during training")


def read_task(run_dir: Path) -> tuple[Config, PublishedTask]:
    """The run's settings, and the published task that it is evaluated on.

    Raises:
        UsageError: no run, or none of a published task.
    """
    config = read_config(run_dir)
    try:
        return config, published_task(evaluated_env(config))
    except UsageError as error:
        raise UsageError(f"{run_dir} {error}") from error


def own_evaluations(run_dir: Path, config: Config) -> list[dict[str, Any]]:
    """What `dreamer-nav eval` wrote of the run in its own environment, the newest step first."""
    return [e for e in read_evaluations(run_dir) if e["env"] == evaluated_env(config)]


def evaluated_env(config: Config) -> dict[str, Any]:
    """The settings of the environment that the run's own evaluations are played in."""
    return {**config.env, **config.eval.env}


def score_of(
    run_dir: Path, seed: int, task: PublishedTask, evaluation: Mapping[str, Any]
) -> RunScore:
    """The score in what `dreamer-nav eval` wrote of a run of this seed."""
    figures = evaluation["policies"]["dreamer"]["return"]
    return _score(run_dir, seed, task, evaluation["step"], figures, "dreamer-nav eval")


def _score(
    run_dir: Path,
    seed: int,
    task: PublishedTask,
    step: int,
    figures: Mapping[str, Any],
    source: str,
) -> RunScore:
    return RunScore(
        run=str(run_dir),
        suite=task.suite,
        task=task.task,
        seed=seed,
        step=step,
        frames=step * task.action_repeat,
        mean=float(figures["mean"]),
        low=figures.get("low"),
        high=figures.get("high"),
        episodes=int(figures["n"]),
        source=source,
        changes=task.changes,
    )
