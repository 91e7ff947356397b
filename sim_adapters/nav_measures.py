"""The measures of a navigation episode, for every navigation simulator.

Definitions: success and SPL after Anderson et al., "On Evaluation of Embodied Navigation Agents"
(arXiv 1807.06757); SoftSPL as habitat-lab computes it (arXiv 2012.04047).
"""

from __future__ import annotations

from typing import Any, Dict, Sequence

import numpy as np


def _ratio(shortest_m: float, travelled_m: float) -> float:
    """Return l / max(p, l), and 1 where there was nothing to travel and nothing was travelled."""
    longest = max(shortest_m, travelled_m)
    return shortest_m / longest if longest > 0 else 1.0


class Measures:
    """Accumulates the measures of one episode.

    Args:
        position: start (x, y, z), metres.
        distance_m: geodesic distance from the start to the goal, the l of SPL; finite, >= 0.

    Attributes:
        distance_m: geodesic distance to the goal after the last step.
        path_length_m: sum of Euclidean displacements, one per step.
        collisions: number of steps that touched something.
        steps: number of actions taken.
        success: whether the episode ended at the goal.
    """

    #: keys that `info` returns
    KEYS = (
        "distance_to_goal",
        "success",
        "spl",
        "soft_spl",
        "collisions",
        "collided",
        "path_length",
        "steps",
    )

    def __init__(self, position: Sequence[float], distance_m: float) -> None:
        """Start an episode."""
        if not (np.isfinite(distance_m) and distance_m >= 0):
            raise ValueError(f"the start distance must be finite and >= 0, got {distance_m!r}")
        self._position = np.array(position, dtype=np.float64)
        self.start_distance_m = float(distance_m)
        self.distance_m = float(distance_m)
        self.path_length_m = 0.0
        self.collisions = 0
        self.collided = False
        self.steps = 0
        self.success = False

    def update(
        self, position: Sequence[float], distance_m: float, *, collided: bool, success: bool
    ) -> float:
        """Take in one step and return its geodesic progress in metres (positive: nearer)."""
        new_position = np.array(position, dtype=np.float64)
        self.path_length_m += float(np.linalg.norm(new_position - self._position))
        self._position = new_position
        progress = self.distance_m - float(distance_m)
        self.distance_m = float(distance_m)
        self.collided = bool(collided)
        self.collisions += int(self.collided)
        self.steps += 1
        self.success = bool(success)
        return progress

    @property
    def spl(self) -> float:
        """S l / max(p, l)."""
        return float(self.success) * _ratio(self.start_distance_m, self.path_length_m)

    @property
    def soft_spl(self) -> float:
        """max(0, 1 - d_T / d_0) l / max(p, l)."""
        if self.start_distance_m > 0:
            soft_success = max(0.0, 1.0 - self.distance_m / self.start_distance_m)
        else:
            soft_success = float(self.distance_m == 0)
        return soft_success * _ratio(self.start_distance_m, self.path_length_m)

    def info(self) -> Dict[str, Any]:
        """Return the measures as a Gymnasium `info` holds them; distances in metres."""
        return {
            "distance_to_goal": self.distance_m,
            "success": float(self.success),
            "spl": self.spl,
            "soft_spl": self.soft_spl,
            "collisions": self.collisions,
            "collided": self.collided,
            "path_length": self.path_length_m,
            "steps": self.steps,
        }
