"""What a run's folder says of it, read without its agent: settings, metrics, evaluations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dreamer_nav.config import Config
from dreamer_nav.failures import UsageError
from dreamer_nav.presets import load_yaml

__all__ = ["Curve", "read_config", "read_curve", "read_evaluations"]


class Curve(NamedTuple):
    """A metric against agent steps, both (n,)."""

    steps: np.ndarray
    values: np.ndarray


def read_config(run_dir: Path) -> Config:
    """The run's resolved settings.

    Raises:
        UsageError: the folder holds none.
        ConfigError: it holds settings that this version doesn't know.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise UsageError(f"{run_dir} is no run: it has no config.yaml; name a run's folder.")
    return load_yaml(path)


def read_curve(run_dir: Path, metric: str) -> Curve:
    """A metric's values in a run's metrics.jsonl; empty where it never has it.

    Raises:
        UsageError: the run has no metrics.
    """
    path = run_dir / "metrics.jsonl"
    if not path.is_file():
        raise UsageError(f"{run_dir} is no run: it has no metrics.jsonl.")
    points = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # the torn last line of a run that is being written
        if line.get(metric) is not None:
            points.append((line["step"], line[metric]))
    array = np.array(points, np.float64).reshape(-1, 2)
    return Curve(array[:, 0], array[:, 1])


def read_evaluations(run_dir: Path) -> list[dict[str, Any]]:
    """What `dreamer-nav eval` wrote of the run, the newest step first.

    Of several sets at one step, the one with the shortest name first: the run's own before others.
    """
    reports = [(path, json.loads(path.read_text())) for path in run_dir.glob("eval/*.json")]
    reports.sort(key=lambda pair: (-pair[1]["step"], len(pair[0].name), pair[0].name))
    return [report for _, report in reports]
