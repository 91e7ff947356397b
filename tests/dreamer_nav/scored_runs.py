"""Folders of Atari and DeepMind Control runs that look as if they had been trained and evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym

from dreamer_nav.config import Config
from dreamer_nav.presets import load_config, save_yaml
from dreamer_nav.run_scores import evaluated_env
from sim_adapters import registry
from sim_adapters.registry import Entry

# An environment "dmc" for the registry whose tasks are, for all it matters here, this one.
DMC_ENTRY = Entry("tests.dreamer_nav.scored_runs:make_task", "pip install it", "", ())


def make_task(task: str, action_repeat: int) -> gym.Env:
    """The dummy's point task, whatever task is asked for."""
    return registry.make("dummy", task="point", image=False, vector=True)


def make_game(game: str) -> gym.Env:
    """The same under Atari's option."""
    return make_task(game, 4)


def write_run(
    folder: Path,
    preset: str = "atari",
    training: dict[int, float] | None = None,
    **settings: Any,
) -> Path:
    """A run with its settings (`env__game="pong"` for env.game) and evaluations while training."""
    folder.mkdir(parents=True)
    changes = {name.replace("__", "."): value for name, value in settings.items()}
    save_yaml(load_config(preset, changes), folder / "config.yaml")
    lines: list[dict[str, Any]] = [{"step": 100, "loss/model": 3.0}]
    for step, value in (training or {}).items():
        lines.append({"step": step, "episode/return": value - 1.0})
        lines.append({"step": step, "eval/return": value, "eval/steps": 9.0})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    return folder


def write_evaluation(
    run: Path, config: Config, step: int, mean: float, name: str = "atari", **env: Any
) -> None:
    """What `dreamer-nav eval` leaves of 50 episodes, the interval one either side."""
    figures = {"mean": mean, "low": mean - 1.0, "high": mean + 1.0, "n": 50}
    evaluation = {
        "step": step,
        "env": {**evaluated_env(config), **env},
        "policies": {"dreamer": {"return": figures}},
    }
    (run / "eval").mkdir(exist_ok=True)
    (run / "eval" / f"{name}-{step:09d}.json").write_text(json.dumps(evaluation))
