"""A checkpoint of habitat-baselines' PPO as a policy of our evaluation."""

from __future__ import annotations

import builtins
import importlib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gym import spaces
from habitat.config.default import patch_config
from habitat_baselines.common.baseline_registry import baseline_registry

from dreamer_nav.failures import UsageError
from dreamer_nav.habitat.senses import GPS_COMPASS
from dreamer_nav.habitat.weights import UNREADABLE
from dreamer_nav.rollouts import Rollout

__all__ = ["PPOPolicy", "read_checkpoint"]

# What the configuration that PPO pickles with its weights is made of.
_PACKAGES = ("omegaconf.", "habitat.config.", "habitat_baselines.config.")
_PLAIN = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module, names in (
        (builtins, ("bool", "dict", "float", "int", "list", "str", "tuple")),
        (typing, ("Any", "Dict", "List", "Optional", "Tuple", "Union")),
    )
    for name in names
}
# OmegaConf's cache of resolved values, empty as a plain dict: torch fills no defaultdict.
_CACHE = "collections.defaultdict"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a file of trainer ppo or ddppo: config, state_dict, extra_state.

    Its pickle may make the classes of a configuration and nothing else, so a stranger's file runs no code of its own.

    Raises:
        UsageError: no such file, not of PPO, or one that pickles anything else.
    """
    if not path.is_file():
        raise UsageError(f"there is no checkpoint file {path}")
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([_allowed(path, name) for name in names]):
            content = torch.load(path, map_location="cpu", weights_only=True)
        content["config"].habitat_baselines.rl.policy.main_agent.name, content["state_dict"]
    except UsageError:
        raise
    except UNREADABLE as error:
        raise UsageError(f"{path} is not a checkpoint of habitat-baselines' PPO") from error
    return content


def _allowed(path: Path, name: str) -> Any:
    """What a pickled name stands for, if a configuration may hold it."""
    if name in _PLAIN:
        return _PLAIN[name]
    if name == _CACHE:
        return (_plain_dict, name)
    module, _, attribute = name.rpartition(".")
    if module.startswith(_PACKAGES):
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            found = None
        # A class that the module defines; it may import others.
        if isinstance(found, type) and found.__module__ == module:
            return found
    raise UsageError(
        f"{path} pickles {name}, which no configuration of habitat-baselines holds; it was not opened"
    )


def _plain_dict(default: type) -> dict[Any, Any]:
    return {}


class PPOPolicy:
    """Acts as PPO does in habitat-baselines' evaluator: actions are sampled.

    Args:
        path: a `ckpt.N.pth` of trainer ppo or ddppo.
        seed: of the sampling.

    Raises:
        UsageError: as `read_checkpoint`.
    """

    def __init__(self, path: Path, seed: int = 0) -> None:
        content = read_checkpoint(path)
        self._config, self._weights = content["config"], content["state_dict"]
        self.step = int(content.get("extra_state", {}).get("step", 0))
        self._name = self._config.habitat_baselines.rl.policy.main_agent.name
        self._path = path
        self._policy: Any = None
        torch.manual_seed(seed)  # it samples with torch's own generator

    def act(self, rollouts: Sequence[Rollout]) -> Sequence[int]:
        """One action each; keeps (hidden state, last action) in memory."""
        if self._policy is None:
            self._policy = self._build(rollouts[0])
        policy = self._policy
        for r in rollouts:
            if r.memory is None:
                hidden = torch.zeros(policy.num_recurrent_layers, policy.recurrent_hidden_size)
                r.memory = (hidden, torch.zeros(1, dtype=torch.long))
        seen = [_their_names(r) for r in rollouts]
        batch = {k: torch.from_numpy(np.stack([o[k] for o in seen])) for k in seen[0]}
        hidden, last = (
            torch.stack(parts) for parts in zip(*(r.memory for r in rollouts), strict=True)
        )
        masks = torch.tensor([[r.steps > 0] for r in rollouts])
        with torch.inference_mode():
            data = policy.act(batch, hidden, last, masks, deterministic=False)
        for i, r in enumerate(rollouts):
            r.memory = (data.rnn_hidden_states[i], data.actions[i])
        return [int(action) for action in data.env_actions[:, 0]]

    def _build(self, rollout: Rollout) -> Any:
        seen = {
            name: spaces.Box(-np.inf, np.inf, value.shape, np.float32)
            if value.dtype != np.uint8
            else spaces.Box(0, 255, value.shape, np.uint8)
            for name, value in _their_names(rollout).items()
        }
        actions = spaces.Discrete(int(rollout.env.action_space.n))  # type: ignore[attr-defined]
        policy = baseline_registry.get_policy(self._name).from_config(
            patch_config(self._config), spaces.Dict(seen), actions, orig_action_space=actions
        )
        try:
            policy.load_state_dict(self._weights)
        except RuntimeError as error:
            raise UsageError(
                f"{self._path} was trained on other observations than {', '.join(seen)}, or on other shapes"
            ) from error
        return policy.eval()


def _their_names(rollout: Rollout) -> dict[str, np.ndarray]:
    """Observations under habitat-lab's names."""
    return {GPS_COMPASS if k == "pointgoal" else k: v for k, v in rollout.obs.items()}
