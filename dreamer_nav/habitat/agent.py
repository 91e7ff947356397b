"""Our agent as a `habitat.Agent`, which `habitat.Benchmark` and the challenges call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import habitat
import numpy as np
import torch

from dreamer_nav.habitat.senses import Senses
from dreamer_nav.habitat.weights import open_agent
from dreamer_nav.runs import to_tensors

__all__ = ["DreamerAgent"]


class DreamerAgent(habitat.Agent):
    """Acts on the observations of one environment of habitat-lab.

    Args:
        path: a `ckpt.N.pth`, or a run of `dreamer-nav train`.
        device: where it computes.
        seed: of its random draws.
        sample_actions: sample the actions instead of taking their mode; None as the run's `eval.sample_actions`.

    Raises:
        FileNotFoundError, CheckpointError: there is no agent at the path.
    """

    def __init__(
        self,
        path: str | Path,
        device: str = "cpu",
        seed: int = 0,
        sample_actions: bool | None = None,
    ) -> None:
        saved = open_agent(Path(path), device)
        self._agent = saved.agent
        self._senses = Senses(saved.agent.obs, int(saved.config.env.get("resize", 0)))
        sample = saved.config.eval.sample_actions if sample_actions is None else sample_actions
        self._mode: Literal["sample", "mode"] = "sample" if sample else "mode"
        self._generator = torch.Generator().manual_seed(seed)
        self.reset()

    def reset(self) -> None:
        """Begin an episode: forget the last one."""
        self._state, self._is_first = self._agent.initial(1), True

    def act(self, observations: Mapping[str, Any]) -> dict[str, Any]:
        """The next action, `{"action": index}` or the velocity control's `{"action": name, "action_args": ...}`.

        Raises:
            UsageError: a sensor of the agent is missing or of another shape.
        """
        agent = self._agent
        seen = {name: value[None] for name, value in self._senses.read(observations).items()}
        obs = to_tensors(seen, agent.obs, np.array([self._is_first]), agent.device)
        noise = agent.draw_policy_noise(1, self._generator)
        action, self._state = agent.policy(obs, self._state, self._mode, noise)
        self._is_first = False
        (chosen,) = agent.action.to_env(action.cpu().numpy())
        if agent.action.discrete:
            return {"action": int(chosen)}
        linear, angular = (float(x) for x in chosen)
        arguments = {"linear_velocity": linear, "angular_velocity": angular}
        return {"action": "velocity_control", "action_args": arguments}
