"""One environment in a worker process, possibly under another Python, as a Gymnasium environment."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import gymnasium
import numpy as np

from sim_adapters.remote import EnvSpec, RemoteError, WorkerError
from sim_adapters.vector import VectorEnv


class WorkerEnv(gymnasium.Env):
    """What evaluation plays in where this Python cannot run the simulator.

    Args:
        spec: the environment.
        step_timeout_s: a worker silent for so long has failed.

    Attributes:
        episode_count: how many episodes its list has; None if it draws them without end.

    Raises:
        EnvStartError: it cannot be built; one line.
    """

    def __init__(self, spec: EnvSpec, step_timeout_s: float = 60.0) -> None:
        self._vector = VectorEnv([spec], step_timeout_s=step_timeout_s)
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self.episode_count: Optional[int] = self._count()

    def _count(self) -> Optional[int]:
        try:
            count = self._vector.call_at(0, "episode_count")
        except RemoteError:  # it has no such attribute: an environment of another kind
            return None
        return None if count is None else int(count)

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[Any, Dict[str, Any]]:
        """Start an episode; see the environment itself."""
        observation, infos = self._vector.reset(seed=[seed], options=options)
        return _first(observation), infos["envs"][0]

    def step(self, action: Any) -> Tuple[Any, float, bool, bool, Dict[str, Any]]:
        """Take one action.

        Raises:
            WorkerError: the worker died or hung: the episode has no measures.
        """
        batch = np.asarray(action, self.action_space.dtype)[None]
        observation, rewards, ends, cuts, infos = self._vector.step(batch)
        info = infos["envs"][0]
        if "worker_failed" in info:
            raise WorkerError(f"the simulator failed in the evaluation: {info['worker_failed']}")
        return _first(observation), float(rewards[0]), bool(ends[0]), bool(cuts[0]), info

    def close(self) -> None:
        """End the worker; a second call does nothing."""
        self._vector.close()


def _first(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {key: _first(part) for key, part in batch.items()}
    return batch[0]
