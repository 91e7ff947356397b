"""Plays a fixed set of episodes, each exactly once, with several environments in lockstep.

Episode i is the same for every policy and every number of environments: it starts from a seed made
of the set's seed and i, and where the environment has a list of episodes it is the i-th of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
import torch

from dreamer_nav.agent import Agent, PolicyNoise, PolicyState
from dreamer_nav.rssm import State
from dreamer_nav.runs import to_tensors
from dreamer_nav.spaces import ActionSpec

__all__ = [
    "AgentPolicy",
    "EpisodeResult",
    "EpisodewisePolicy",
    "Policy",
    "Rollout",
    "UniformPolicy",
    "fixed_episodes",
    "run_episodes",
]

# What an environment's info calls a measure, and its name in results, with the unit.
MEASURES = {
    "success": "success",
    "spl": "spl",
    "soft_spl": "soft_spl",
    "distance_to_goal": "distance_to_goal_m",
    "collisions": "collisions",
    "path_length": "path_length_m",
}


@dataclass
class Rollout:
    """An episode that is being played."""

    index: int
    seed: int
    env: gym.Env
    obs: dict[str, np.ndarray]
    info: dict[str, Any]
    steps: int = 0
    total_return: float = 0.0
    done: bool = False
    memory: Any = field(default=None, repr=False)
    """The policy's own, None at the first step."""


@dataclass(frozen=True)
class EpisodeResult:
    """A finished episode: which one it was, and its measures by name."""

    index: int
    seed: int
    episode_id: str
    scene_id: str
    measures: dict[str, float]


@runtime_checkable
class Policy(Protocol):
    """Chooses environment actions for several rollouts at once."""

    def act(self, rollouts: Sequence[Rollout]) -> Sequence[Any]:
        """One action for each rollout; what must be remembered goes into `Rollout.memory`."""


class AgentPolicy:
    """The agent, all rollouts in one batch.

    Every episode has its own noise, so that its outcome does not depend on which others share the
    batch (but for rounding). The agent is left as it was, its random state included.
    """

    def __init__(self, agent: Agent, sample_actions: bool) -> None:
        self._agent, self._sample_actions = agent, sample_actions

    def act(self, rollouts: Sequence[Rollout]) -> Sequence[Any]:
        """Actions for the rollouts' observations; keeps (latent state, generator) in memory."""
        agent = self._agent
        for r in rollouts:
            if r.memory is None:
                r.memory = (agent.initial(1), torch.Generator().manual_seed(r.seed))
        states, generators = zip(*(r.memory for r in rollouts), strict=True)
        obs = to_tensors(
            {s.name: np.stack([r.obs[s.name] for r in rollouts]) for s in agent.obs},
            agent.obs,
            np.array([r.steps == 0 for r in rollouts]),
            agent.device,
        )
        rows = [agent.draw_policy_noise(1, generator) for generator in generators]
        noise = PolicyNoise(*(torch.cat(parts) for parts in zip(*rows, strict=True)))
        mode: Literal["sample", "mode"] = "sample" if self._sample_actions else "mode"
        action, state = agent.policy(obs, _stack(states), mode, noise)
        for i, r in enumerate(rollouts):
            r.memory = (_row(state, i), r.memory[1])
        return list(agent.action.to_env(action.cpu().numpy()))


def _stack(states: Sequence[PolicyState]) -> PolicyState:
    latents = (torch.cat(parts) for parts in zip(*(s.latent for s in states), strict=True))
    return PolicyState(State(*latents), torch.cat([s.action for s in states]))


def _row(state: PolicyState, i: int) -> PolicyState:
    return PolicyState(State(*(x[i : i + 1] for x in state.latent)), state.action[i : i + 1])


class UniformPolicy:
    """Uniformly random actions, an episode's draws from the episode's seed."""

    def act(self, rollouts: Sequence[Rollout]) -> Sequence[Any]:
        """One random action each."""
        actions = []
        for r in rollouts:
            if r.memory is None:
                # Not the bare seed: the environment draws its episode from that very stream.
                r.memory = np.random.default_rng([r.seed, 1])
            spec = ActionSpec.from_space(r.env.action_space)
            actions.append(spec.to_env(spec.random(r.memory, 1))[0])
        return actions


class EpisodewisePolicy:
    """A policy made anew for every episode by `make(env)`, with `reset()` and `act(observation)`."""

    def __init__(self, make: Callable[[gym.Env], Any]) -> None:
        self._make = make

    def act(self, rollouts: Sequence[Rollout]) -> Sequence[Any]:
        """Ask each rollout's policy."""
        for r in rollouts:
            if r.memory is None:
                r.memory = self._make(r.env)
                r.memory.reset()
        return [r.memory.act(r.obs) for r in rollouts]


def fixed_episodes(env: gym.Env) -> int | None:
    """How many episodes the environment's list has; None if it draws them without end."""
    count = getattr(env.unwrapped, "episode_count", None)
    return None if count is None else int(count)


def run_episodes(
    policy: Policy,
    make_env: Callable[[], gym.Env],
    *,
    episodes: int,
    seed: int,
    num_envs: int = 8,
    on_step: Callable[[Rollout], None] | None = None,
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Play episodes 0 to `episodes` - 1; returns their results in that order.

    `on_step` sees every rollout after its reset (steps = 0) and after each step. There is one
    environment, not `num_envs`, if it says `one_per_process`.

    Raises:
        ValueError: more episodes than the environment's list has.
    """
    waiting = deque(range(episodes))
    envs: list[gym.Env] = []
    results: list[EpisodeResult] = []
    try:
        while len(envs) < min(num_envs, episodes):
            envs.append(make_env())
            _check_enough(envs[0], episodes)
            if getattr(envs[0].unwrapped, "one_per_process", False):
                break
        running = [_start(env, waiting.popleft(), seed, on_step) for env in envs]
        while running:
            for rollout, action in zip(running, policy.act(running), strict=True):
                _step(rollout, action, on_step)
            ended = [r for r in running if r.done]
            running = [r for r in running if not r.done]
            for r in ended:
                results.append(_result(r))
                if on_episode is not None:
                    on_episode(results[-1])
                if waiting:
                    running.append(_start(r.env, waiting.popleft(), seed, on_step))
    finally:
        for env in envs:
            env.close()
    return sorted(results, key=lambda result: result.index)


def _check_enough(env: gym.Env, episodes: int) -> None:
    there = fixed_episodes(env)
    if there is not None and episodes > there:
        raise ValueError(f"{episodes} episodes were asked for, and the set holds {there}")


def _start(
    env: gym.Env, index: int, seed: int, on_step: Callable[[Rollout], None] | None
) -> Rollout:
    own_seed = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
    options = None if fixed_episodes(env) is None else {"index": index}
    obs, info = env.reset(seed=own_seed, options=options)
    rollout = Rollout(index, own_seed, env, obs, info)
    if on_step is not None:
        on_step(rollout)
    return rollout


def _step(rollout: Rollout, action: Any, on_step: Callable[[Rollout], None] | None) -> None:
    obs, reward, terminated, truncated, info = rollout.env.step(action)
    rollout.obs, rollout.info = obs, info
    rollout.steps += 1
    rollout.total_return += float(reward)
    rollout.done = bool(terminated or truncated)
    if on_step is not None:
        on_step(rollout)


def _result(rollout: Rollout) -> EpisodeResult:
    info = rollout.info
    measures = {name: float(info[key]) for key, name in MEASURES.items() if key in info}
    measures |= {"steps": float(rollout.steps), "return": rollout.total_return}
    return EpisodeResult(
        index=rollout.index,
        seed=rollout.seed,
        episode_id=str(info.get("episode_id", "")),
        scene_id=str(info.get("scene_id", "")),
        measures=measures,
    )
