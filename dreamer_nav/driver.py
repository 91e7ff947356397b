"""Steps a vector of environments with a policy and writes what happens to replay.

Every episode starts from a seed of its own, a function of the run's seed, the environment's number and the
episode's. A checkpoint therefore needs only the actions of the unfinished episodes: resuming replays them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dreamer_nav.spaces import ActionSpec, ObsSpec

__all__ = ["Driver"]

Rows = dict[str, np.ndarray]


class Driver:
    """Owns the environments' current observations and episode bookkeeping.

    `on_rows(rows, env_ids)` receives every row for replay; `on_episode(info)` the last info of each finished
    episode with its return and length.
    """

    def __init__(
        self,
        envs: Any,
        obs: Sequence[ObsSpec],
        action: ActionSpec,
        seed: int,
        on_rows: Callable[[Rows, np.ndarray], None],
        on_episode: Callable[[dict[str, Any]], None],
    ) -> None:
        self.envs, self.obs_specs, self.action_spec, self.seed = envs, tuple(obs), action, seed
        self.on_rows, self.on_episode = on_rows, on_episode
        self.num = int(envs.num_envs)
        self.episodes = np.zeros(self.num, np.int64)
        self.returns = np.zeros(self.num)
        self.history: list[list[list[float]]] = [[] for _ in range(self.num)]
        self.is_first = np.ones(self.num, bool)
        self.obs: Rows = {}

    def start(self) -> None:
        """Reset every environment and write the first rows."""
        self._reset(np.ones(self.num, bool))

    def _episode_seed(self, env: int) -> int:
        entropy = [self.seed, env, int(self.episodes[env])]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def _reset_envs(self, mask: np.ndarray) -> None:
        if not mask.any():
            return
        seeds = [self._episode_seed(i) if mask[i] else None for i in range(self.num)]
        obs, _ = self.envs.reset(seed=seeds, options={"reset_mask": mask})
        self._keep(obs)
        self.is_first = np.where(mask, True, self.is_first)

    def _reset(self, mask: np.ndarray) -> None:
        self._reset_envs(mask)
        ids = np.flatnonzero(mask)
        self.returns[ids] = 0.0
        for i in ids:
            self.history[i] = []
        zeros = np.zeros(len(ids), np.float32)
        action = np.zeros((len(ids), self.action_spec.size), np.float32)
        self._write(ids, action, zeros, *(np.full(len(ids), x) for x in (True, False, False)))

    def _keep(self, obs: Rows) -> None:
        # The vector hands out copies, so these may be kept.
        self.obs = {
            s.name: np.asarray(obs[s.name]).reshape(self.num, *s.shape) for s in self.obs_specs
        }

    def _write(
        self, ids: np.ndarray, action: np.ndarray, reward: np.ndarray, *flags: np.ndarray
    ) -> None:
        rows = {k: v[ids] for k, v in self.obs.items()}
        rows |= {"action": action, "reward": reward.astype(np.float32)}
        rows |= dict(zip(("is_first", "is_last", "is_terminal"), flags, strict=True))
        self.on_rows(rows, ids)

    def send(self, action: np.ndarray) -> None:
        """Begin a step of every environment with agent actions (N, A)."""
        self._action = np.asarray(action, np.float32)
        self.envs.step_async(self.action_spec.to_env(self._action))

    def receive(self) -> int:
        """Finish the step: rows to replay, ended episodes reset. Returns the agent steps made."""
        obs, reward, terminated, truncated, infos = self.envs.step_wait()
        self._keep(obs)
        self.is_first = np.zeros(self.num, bool)
        self.returns += reward
        for i in range(self.num):
            self.history[i].append(self._action[i].tolist())
        done = terminated | truncated
        self._write(np.arange(self.num), self._action, reward, self.is_first, done, terminated)
        for ended in np.flatnonzero(done).tolist():
            self._finish(ended, infos["envs"][ended])
        if done.any():
            self._reset(done)
        return self.num

    def _finish(self, env: int, info: dict[str, Any]) -> None:
        length = len(self.history[env])
        self.on_episode({**info, "return": float(self.returns[env]), "length": length})
        self.episodes[env] += 1

    def state_dict(self) -> dict[str, Any]:
        """JSON-able: episode counts, returns and actions of the unfinished episodes."""
        return {
            "episodes": self.episodes.tolist(),
            "returns": self.returns.tolist(),
            "history": [list(h) for h in self.history],
            "is_first": self.is_first.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Bring the environments back to where a checkpoint left them, by replaying their actions."""
        self.episodes = np.array(state["episodes"], np.int64)
        self.history = [list(h) for h in state["history"]]
        lengths = np.array([len(h) for h in self.history])
        # All end together: one with fewer actions idles, and starts its episode afresh when its turn comes.
        wait = lengths.max() - lengths
        self._reset_envs(np.ones(self.num, bool))
        for t in range(lengths.max()):
            self._replay_step(t, wait)
            self._reset_envs(wait == t + 1)
        self.returns = np.array(state["returns"])
        self.is_first = np.array(state["is_first"])

    def _replay_step(self, t: int, wait: np.ndarray) -> None:
        """Step each environment with its next recorded action, or any action while it waits."""
        idle = np.eye(self.action_spec.size)[0].tolist()
        replayed = zip(self.history, wait.tolist(), strict=True)
        actions = [history[t - begin] if t >= begin else idle for history, begin in replayed]
        self.envs.step_async(self.action_spec.to_env(np.array(actions, np.float32)))
        obs, _, terminated, truncated, _ = self.envs.step_wait()
        self._keep(obs)
        self._reset_envs(terminated | truncated)  # only those that idle end
