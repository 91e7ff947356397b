"""Several environments stepped together, each in a process of its own, which may run another
Python.

A worker that crashes, is killed, hangs or exits costs one episode: it is restarted, and the step
that lost it is answered with the environment's last observation, reward 0 and `truncated`.
"""

from __future__ import annotations

import collections
import logging
import time
from typing import Any, Deque, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, create_empty_array, iterate

from sim_adapters import wire
from sim_adapters.local import LocalEnv
from sim_adapters.remote import EnvSpec, EnvStartError, RemoteEnv, RemoteError, WorkerError

__all__ = ["EnvSpec", "EnvStartError", "RemoteError", "VectorEnv", "WorkerError", "WorkerFailed"]

_log = logging.getLogger(__name__)

Seeds = Union[int, Sequence[Optional[int]], None]
StepResult = Tuple[Any, np.ndarray, np.ndarray, np.ndarray, Dict[str, Any]]


class WorkerFailed(RuntimeError):
    """An environment's worker failed more often than `max_restarts` allows."""


def _copy_into(space: spaces.Space, batch: Any, index: int, value: Any, where: Any) -> None:
    """Writes one environment's observation into the batch, after checking it against `space`.

    `where` is a place as `wire.place` takes it: its text is put together on need.
    """
    if isinstance(space, spaces.Dict):
        if not isinstance(value, dict) or set(value) != set(space.spaces):
            got = sorted(value) if isinstance(value, dict) else type(value).__name__
            raise ValueError(
                f"{wire.place(where)} has {got}; its space has {sorted(space.spaces)}."
            )
        for key, part in space.spaces.items():
            _copy_into(part, batch[key], index, value[key], (where, key))
        return
    if value.shape != space.shape or value.dtype != space.dtype:
        raise ValueError(
            f"{wire.place(where)} is {value.dtype} {value.shape}; its space says {space.dtype} "
            f"{space.shape}. Correct the adapter's observation or its observation_space."
        )
    batch[index] = value


def _copy(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {key: _copy(part) for key, part in batch.items()}
    return batch.copy()


class VectorEnv(gymnasium.vector.VectorEnv):
    """Environments stepped together; Gymnasium's vector interface with autoreset disabled.

    Args:
        specs: one environment each; their spaces must be equal. Names, keyword arguments and
            interpreters may differ.
        processes: False runs them one after the other in this process, for debugging: exceptions
            pass through.
        step_timeout_s: a worker that does not answer a step or call for so long is killed and
            restarted.
        reset_timeout_s: the same for a reset.
        start_timeout_s: the same for building the environment.
        max_restarts: an environment that fails more often within `restart_window_s` raises
            WorkerFailed and closes all.
        restart_window_s: see `max_restarts`.
        close_timeout_s: how long `close` waits for a simulator before it kills the process.

    Observations, and all that `step` and `reset` return, are copies that the caller may keep.
    Information is `infos["envs"]`, a list with one dictionary for each environment (empty where a
    masked reset left it alone), so that a value missing in one environment stays missing. After a
    worker failed, its dictionary is `{"worker_failed": reason}`.

    Attributes:
        restarts: how often each environment's worker was restarted, int64 (num_envs,).

    Raises:
        EnvStartError: an environment cannot be built; one line that says why, the rest in
            `details`.
    """

    def __init__(
        self,
        specs: Sequence[EnvSpec],
        *,
        processes: bool = True,
        step_timeout_s: float = 60.0,
        reset_timeout_s: float = 300.0,
        start_timeout_s: float = 300.0,
        max_restarts: int = 10,
        restart_window_s: float = 3600.0,
        close_timeout_s: float = 5.0,
    ) -> None:
        if not specs:
            raise ValueError("specs is empty; give at least one EnvSpec.")
        self.num_envs = len(specs)
        self.specs = tuple(specs)
        self.step_timeout_s, self.reset_timeout_s = step_timeout_s, reset_timeout_s
        self.start_timeout_s, self.close_timeout_s = start_timeout_s, close_timeout_s
        self.max_restarts, self.restart_window_s = max_restarts, restart_window_s
        self.restarts = np.zeros(self.num_envs, np.int64)
        self._failures_s: List[Deque[float]] = [collections.deque() for _ in specs]
        self._is_starting = [False] * self.num_envs
        self._needs_reset = np.ones(self.num_envs, bool)
        self._pending: Optional[Dict[int, Any]] = None
        self._unsent: Dict[int, Dict[str, Any]] = {}
        self._seeds: List[Optional[int]] = [None] * self.num_envs
        self._episodes_since_seed = [0] * self.num_envs
        self._envs: List[Any] = []
        self._places = [
            f"The observation of environment {i} ({s.name!r})" for i, s in enumerate(specs)
        ]
        try:
            self._envs = [RemoteEnv(s) if processes else LocalEnv(s) for s in specs]
            self._start_all()
        except BaseException:
            for env in self._envs:
                env.kill()
            self.closed = True
            raise

    def _start_all(self) -> None:
        for env in self._envs:  # all at once: the simulators load in parallel
            env.start()
        ready = [env.wait_ready(self.start_timeout_s) for env in self._envs]
        built = [
            (wire.build_space(r["observation_space"]), wire.build_space(r["action_space"]))
            for r in ready
        ]
        for i, pair in enumerate(built):
            for kind, first, other in zip(("observation", "action"), built[0], pair):
                if first != other:
                    raise EnvStartError(
                        f"Environments 0 ({self.specs[0].name!r}) and {i} ({self.specs[i].name!r}) "
                        f"have different {kind} spaces: {first} and {other}. "
                        "Give them equal options."
                    )
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED}
        self.render_mode = ready[0]["render_mode"]
        self.single_observation_space, self.single_action_space = built[0]
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._observations = create_empty_array(
            self.single_observation_space, n=self.num_envs, fn=np.zeros
        )

    # --- reset ---------------------------------------------------------------

    def reset(
        self, *, seed: Seeds = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[Any, Dict[str, Any]]:
        """Starts an episode in every environment, or in those of `options["reset_mask"]`.

        Args:
            seed: one for each environment (None: its random state goes on), or one number s: s, s +
                1, ...
            options: "reset_mask" is bool (num_envs,); the rest goes to every environment's `reset`.

        Returns:
            Observations of all environments, batched (those not reset: their last one), and the
            infos. A worker that fails while it resets is restarted, and its reset repeated.

        Raises:
            WorkerFailed: a worker failed more than `max_restarts` times.
        """
        self._check_idle("reset")
        rest = dict(options or {})
        mask = self._checked_mask(rest.pop("reset_mask", None))
        seeds = self._checked_seeds(seed)
        infos: List[Dict[str, Any]] = [{} for _ in self._envs]
        todo = [int(i) for i in np.flatnonzero(mask)]
        for i in todo:
            self._needs_reset[i] = True  # until its reset has succeeded
            self._note_seed(i, seeds[i])
        while todo:
            self._reset_round(todo, rest or None, infos)
        return _copy(self._observations), {"envs": infos}

    def _note_seed(self, i: int, seed: Optional[int]) -> None:
        if seed is not None:
            self._seeds[i], self._episodes_since_seed[i] = seed, 0
        else:
            self._episodes_since_seed[i] += 1

    def _reset_seed(self, i: int) -> Optional[int]:
        """The seed to send; a restarted process, whose random state is lost, gets a derived one."""
        base, episodes = self._seeds[i], self._episodes_since_seed[i]
        if base is None or episodes == 0:
            return base
        if not self._is_starting[i]:
            return None
        entropy = [base, episodes, int(self.restarts[i])]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def _reset_round(
        self, todo: List[int], options: Optional[Dict[str, Any]], infos: List[Dict[str, Any]]
    ) -> None:
        """Asks all of `todo` to reset; those that did leave the list, the others are restarted."""
        asked: List[int] = []
        failed: Dict[int, WorkerError] = {}
        for i in todo:
            try:
                seed = self._reset_seed(i)
                self._await_start(i)
                self._envs[i].send({"op": "reset", "seed": seed, "options": options})
                asked.append(i)
            except WorkerError as err:
                failed[i] = err
        for i in asked:
            try:
                reply = self._envs[i].receive(self.reset_timeout_s)
            except WorkerError as err:
                failed[i] = err
                continue
            self._store(i, reply["observation"])
            infos[i] = reply["info"]
            self._needs_reset[i] = False
            todo.remove(i)
        for i, failure in failed.items():
            self._restart(i, failure, "reset")

    def _await_start(self, i: int) -> None:
        if not self._is_starting[i]:
            return
        self._is_starting[i] = False
        try:
            self._envs[i].wait_ready(self.start_timeout_s)
        except EnvStartError as err:
            raise WorkerError(f"did not start again: {err}", err.details) from err

    # --- step ----------------------------------------------------------------

    def step(self, actions: Any) -> StepResult:
        """Steps every environment once; `step_async` and `step_wait` in one call."""
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: Any) -> None:
        """Sends every environment its action and returns at once.

        Args:
            actions: a batch of `action_space`.

        Raises:
            ResetNeeded: an environment's episode has ended (or none has begun) and it was not
                reset.
            ValueError: the batch has the wrong size.
        """
        self._check_idle("step")
        if self._needs_reset.any():
            raise ResetNeeded(
                f"Environments {np.flatnonzero(self._needs_reset).tolist()} have no running "
                'episode. Call reset(options={"reset_mask": terminations | truncations}) first.'
            )
        rows = list(iterate(self.action_space, actions))
        if len(rows) != self.num_envs:
            raise ValueError(f"{len(rows)} actions for {self.num_envs} environments.")
        self._unsent = {
            i: {"op": "step", "action": wire.to_plain(row, "action")} for i, row in enumerate(rows)
        }
        self._pending = {}
        self._send_actions()

    def _send_actions(self) -> None:
        assert self._pending is not None
        for i in list(self._unsent):
            try:
                self._envs[i].send(self._unsent[i])
            except WorkerError as err:
                self._pending[i] = err
            del self._unsent[i]

    def step_wait(self) -> StepResult:
        """The results of the step that `step_async` began.

        Returns:
            observations (batched), rewards float64 (num_envs,), terminations and truncations bool
            (num_envs,), and `{"envs": [info, ...]}`.

        Raises:
            WorkerFailed: a worker failed more than `max_restarts` times.

        When a signal interrupts it with an exception, calling it again finishes the step.
        """
        if self._pending is None:
            raise RuntimeError("step_wait was called without step_async.")
        self._send_actions()
        for i, env in enumerate(self._envs):
            if i not in self._pending:
                try:
                    self._pending[i] = env.receive(self.step_timeout_s)
                except WorkerError as err:
                    self._pending[i] = err
                except Exception:
                    self._pending = None  # in this process: the exception is the user's to see
                    self._needs_reset[i] = True
                    raise
        replies, self._pending = self._pending, None
        return self._collect(replies)

    def _collect(self, replies: Mapping[int, Any]) -> StepResult:
        rewards = np.zeros(self.num_envs)
        terminations, truncations = np.zeros((2, self.num_envs), bool)
        infos: List[Dict[str, Any]] = [{} for _ in self._envs]
        failed: Dict[int, WorkerError] = {}
        for i in range(self.num_envs):
            reply = replies[i]
            if isinstance(reply, WorkerError):
                failed[i] = reply
                truncations[i] = True
                continue
            self._store(i, reply["observation"])
            rewards[i] = reply["reward"]
            terminations[i], truncations[i] = reply["terminated"], reply["truncated"]
            infos[i] = reply["info"]
        self._needs_reset = terminations | truncations
        for i, failure in failed.items():
            infos[i] = {"worker_failed": self._restart(i, failure, "step")}
        return _copy(self._observations), rewards, terminations, truncations, {"envs": infos}

    def _store(self, i: int, observation: Any) -> None:
        _copy_into(
            self.single_observation_space, self._observations, i, observation, self._places[i]
        )

    # --- failures ------------------------------------------------------------

    def _restart(self, i: int, failure: WorkerError, during: str) -> str:
        """Counts, shows and repairs a failure; returns it in one line."""
        self._needs_reset[i] = True
        reason = f"{' '.join(failure.reason.split())} during {during} ({self._episode(i)})"
        self._envs[i].kill()
        now = time.monotonic()
        recent = self._failures_s[i]
        recent.append(now)
        while recent[0] < now - self.restart_window_s:
            recent.popleft()
        title = f"Environment {i} ({self.specs[i].name!r}): {reason}"
        if len(recent) > self.max_restarts:
            self.close()
            raise WorkerFailed(
                f"{title}. That is failure {len(recent)} within {self.restart_window_s:g} s, and "
                f"max_restarts is {self.max_restarts}. Its last words:\n"
                f"{failure.details or '(none)'}"
            )
        self.restarts[i] += 1
        _log.warning(
            "%s; worker restarted (restart %d)\n%s", title, self.restarts[i], failure.details
        )
        self._is_starting[i] = True  # built while the others go on; the next reset waits for it
        self._envs[i].start()
        return reason

    def _episode(self, i: int) -> str:
        if self._seeds[i] is None:
            return "episode without a seed"
        if self._episodes_since_seed[i] == 0:
            return f"episode seed {self._seeds[i]}"
        return f"episode {self._episodes_since_seed[i]} after the one of seed {self._seeds[i]}"

    # --- everything else -----------------------------------------------------

    def call(self, name: str, *args: Any, **kwargs: Any) -> Tuple[Any, ...]:
        """What each environment's method or attribute `name` returns: plain values and arrays."""
        return tuple(self.call_at(i, name, *args, **kwargs) for i in range(self.num_envs))

    def call_at(self, index: int, name: str, *args: Any, **kwargs: Any) -> Any:
        """`call` for one environment.

        Raises:
            RemoteError: the method raised; the environment goes on.
            WorkerError: the worker died or hung in it; its next step is truncated.
        """
        request = {"op": "call", "name": name, "args": args, "kwargs": kwargs}
        return self._ask(index, request)

    def baselines_at(self, index: int) -> List[str]:
        """Names of the baselines that one environment's process can play; see `baseline_makers`."""
        return list(self._ask(index, {"op": "baselines"}))

    def act_at(self, index: int, name: str, observation: Any, is_first: bool) -> Any:
        """The action of baseline `name` in one environment, chosen in its process.

        Args:
            index: the environment.
            name: of `baselines_at`.
            observation: the environment's last one; pictures may be left out.
            is_first: whether it is the first of an episode.

        Raises:
            RemoteError, WorkerError: see `call_at`.
        """
        request = {"op": "act", "name": name, "observation": observation, "is_first": is_first}
        return self._ask(index, request)

    def _ask(self, index: int, request: Dict[str, Any]) -> Any:
        self._check_idle("call")
        self._await_start(index)
        self._envs[index].send(request)
        return self._envs[index].receive(self.step_timeout_s)["value"]

    def get_attr(self, name: str) -> Tuple[Any, ...]:
        """Attribute `name` of each environment."""
        return self.call(name)

    def render(self) -> Optional[Tuple[Any, ...]]:
        """One frame of each environment, or None without a render mode."""
        return None if self.render_mode is None else self.call("render")

    def close_extras(self, **kwargs: Any) -> None:
        """Closes every simulator and ends every process."""
        for i, env in enumerate(self._envs):
            if self._is_starting[i]:
                env.kill()  # nothing runs in it yet
            else:
                env.ask_to_close()
        for env in self._envs:
            env.close(self.close_timeout_s)
        self._pending = None

    def _check_idle(self, what: str) -> None:
        if self.closed:
            raise RuntimeError(f"{what} was called after close.")
        if self._pending is not None:
            raise RuntimeError(f"{what} was called while a step is running; call step_wait first.")

    def _checked_mask(self, mask: Any) -> np.ndarray:
        if mask is None:
            return np.ones(self.num_envs, bool)
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise ValueError(
                f"reset_mask is {mask.dtype} {mask.shape}; it must be bool ({self.num_envs},)."
            )
        return mask

    def _checked_seeds(self, seed: Seeds) -> List[Optional[int]]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, (int, np.integer)):
            return [int(seed) + i for i in range(self.num_envs)]
        seeds = [None if s is None else int(s) for s in seed]
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} environments.")
        return seeds
