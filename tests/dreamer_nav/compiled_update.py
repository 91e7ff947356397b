"""Compares compiled and eager updates; run by test_compile in a process of its own.

The suite's shape checks wrap every function of the package, and torch.compile cannot trace through them.
Usage: compiled_update.py BACKEND discrete|continuous; prints one JSON object.
"""

from __future__ import annotations

import json
import sys

import torch
from torch._dynamo.utils import counters

from dreamer_nav.agent import Agent
from dreamer_nav.config import AgentConfig, EncoderConfig, HeadConfig, RSSMConfig
from dreamer_nav.spaces import ActionSpec, ObsSpec

CONFIG = AgentConfig(
    rssm=RSSMConfig(deter=4, hidden=4, stoch=2, classes=3),
    encoder=EncoderConfig(cnn_depth=2, mlp_layers=1, mlp_units=4),
    head=HeadConfig(layers=1, units=4),
    horizon=2,
    slow_critic_every_updates=2,
)
VECTOR = ObsSpec("sensors", (3,), "float32")
IMAGE = ObsSpec("image", (64, 64, 1), "uint8", 0.0, 255.0)
ACTIONS = {
    "discrete": ActionSpec(True, 3),
    "continuous": ActionSpec(False, 2, (-1.0, -1.0), (1.0, 1.0)),
}


def _compile_whole(agent: Agent, backend: str) -> None:
    """As `Agent.compile_update`, but a graph break is an error."""

    def whole(function: object) -> object:
        return torch.compile(function, backend=backend, fullgraph=True)  # type: ignore[call-overload]

    agent._model_loss = whole(agent._model_loss)  # type: ignore[assignment, method-assign]
    agent._behavior_loss = whole(agent._behavior_loss)  # type: ignore[assignment, method-assign]
    for optimizer in (agent.model_opt, agent.actor_opt, agent.critic_opt):
        optimizer.step = whole(optimizer.step)  # type: ignore[assignment, method-assign]


def _batch(agent: Agent, batch: int = 2, length: int = 2) -> dict[str, torch.Tensor]:
    size = agent.action.size
    action = torch.eye(size)[torch.randint(size, (batch, length))]
    return {
        "sensors": torch.rand(batch, length, 3),
        "image": torch.randint(0, 256, (batch, length, 64, 64, 1), dtype=torch.uint8),
        "action": action if agent.action.discrete else torch.rand(batch, length, size) - 0.5,
        "reward": torch.randn(batch, length),
        "is_first": torch.rand(batch, length) < 0.3,
        "is_terminal": torch.rand(batch, length) < 0.3,
    }


def compare(backend: str, kind: str, updates: int = 3) -> dict[str, object]:
    """Largest differences over some updates, and the graphs captured after the first and the last."""
    obs = (VECTOR,) if backend == "inductor" else (VECTOR, IMAGE)
    eager = Agent(obs, ACTIONS[kind], CONFIG)
    whole = backend == "inductor" and kind == "discrete"
    compiled = Agent(obs, ACTIONS[kind], CONFIG, compile=whole)
    if backend == "inductor" and not whole:
        # Only what continuous actions change: compiling the rest again would take minutes.
        compiled._behavior_loss = torch.compile(  # type: ignore[method-assign]
            compiled._behavior_loss, fullgraph=True
        )
    elif not whole:
        _compile_whole(compiled, backend)
    start = [p.detach().clone() for p in eager.parameters()]
    differences, graphs = [], []
    for _ in range(updates):
        batch = _batch(eager)
        expected, got = eager.train_step(batch), compiled.train_step(batch)
        for key, value in expected.items():
            differences.append(((got[key] - value).abs() / (1 + value.abs())).item())
        graphs.append(counters["stats"]["unique_graphs"])

    def largest(left: list[torch.Tensor], right: list[torch.Tensor]) -> float:
        return max((p - q).abs().max().item() for p, q in zip(left, right, strict=True))

    weights = [p.detach() for p in eager.parameters()]
    return {
        "metrics_difference": max(differences),
        "weights_difference": largest([p.detach() for p in compiled.parameters()], weights),
        "weights_moved": largest(start, weights),
        "slow_critic_difference": largest(
            [p.detach() for p in compiled.behavior.slow_critic.parameters()],
            [p.detach() for p in eager.behavior.slow_critic.parameters()],
        ),
        "graphs": graphs,
    }


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(json.dumps(compare(sys.argv[1], sys.argv[2])))
