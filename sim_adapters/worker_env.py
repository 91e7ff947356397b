"""One environment in a worker process, possibly under another Python, as a Gymnasium environment."""

from __future__ import annotations

import contextlib
import functools
from typing import Any, Callable, Dict, Optional, Tuple

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

    def stop_rendering(self) -> None:
        """Give no pictures from now on, if the environment can."""
        with contextlib.suppress(RemoteError):  # it has no such method
            self._vector.call_at(0, "stop_rendering")

    def reference_policies(self) -> Dict[str, Callable[[gymnasium.Env], Any]]:
        """The baselines that the worker can play, by name: what makes a policy for a `WorkerEnv`."""
        names = self._vector.baselines_at(0)
        return {name: functools.partial(_WorkerBaseline, name=name) for name in names}

    def baseline_action(self, name: str, observation: Any, is_first: bool) -> Any:
        """The action of baseline `name`, chosen in the worker; see `VectorEnv.act_at`."""
        return self._vector.act_at(0, name, observation, is_first)

    def close(self) -> None:
        """End the worker; a second call does nothing."""
        self._vector.close()


class _WorkerBaseline:
    """A baseline that chooses in the worker, where its simulator is."""

    def __init__(self, env: gymnasium.Env, name: str) -> None:
        self._env: Any = env.unwrapped
        self._name = name
        self._is_first = True

    def reset(self) -> None:
        """Begin an episode."""
        self._is_first = True

    def act(self, observation: Dict[str, np.ndarray]) -> Any:
        """Return the action; pictures stay here, for no baseline looks at them."""
        vectors = {k: v for k, v in observation.items() if v.ndim < 2}
        action = self._env.baseline_action(self._name, vectors, self._is_first)
        self._is_first = False
        return action


def _first(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {key: _first(part) for key, part in batch.items()}
    return batch[0]
