"""The shortest-path baseline of iGibson: its own path, followed through its own physics."""

from __future__ import annotations

import math
from typing import Any, Dict

import gymnasium
import numpy as np

from sim_adapters.nav_actions import DiscreteActions

LOOK_AHEAD_M = 0.25
"""With 0.35 m the robot wedged itself on the corner of a box."""
DRIVE_WITHIN_RAD = math.radians(30.0)


class PathFollowerPolicy:
    """Turns to a point a little ahead on the shortest path and drives there.

    Args:
        env: an `IGibsonEnv` of this process, wrapped or not.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        inner: Any = env.unwrapped
        self._simulator, self._actions = inner.simulator, inner.actions

    def reset(self) -> None:
        """Do nothing: there is no memory."""

    def act(self, observation: Dict[str, np.ndarray]) -> Any:
        """Return the next action; `observation` is not used."""
        del observation
        position = self._simulator.position
        path = self._simulator.shortest_path(position)
        apart = np.linalg.norm(path[:, :2] - position[:2], axis=1)
        ahead = (
            path[int(np.argmax(apart > LOOK_AHEAD_M))] if apart.max() > LOOK_AHEAD_M else path[-1]
        )
        dx, dy = (ahead - position)[:2]
        turn = math.remainder(math.atan2(dy, dx) - self._simulator.heading, 2.0 * math.pi)
        actions = self._actions
        if isinstance(actions, DiscreteActions):
            if abs(turn) <= 0.5 * actions.turn_rad + 1e-3:
                return actions.forward
            return actions.left if turn > 0 else actions.right
        speed = actions.max_speed_mps if abs(turn) < DRIVE_WITHIN_RAD else 0.0
        return actions.action(speed, math.degrees(turn) / actions.step_s)
