"""Policies to hold an agent against: random, greedy and (nearly) shortest path."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Protocol

import gymnasium
import numpy as np

from sim_adapters.nav_actions import DiscreteActions, VelocityActions
from sim_adapters.nav_planner import MotionPlanner, PlannedAction, Pose
from sim_adapters.pointgoal import NavigationTask


class Policy(Protocol):
    """Chooses actions in a `NavigationTask`."""

    def reset(self) -> None:
        """Forget the last episode; called after the environment's reset."""

    def act(self, observation: Dict[str, np.ndarray]) -> Any:
        """Return the action for `observation`."""


def navigation_task(env: gymnasium.Env[Any, Any]) -> NavigationTask:
    """Return the `NavigationTask` inside `env`.

    Raises:
        TypeError: there is none.
    """
    inner: Any = env.unwrapped
    if not isinstance(inner, NavigationTask):
        raise TypeError(
            f"the navigation baselines need a NavigationTask, got {type(inner).__name__}"
        )
    return inner


def baseline_makers(env: gymnasium.Env[Any, Any]) -> Dict[str, Callable[[Any], Policy]]:
    """The baselines that look at no picture, by name: what makes a policy for an environment.

    The simulator's own come first, and its own "shortest path" is preferred: a robot that moves by physics cannot be
    planned for by moving it about. Where there are no goals there are none but these.
    """
    own = dict(getattr(env.unwrapped, "reference_policies", dict)())
    if isinstance(env.unwrapped, NavigationTask):
        own.setdefault("shortest path", ShortestPathPolicy)
        own["greedy"] = GreedyPolicy
    return own


class RandomPolicy:
    """Draws actions uniformly, stop included.

    Args:
        env: a `NavigationTask`, wrapped or not.
        seed: of its draws, which go on from one episode to the next.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], seed: int = 0) -> None:
        self._actions = navigation_task(env).actions
        self._rng = np.random.default_rng(seed)

    def reset(self) -> None:
        """Do nothing: the draws go on."""

    def act(self, observation: Dict[str, np.ndarray]) -> Any:
        """Return a random action."""
        del observation
        if isinstance(self._actions, DiscreteActions):
            return int(self._rng.integers(self._actions.space.n))
        return self._rng.uniform(-1.0, 1.0, 2).astype(np.float32)


class GreedyPolicy:
    """Turns to the goal and goes straight there, blind to what is in between.

    It needs nothing but the observation "pointgoal" and stops where the straight distance is
    within the success distance.

    Args:
        env: a `NavigationTask`, wrapped or not, for its actions and its success distance only.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        task = navigation_task(env)
        self._actions = task.actions
        self._success_distance_m = task.success_distance_m

    def reset(self) -> None:
        """Do nothing: there is no memory."""

    def act(self, observation: Dict[str, np.ndarray]) -> Any:
        """Return the action for (rho, phi)."""
        rho, phi = (float(v) for v in observation["pointgoal"])
        if self._actions.stop is not None and rho < self._success_distance_m:
            return self._actions.stop
        if isinstance(self._actions, DiscreteActions):
            return self._discrete(self._actions, phi)
        return self._continuous(self._actions, rho, phi)

    @staticmethod
    def _discrete(actions: DiscreteActions, phi: float) -> int:
        # The margin: a goal at exactly half a turn would be left, then right, for ever.
        if abs(phi) <= 0.5 * actions.turn_rad + 1e-3:
            return actions.forward
        return actions.left if phi > 0 else actions.right

    @staticmethod
    def _continuous(actions: VelocityActions, rho: float, phi: float) -> np.ndarray:
        turn_rate_dps = math.degrees(phi) / actions.step_s
        if abs(phi) > math.radians(45.0):
            return actions.action(0.0, turn_rate_dps)
        # Never so slow that it would be read as stop.
        speed = max(rho / actions.step_s, 2.0 * actions.stop_speed_mps)
        return actions.action(min(speed, actions.max_speed_mps), turn_rate_dps)


class ShortestPathPolicy:
    """Follows the simulator's geodesic distance to the goal with the actions that there are.

    It looks ahead with the simulator itself (`NavSimulator.set_pose` and `move`, after which the
    pose is put back), so that what it plans does not graze walls; see `MotionPlanner`. It plans
    again whenever the robot is not where it was expected, as under actuation noise.

    Args:
        env: a `NavigationTask`, wrapped or not, in this process.
    """

    #: farther from the expected pose than this (metres, radians) means planning again
    TOLERANCE_M = 0.01
    TOLERANCE_RAD = 0.01

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self._task = navigation_task(env)
        self._planner = MotionPlanner(
            self._task.simulator, self._task.actions, self._task.has_arrived
        )
        self.reset()

    def reset(self) -> None:
        """Forget the plan."""
        self._plan: List[PlannedAction] = []
        self._expected: Optional[Pose] = None

    def act(self, observation: Dict[str, np.ndarray]) -> Any:
        """Return the next action of the plan, or stop at the goal; `observation` is not used."""
        del observation
        simulator, actions = self._task.simulator, self._task.actions
        position = simulator.position.tolist()
        distance = float(simulator.distance_to_goal(position))
        if actions.stop is not None and self._task.has_arrived(position, distance):
            return actions.stop
        if not self._plan or self._has_strayed():
            self._plan = self._planner.plan()
        action, self._expected = self._plan.pop(0)
        return action

    def _has_strayed(self) -> bool:
        assert self._expected is not None
        position, heading = self._expected
        simulator = self._task.simulator
        off = float(np.linalg.norm(np.subtract(simulator.position, position)))
        turned = abs(math.remainder(simulator.heading - heading, 2.0 * math.pi))
        return off > self.TOLERANCE_M or turned > self.TOLERANCE_RAD


def run_episode(
    env: gymnasium.Env[Any, Any],
    policy: Policy,
    *,
    seed: Optional[int] = None,
    options: Optional[Dict[str, Any]] = None,
) -> Dict[str, Any]:
    """Play one episode and return its last `info` with "return" (undiscounted) added."""
    observation, _ = env.reset(seed=seed, options=options)
    policy.reset()
    total, ended = 0.0, False
    info: Dict[str, Any] = {}
    while not ended:
        observation, reward, terminated, truncated, info = env.step(policy.act(observation))
        total += float(reward)
        ended = terminated or truncated
    return {**info, "return": total}
