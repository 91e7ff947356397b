"""Checks that an environment keeps the promises that our adapters make."""

from __future__ import annotations

import math
import warnings
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

import gymnasium
import gymnasium.wrappers
import numpy as np
from gymnasium import spaces
from gymnasium.utils import env_checker

from sim_adapters.nav_measures import Measures
from sim_adapters.pointgoal import NavigationTask

Make = Callable[[], "gymnasium.Env[Any, Any]"]

#: an idle episode is not followed for longer than this when looking for the time limit
_LONGEST = 5000


class ContractError(AssertionError):
    """An environment breaks a promise; the message says which."""


class _Step(NamedTuple):
    observation: Any
    reward: float
    terminated: bool
    truncated: bool


def check_env(make: Make, steps: int = 200) -> None:
    """Check an adapter with Gymnasium's own checker and ours.

    Ours: Dict observations of uint8 and float32, Discrete or Box actions; every observation in
    its space, with its very dtype; finite scalar rewards; a time limit truncates and never
    terminates; the same seed and actions give the same observations and rewards, in one
    environment and in another; reset works after an episode's end; a `NavigationTask` ends with
    every measure in `info`; closing twice is fine.

    Args:
        make: builds the environment; called several times, never while another one is open.
        steps: number of random actions of a walk.

    Raises:
        ContractError: the first broken promise.
    """
    _run_gymnasium_checker(make)
    env = make()
    try:
        _check_spaces(env)
        env.action_space.seed(0)
        actions = [env.action_space.sample() for _ in range(steps)]
        first = _walk(env, actions, seed=1)
        _check_equal(first, _walk(env, actions, seed=1), "a second time in the same environment")
        _check_time_limit(env)
    finally:
        env.close()
    _check_closes_again(env)
    other = make()
    try:
        _check_equal(first, _walk(other, actions, seed=1), "in another environment")
    finally:
        other.close()


def _run_gymnasium_checker(make: Make) -> None:
    env = make()
    try:
        with warnings.catch_warnings():
            # Its warnings are advice (an unbounded space, no spec); its errors are the contract.
            warnings.simplefilter("ignore")
            env_checker.check_env(env, skip_render_check=True, skip_close_check=True)
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise ContractError(f"Gymnasium's checker: {error}") from error
    finally:
        env.close()


def _check_spaces(env: gymnasium.Env[Any, Any]) -> None:
    if not isinstance(env.observation_space, spaces.Dict):
        raise ContractError(
            f"the observation space must be a Dict, got {env.observation_space}; "
            "sim_adapters.gymnasium_env.FlatSpaces converts it"
        )
    for key, space in env.observation_space.spaces.items():
        if not isinstance(space, spaces.Box) or space.dtype not in (np.uint8, np.float32):
            raise ContractError(
                f"the observation {key!r} must be a Box of uint8 or float32, got {space}"
            )
    if not isinstance(env.action_space, (spaces.Discrete, spaces.Box)):
        raise ContractError(f"the action space must be Discrete or Box, got {env.action_space}")


def _check_observation(env: gymnasium.Env[Any, Any], observation: Any) -> None:
    assert isinstance(env.observation_space, spaces.Dict)
    parts = env.observation_space.spaces
    if not isinstance(observation, dict) or set(observation) != set(parts):
        got = sorted(observation) if isinstance(observation, dict) else type(observation).__name__
        raise ContractError(f"an observation must have the keys {sorted(parts)}, got {got}")
    for key, space in parts.items():
        assert isinstance(space, spaces.Box)
        value = observation[key]
        if not isinstance(value, np.ndarray):
            raise ContractError(f"the observation {key!r} is no array but {type(value).__name__}")
        if value.dtype != space.dtype or value.shape != space.shape:
            raise ContractError(
                f"the observation {key!r} has shape {value.shape} and dtype {value.dtype}, its "
                f"space has {space.shape} and {space.dtype}"
            )
        if not space.contains(value):
            raise ContractError(
                f"the observation {key!r} is outside its space {space}: it has values in "
                f"[{value.min()}, {value.max()}]"
            )


def _step(env: gymnasium.Env[Any, Any], action: Any) -> Tuple[_Step, Any]:
    observation, reward, terminated, truncated, info = env.step(action)
    _check_observation(env, observation)
    if not isinstance(reward, (int, float, np.number)) or not math.isfinite(reward):
        raise ContractError(f"a reward must be one finite number, got {reward!r}")
    if terminated and truncated and not _wrapped_limits(env):
        raise ContractError(
            "a step was both terminated and truncated: a time limit that falls on the end of the "
            "task is the end of the task only"
        )
    if terminated or truncated:
        _check_measures(env, info)
    return _Step(observation, float(reward), bool(terminated), bool(truncated)), info


def _check_measures(env: gymnasium.Env[Any, Any], info: Any) -> None:
    if not isinstance(env.unwrapped, NavigationTask):
        return
    missing = [key for key in Measures.KEYS if key not in info]
    if missing:
        raise ContractError(f"the info of an episode's last step lacks {', '.join(missing)}")
    for key in ("success", "spl", "soft_spl"):
        if not 0.0 <= info[key] <= 1.0:
            raise ContractError(f"the measure {key!r} must be in [0, 1], got {info[key]}")


def _walk(env: gymnasium.Env[Any, Any], actions: List[Any], seed: int) -> List[_Step]:
    """Take `actions`, with resets (recorded as steps) at the start and after every end."""
    observation, _ = env.reset(seed=seed)
    _check_observation(env, observation)
    walked = [_Step(observation, 0.0, False, False)]
    for action in actions:
        step, _ = _step(env, action)
        walked.append(step)
        if step.terminated or step.truncated:
            observation, _ = env.reset()
            _check_observation(env, observation)
            walked.append(_Step(observation, 0.0, False, False))
    return walked


def _check_equal(first: List[_Step], second: List[_Step], where: str) -> None:
    for index, (a, b) in enumerate(zip(first, second)):
        for key in a.observation:
            if not np.array_equal(a.observation[key], b.observation[key]):
                raise ContractError(
                    f"the same seed and actions gave another observation {key!r} after {index} "
                    f"steps {where}"
                )
        if a[1:] != b[1:]:
            raise ContractError(
                f"the same seed and actions gave another (reward, terminated, truncated) after "
                f"{index} steps {where}: {a[1:]}, then {b[1:]}"
            )


def _idle_action(env: gymnasium.Env[Any, Any]) -> Any:
    """Return an action that should not end the episode: for PointGoal, a turn on the spot."""
    if isinstance(env.unwrapped, NavigationTask):
        return env.unwrapped.actions.primitives()[-1]
    if isinstance(env.action_space, spaces.Discrete):
        return env.action_space.start
    assert isinstance(env.action_space, spaces.Box)
    zeros = np.zeros(env.action_space.shape, env.action_space.dtype)
    return np.clip(zeros, env.action_space.low, env.action_space.high)


def _wrapped_limits(env: gymnasium.Env[Any, Any]) -> List[int]:
    """Return the limits of Gymnasium's TimeLimit wrappers, which may truncate a terminated step."""
    limits = []
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            limits.append(int(env._max_episode_steps))
        env = env.env
    return limits


def _limit(env: gymnasium.Env[Any, Any]) -> Optional[int]:
    """Return the time limit: `max_steps` of the environment or a TimeLimit wrapper's."""
    limits = _wrapped_limits(env)
    own = getattr(env.unwrapped, "max_steps", None)
    if own is not None:
        limits.append(int(own))
    return min(limits, default=None)


def _check_time_limit(env: gymnasium.Env[Any, Any]) -> None:
    """Do nothing until the time is up; that must truncate, at the limit."""
    limit = _limit(env)
    if limit is None or limit > _LONGEST:
        return
    env.reset(seed=2)
    action = _idle_action(env)
    for count in range(1, limit + 1):
        step, info = _step(env, action)
        if count == limit and step.terminated and not info.get("success"):
            raise ContractError(
                f"the time limit of {limit} steps terminates the episode: it must be truncated, "
                "or the value of its last state is lost"
            )
        if step.terminated or step.truncated:
            break
    else:
        raise ContractError(f"the episode goes on after its time limit of {limit} steps")
    if step.truncated and count < limit:
        raise ContractError(f"truncated after {count} steps, before the time limit of {limit}")
    observation, _ = env.reset()
    _check_observation(env, observation)


def _check_closes_again(env: gymnasium.Env[Any, Any]) -> None:
    try:
        env.close()
    except Exception as error:
        raise ContractError(f"closing an environment twice failed: {error!r}") from error
