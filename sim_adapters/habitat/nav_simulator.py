"""A simulator of habitat-lab as our planners and films see one: z up, headings counter-clockwise from +x."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from gymnasium import spaces

from sim_adapters.episodes import (
    heading_from_habitat,
    heading_to_habitat,
    position_from_habitat,
    position_to_habitat,
)

FREE, OCCUPIED = (235, 235, 235), (90, 90, 90)


class HabitatNavSimulator:
    """`NavSimulator` over any simulator of habitat-lab that has a path finder, habitat-sim above all.

    Args:
        sim: of the class `habitat.core.simulator.Simulator`.
    """

    #: pictures come with the environment's observations
    observation_space = spaces.Dict({})

    def __init__(self, sim: Any) -> None:
        self._sim = sim
        self._goal: Optional[List[float]] = None

    def load_scene(self, scene_id: str) -> None:
        """Refuse: habitat-lab loads the scenes of its episodes itself."""
        raise NotImplementedError("habitat-lab loads its scenes itself: reset the environment")

    @property
    def position(self) -> np.ndarray:
        """Where the robot stands, float64 (3,), metres."""
        return np.array(position_from_habitat(self._sim.get_agent_state().position))

    @property
    def heading(self) -> float:
        """Where the robot looks, radians."""
        q = self._sim.get_agent_state().rotation
        return heading_from_habitat((q.x, q.y, q.z, q.w))

    def set_pose(self, position: Sequence[float], heading: float) -> None:
        """Put the robot somewhere; its cameras keep their tilt."""
        place = list(position_to_habitat(position))
        self._sim.set_agent_state(place, list(heading_to_habitat(heading)), reset_sensors=False)

    def move(self, forward_m: float, turn_rad: float) -> bool:
        """Turn, then drive along the navigation mesh; returns whether something was in the way."""
        heading = self.heading + turn_rad
        start = self.position
        wished = start + forward_m * np.array([math.cos(heading), math.sin(heading), 0.0])
        finder = self._sim.pathfinder
        slides = bool(self._sim.config.sim_cfg.allow_sliding)
        step = finder.try_step if slides else finder.try_step_no_sliding
        ends = [np.array(position_to_habitat(p.tolist()), np.float32) for p in (start, wished)]
        end = position_from_habitat(np.asarray(step(*ends), np.float64).tolist())
        self.set_pose(end, heading)
        # habitat-sim's own test, squares and margin included: what came of the wish, for stairs lift the end.
        return float(((np.array(end) - start) ** 2).sum()) + 1e-5 < forward_m**2

    def observe(self) -> Dict[str, np.ndarray]:
        """Refuse: pictures come with the environment's observations."""
        raise NotImplementedError("pictures come with the environment's observations")

    def set_goal(self, position: Sequence[float]) -> None:
        """Set the goal of the distances that follow."""
        self._goal = list(position_to_habitat(position))

    def distance_to_goal(self, position: Sequence[float]) -> float:
        """Geodesic metres to the goal; inf if there is no way."""
        return float(self._sim.geodesic_distance(list(position_to_habitat(position)), self._goal))

    def shortest_path(self, position: Sequence[float]) -> np.ndarray:
        """Corners (n, 3) of a shortest path to the goal; (0, 3) if there is none."""
        start, goal = (np.array(p, np.float32) for p in (position_to_habitat(position), self._goal))
        points = self._sim.get_straight_shortest_path_points(start, goal)
        return np.array([position_from_habitat(p) for p in points]).reshape(-1, 3)

    def top_down(self, size: int = 256) -> Tuple[np.ndarray, np.ndarray, float]:
        """Where the robot fits on its floor: picture, place and scale; see `BulletSimulator.top_down`."""
        low, high = (np.asarray(p, np.float64) for p in self._sim.pathfinder.get_bounds())
        metres = max(high[0] - low[0], high[2] - low[2]) / size
        height = float(self._sim.get_agent_state().position[1])
        free = np.asarray(self._sim.pathfinder.get_topdown_view(metres, height), bool)
        picture = np.where(free[..., None], FREE, OCCUPIED).astype(np.uint8)
        # Rows run along habitat's z, which is minus our y: the last row is the lowest.
        return picture, np.array([low[0], -(low[2] + free.shape[0] * metres)]), 1.0 / metres

    def close(self) -> None:
        """Do nothing: the environment closes the simulator."""
