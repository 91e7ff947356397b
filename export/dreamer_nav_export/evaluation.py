"""A policy file as the evaluation takes policies: the benchmark played by the runtime alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamer_nav.evaluate import Subject
from dreamer_nav.presets import from_dict
from dreamer_nav.rollouts import Rollout
from dreamer_nav.spaces import ActionSpec, ObsSpec
from dreamer_nav_export.errors import ContractError
from dreamer_nav_export.runtime import Policy

__all__ = ["FilePolicy", "file_subject"]


class FilePolicy:
    """Plays every rollout with a runtime of its own, seeded by the episode.

    The noise is the one that the checkpoint's evaluation draws, so that the episodes are the same but for rounding.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def act(self, rollouts: Sequence[Rollout]) -> Sequence[Any]:
        """One action for each rollout."""
        return [self._act(r) for r in rollouts]

    def _act(self, rollout: Rollout) -> Any:
        if rollout.memory is None:
            rollout.memory = self._policy.fork(rollout.seed)
        observations = {
            o.name: np.asarray(rollout.obs[o.name], o.dtype).reshape(o.shape)
            for o in self._policy.spec.observations
        }
        action = rollout.memory.act(observations)
        return action.values if action.index is None else action.index


def file_subject(path: Path, name: str = "dreamer") -> Subject:
    """A policy file for `evaluate_policy`, in the environment that its contract names.

    Raises:
        PolicyFileError: it cannot be loaded.
        ContractError: its provenance is not one of this version of dreamer-nav.
    """
    policy = Policy.load(path)
    origin = policy.spec.provenance
    try:
        config = from_dict(origin.config)
        obs = tuple(ObsSpec.from_json(o) for o in origin.spaces["obs"])
        action = ActionSpec.from_json(origin.spaces["action"])
    except (KeyError, TypeError, ValueError) as error:
        raise ContractError(
            f"{path}: the configuration in its contract is not one of this version: {error}"
        ) from error
    return Subject(
        policy=FilePolicy(policy),
        config=config,
        obs=obs,
        action=action,
        step=origin.steps,
        title=f"{path} ({origin.steps:,} steps, variant {policy.spec.variant.name})",
        origin={"policy": str(path), "weights_sha256": origin.weights_sha256},
        sample_actions=policy.spec.variant.actions == "sample",
        name=name,
    )
