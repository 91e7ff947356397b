"""habitat-lab's actions as a Gymnasium space, and as the motions that planners use."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from gymnasium import spaces

from sim_adapters.habitat.errors import HabitatError
from sim_adapters.nav_actions import Actions, DiscreteActions, Motion, VelocityActions

PRIMITIVES = ["stop", "move_forward", "turn_left", "turn_right"]
VELOCITY = "velocity_control"


class HabitatVelocityActions(VelocityActions):
    """habitat-sim integrates a step in one go: straight on as the robot looks, then the turn."""

    def motions(self, action: Any) -> Optional[Tuple[Motion, ...]]:
        """Return the motions of `action`, or None if it is stop."""
        speed, turn_rate = self.velocities(action)
        if abs(speed) < self.stop_speed_mps and abs(turn_rate) < self.stop_turn_rate_dps:
            return None
        turn = math.radians(turn_rate) * self.step_s
        return (Motion(speed * self.step_s, 0.0), Motion(0.0, turn))


class TaskActions:
    """The actions of a task of habitat-lab.

    Args:
        habitat: the configuration.

    Attributes:
        space: Discrete in the configuration's order, or for velocity control a Box (2,) in [-1, 1].
        motions: what planners need to know; None where the actions are others than PointNav's.

    Raises:
        HabitatError: several actions of which one is continuous.
    """

    def __init__(self, habitat: Any) -> None:
        self._names: List[str] = list(habitat.task.actions)
        self._is_velocity = self._names == [VELOCITY]
        if VELOCITY in self._names and not self._is_velocity:
            raise HabitatError(
                f"{VELOCITY} must be the only action, got {', '.join(self._names)}; override it: "
                f"habitat/task/actions=[{VELOCITY}]"
            )
        self.motions: Optional[Actions] = None
        if self._is_velocity:
            self.motions = _velocity(habitat.task.actions[VELOCITY])
            self.space: spaces.Space[Any] = self.motions.space
        else:
            self.space = spaces.Discrete(len(self._names))
            if self._names == PRIMITIVES:
                self.motions = DiscreteActions(
                    forward_m=float(habitat.simulator.forward_step_size),
                    turn_deg=float(habitat.simulator.turn_angle),
                    with_stop=True,
                )

    def to_habitat(self, action: Any) -> Dict[str, Any]:
        """The action as `habitat.Env.step` takes it.

        Raises:
            ValueError: it is not in the space.
        """
        if not self._is_velocity:
            if not self.space.contains(action):
                raise ValueError(f"action must be in {self.space}, got {action!r}")
            return {"action": self._names[int(action)]}
        numbers = np.asarray(action, np.float64)
        if numbers.shape != (2,) or not np.isfinite(numbers).all():
            raise ValueError(f"action must be two finite numbers (v, w) in [-1, 1], got {action!r}")
        v, w = (float(x) for x in np.clip(numbers, -1.0, 1.0))
        return {"action": VELOCITY, "action_args": {"linear_velocity": v, "angular_velocity": w}}


def _velocity(config: Any) -> HabitatVelocityActions:
    (slowest, fastest), (right, left) = config.lin_vel_range, config.ang_vel_range
    if right != -left:
        raise HabitatError(f"ang_vel_range must be the same to both sides, got [{right}, {left}]")
    return HabitatVelocityActions(
        min_speed_mps=float(slowest),
        max_speed_mps=float(fastest),
        max_turn_rate_dps=float(left),
        step_s=float(config.time_step),
        with_stop=True,
        stop_speed_mps=float(config.min_abs_lin_speed),
        stop_turn_rate_dps=float(config.min_abs_ang_speed),
    )
