"""Our agent as a `Policy` of habitat-baselines, so that its own evaluator runs it. It does not train this way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from habitat_baselines.common.baseline_registry import baseline_registry
from habitat_baselines.rl.ppo.policy import Policy, PolicyActionData
from torch import Tensor, nn

from dreamer_nav.agent import PolicyState
from dreamer_nav.failures import UsageError
from dreamer_nav.habitat.failures import user_errors
from dreamer_nav.habitat.senses import Senses
from dreamer_nav.habitat.settings import device_of
from dreamer_nav.habitat.weights import SavedAgent, list_agents, load_agent
from dreamer_nav.rssm import State
from dreamer_nav.runs import to_tensors

__all__ = ["DreamerPolicy"]


@baseline_registry.register_policy(name="DreamerPolicy")
class DreamerPolicy(nn.Module, Policy):
    """The agent of `eval_ckpt_path_dir`; its latent state and last action are the recurrent hidden state.

    Args:
        saved: the agent; all checkpoints that are loaded later have its networks.
        action_space: of the environment.
    """

    def __init__(self, saved: SavedAgent, action_space: Any) -> None:
        nn.Module.__init__(self)
        Policy.__init__(self, action_space)
        self.agent = saved.agent
        self._senses = Senses(saved.agent.obs, int(saved.config.env.get("resize", 0)))
        initial = saved.agent.initial(1)
        self._shapes = [x.shape[1:] for x in (*initial.latent, initial.action)]

    @classmethod
    def from_config(
        cls, config: Any, observation_space: Any, action_space: Any, **_: Any
    ) -> DreamerPolicy:
        """Read the agent of `habitat_baselines.eval_ckpt_path_dir`, a file or a folder."""
        with user_errors():
            if not config.habitat_baselines.evaluate:
                raise UsageError(
                    "DreamerPolicy is for habitat_baselines.evaluate=True; trainer_name=dreamer trains it"
                )
            path = Path(config.habitat_baselines.eval_ckpt_path_dir)
            files = [path] if not path.is_dir() else [file for _, file in list_agents(path)]
            if not files:
                raise UsageError(f"{path} holds no ckpt.N.pth")
            saved = load_agent(files[0], device_of(config))
            if saved.agent.action.discrete != hasattr(action_space, "n"):
                raise UsageError(
                    f"the agent gives {saved.agent.action}; the task takes {action_space}"
                )
        return cls(saved, action_space)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> None:
        """Take the agent of a checkpoint's "state_dict", all of it."""
        self.agent.load_weights(state_dict)

    @property
    def hidden_state_shape(self) -> tuple[int, ...]:
        """Of one environment's hidden state: everything in one vector."""
        return (sum(shape.numel() for shape in self._shapes),)

    @property
    def hidden_state_shape_lens(self) -> list[int]:
        """As one agent."""
        return list(self.hidden_state_shape)

    def act(
        self,
        observations: Any,
        rnn_hidden_states: Tensor,
        prev_actions: Tensor,
        masks: Tensor,
        deterministic: bool = False,
        **_: Any,
    ) -> PolicyActionData:
        """Actions (N, 1) or (N, A) and the next hidden states (N, S).

        Args:
            observations: of N environments.
            rnn_hidden_states: (N, S), as returned before.
            prev_actions: not read: the hidden state has them.
            masks: (N, 1), False where an episode begins.
            deterministic: take the likeliest action; habitat-baselines' evaluator samples.
        """
        agent = self.agent
        is_first = ~masks.bool().reshape(-1)
        seen = self._senses.read(observations)
        obs = to_tensors(seen, agent.obs, is_first.cpu().numpy(), agent.device)
        state = self._unpack(rnn_hidden_states)
        action, state = agent.policy(obs, state, "mode" if deterministic else "sample")
        chosen = torch.from_numpy(agent.action.to_env(action.cpu().numpy())).to(agent.device)
        return PolicyActionData(
            actions=chosen.reshape(len(chosen), -1), rnn_hidden_states=self._pack(state)
        )

    def _pack(self, state: PolicyState) -> Tensor:
        return torch.cat([x.flatten(1) for x in (*state.latent, state.action)], 1)

    def _unpack(self, hidden: Tensor) -> PolicyState:
        parts = hidden.split([shape.numel() for shape in self._shapes], 1)
        *latent, action = (
            part.reshape(-1, *shape) for part, shape in zip(parts, self._shapes, strict=True)
        )
        return PolicyState(State(*latent), action)
