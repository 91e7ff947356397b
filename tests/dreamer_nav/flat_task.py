"""PointGoal on a plane with a wall, quick enough to evaluate in, and agents for it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from dreamer_nav.agent import Agent
from dreamer_nav.config import Config
from dreamer_nav.presets import load_config
from dreamer_nav.runs import build_agent, build_env, describe_spaces
from dreamer_nav.train import Trainer
from sim_adapters.episodes import Episode, load_episodes
from sim_adapters.pointgoal import FixedEpisodes, PointGoalEnv
from tests.sim_adapters.flatland import Flatland, SampledEpisodes, episode

ENTRY = "tests.dreamer_nav.flat_task:FlatTask"
BLOCKED = (1, 4)
"""Episodes of `val_episodes` whose goal is behind the wall, seen from the start."""


def val_episodes(count: int = 7) -> list[Episode]:
    """Goals around the start, some of them behind the wall."""
    episodes = []
    for i in range(count):
        angle = 2.0 * math.pi * i / count
        goal = (1.0 + 0.8 * math.cos(angle), 1.0 + 0.8 * math.sin(angle))
        goal = (3.0, 1.0 + 0.1 * i) if i in BLOCKED else goal
        episodes.append(episode(goal, heading=0.3 * i, scene="gap", name=f"flat-{i}"))
    return episodes


class FlatTask(PointGoalEnv):
    """Split "train" samples, "val" has 7 fixed episodes; `episodes` names a file to use instead."""

    made = 0
    closed = 0

    def __init__(
        self,
        *,
        split: str = "train",
        episodes: str = "",
        max_steps: int = 40,
        continuous: bool = False,
    ) -> None:
        if split not in ("train", "val"):
            raise ValueError(f"split must be train or val, got {split!r}")
        fixed = load_episodes(episodes) if episodes else val_episodes()
        sampled = split == "train" and not episodes
        source = SampledEpisodes() if sampled else FixedEpisodes(fixed)
        actions = "continuous" if continuous else "discrete"
        super().__init__(Flatland(), source, actions=actions, max_steps=max_steps)
        FlatTask.made += 1

    def close(self) -> None:
        FlatTask.closed += 1
        super().close()


class MappedFlatTask(FlatTask):
    """Its simulator offers a map: white floor, black left of x = 1."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.simulator.top_down = top_down  # type: ignore[attr-defined]


def top_down(size: int) -> tuple[np.ndarray, tuple[float, float], float]:
    picture = np.full((size, size, 3), 255, np.uint8)
    picture[:, : size // 5] = 0
    return picture, (0.0, 0.0), size / 5.0


def flat_config(**env: Any) -> Config:
    """Tiny networks that read the goal alone; evaluated on split "val"."""
    settings: dict[str, Any] = {
        "env.name": "flat",
        "agent.encoder.image_keys": "",
        "agent.encoder.polar_keys": "pointgoal",
        "train.num_envs": 1,
        "train.env_processes": False,
        "eval.env": {"split": "val"},
        "eval.episodes": 100,
    }
    settings |= {f"env.{key}": value for key, value in env.items()}
    return load_config("debug", settings)


def agent_for(config: Config) -> Agent:
    """An untrained agent for the configuration's environment."""
    env = build_env(config)
    spaces = env.observation_space, env.action_space
    env.close()
    return build_agent(config, *describe_spaces(*spaces, config))


def save_run(config: Config, run_dir: Path) -> Path:
    """The folder of a run that has not trained, with its checkpoint."""
    trainer = Trainer(config, run_dir)
    trainer.save()
    trainer.close()
    return run_dir
