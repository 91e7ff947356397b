"""Tiny agents and batches, and the numbers computed by the original TensorFlow code."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dreamer_nav.agent import Agent
from dreamer_nav.config import AgentConfig, EncoderConfig, HeadConfig, RSSMConfig
from dreamer_nav.spaces import ActionSpec, ObsSpec

MakeConfig = Callable[..., AgentConfig]
MakeAgent = Callable[..., Agent]
MakeBatch = Callable[..., dict[str, Tensor]]

IMAGE = ObsSpec("image", (64, 64, 1), "uint8", 0.0, 255.0)
VECTOR = ObsSpec("sensors", (3,), "float32")
DISCRETE = ActionSpec(True, 4)
CONTINUOUS = ActionSpec(False, 2, (-1.0, -1.0), (1.0, 1.0))


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """Figures read off the original modules under TensorFlow 2.15 (float32)."""
    path = Path(__file__).parents[1] / "golden" / "dreamerv2.json"
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


@pytest.fixture(scope="session")
def tiny_config() -> MakeConfig:
    """A configuration small enough for a test to run an update in milliseconds."""

    def make(**changes: Any) -> AgentConfig:
        config = AgentConfig(
            rssm=RSSMConfig(deter=8, hidden=10, stoch=3, classes=4),
            encoder=EncoderConfig(cnn_depth=2, mlp_layers=1, mlp_units=6),
            head=HeadConfig(layers=2, units=7),
            horizon=5,
        )
        return replace(config, **changes)

    return make


@pytest.fixture(scope="session")
def tiny_agent(tiny_config: MakeConfig) -> MakeAgent:
    """Agents of that size; vectors only unless told otherwise."""

    def make(
        obs: Sequence[ObsSpec] = (VECTOR,),
        action: ActionSpec = DISCRETE,
        seed: int = 0,
        compile: bool = False,
        **changes: Any,
    ) -> Agent:
        return Agent(obs, action, tiny_config(**changes), seed=seed, compile=compile)

    return make


@pytest.fixture(scope="session")
def make_batch() -> MakeBatch:
    """Random replay batches (B, T) for an agent; the same seed gives the same batch."""

    def make(agent: Agent, batch: int = 2, length: int = 4, seed: int = 1) -> dict[str, Tensor]:
        g = torch.Generator().manual_seed(seed)
        out = {}
        for spec in agent.obs:
            shape = (batch, length, *spec.shape)
            if spec.dtype == "uint8":
                out[spec.name] = torch.randint(0, 256, shape, generator=g, dtype=torch.uint8)
            else:
                out[spec.name] = torch.rand(shape, generator=g)
        size = agent.action.size
        if agent.action.discrete:
            index = torch.randint(0, size, (batch, length), generator=g)
            out["action"] = torch.eye(size)[index]
        else:
            out["action"] = torch.rand((batch, length, size), generator=g) * 2 - 1
        out["reward"] = torch.randn((batch, length), generator=g)
        out["is_first"] = torch.zeros((batch, length), dtype=torch.bool)
        out["is_first"][:, 0] = True
        out["is_terminal"] = torch.rand((batch, length), generator=g) < 0.2
        return out

    return make
