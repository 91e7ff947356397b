"""Untrained agents of every shape that is exported, small enough to be exported in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dreamer_nav.agent import Agent
from dreamer_nav.config import Config
from dreamer_nav.presets import load_config
from dreamer_nav.runs import LoadedRun
from dreamer_nav.spaces import ActionSpec, ObsSpec
from dreamer_nav_export.contract import Contract
from dreamer_nav_export.golden import NoiseStream, random_observation
from dreamer_nav_export.graph import PolicyStep
from dreamer_nav_export.task_facts import read_task_facts
from dreamer_nav_export.writer import ExportOptions, make_contract

FAR = float(np.finfo(np.float32).max)
DEPTH = ObsSpec("depth", (64, 64, 1), "float32", 0.1, 10.0)
GOAL = ObsSpec("pointgoal", (2,), "float32", -float(np.float32(np.pi)), FAR)
GRAY = ObsSpec("image", (64, 64, 1), "uint8", 0.0, 255.0)
RGB = ObsSpec("image", (64, 64, 3), "uint8", 0.0, 255.0)
HEIGHT = ObsSpec("height", (1,), "float64")
JOINTS = ObsSpec("joints", (5,), "float32")

BULLET: dict[str, Any] = {"name": "bullet", "tier": "room", "split": "train", "turn_deg": 30}
CASES: dict[str, tuple[dict[str, Any], tuple[ObsSpec, ...], ActionSpec]] = {
    "pointgoal": (BULLET, (DEPTH, GOAL), ActionSpec(True, 4)),
    "pointgoal velocities": (
        {**BULLET, "actions": "continuous", "max_speed_mps": 0.5, "min_speed_mps": -0.1},
        (DEPTH, GOAL),
        ActionSpec(False, 2, (-1.0, -1.0), (1.0, 1.0)),
    ),
    "atari": ({"name": "atari", "game": "pong"}, (GRAY,), ActionSpec(True, 18)),
    "dmc vision": ({"name": "dmc"}, (RGB,), ActionSpec(False, 3, (-1.0,) * 3, (1.0,) * 3)),
    "dmc proprio": (
        {"name": "dmc"},
        (HEIGHT, JOINTS),
        ActionSpec(False, 2, (-2.0, 0.0), (1.0, 5.0)),
    ),
}


def config_of(case: str) -> Config:
    polar = "pointgoal" if case.startswith("pointgoal") else ""
    config = load_config("debug", {"agent.encoder.polar_keys": polar})
    return replace(config, env=dict(CASES[case][0]))


def make_run(case: str, run_dir: Path = Path("nowhere"), **agent: Any) -> LoadedRun:
    """A run as `load_run` returns it; its weights are drawn so wide that every input matters."""
    config = config_of(case)
    config = replace(config, agent=replace(config.agent, **agent))
    _, obs, action = CASES[case]
    made = Agent(obs, action, config.agent, seed=3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1.5)
    return LoadedRun(config, made, 1234, {}, run_dir)


def contract_of(case: str, options: ExportOptions | None = None) -> Contract:
    """The contract, without exporting."""
    run, options = make_run(case), options or ExportOptions()
    facts = read_task_facts(run.config, run.agent.obs, run.agent.action)
    return make_contract(run, PolicyStep(run.agent, options.variant), facts, options)


def frames(contract: Contract, count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    stream = NoiseStream(seed)
    return [
        {o.name: random_observation(o, stream) for o in contract.observations} for _ in range(count)
    ]


def assert_same(left: Any, right: Any) -> None:
    """Two actions are equal to the last bit."""
    np.testing.assert_equal(vars(left), vars(right))
