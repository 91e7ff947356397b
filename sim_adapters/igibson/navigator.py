"""iGibson's robot and geodesic distances in our frame."""

from __future__ import annotations

from typing import Any, Dict, Sequence

import numpy as np
from gymnasium import spaces

from sim_adapters.igibson.geodesic import ScenePaths


class IGibsonNavigator:
    """Where the robot is and how far the goal, as planners ask a `NavSimulator`.

    iGibson's frame is ours: z up, headings counter-clockwise from +x. The robot moves by physics, so nothing here
    moves it: `PathFollowerPolicy` steers it along `shortest_path` through the environment's own steps.

    Args:
        env: an iGibsonEnv.
        paths: the distances of its scene.
    """

    observation_space = spaces.Dict({})

    def __init__(self, env: Any, paths: ScenePaths) -> None:
        self._env = env
        self._paths = paths
        self._goal = np.zeros(3)

    @property
    def floor(self) -> int:
        """The number of the current floor."""
        return int(self._env.task.floor_num)

    @property
    def position(self) -> np.ndarray:
        """The robot's position, float64 (3,), z the height of the floor."""
        x, y, _ = self._env.robots[0].get_position()
        return np.array([x, y, self._env.scene.get_floor_height(self.floor)], np.float64)

    @property
    def heading(self) -> float:
        """The robot's heading, radians."""
        return float(self._env.robots[0].get_rpy()[2])

    def load_scene(self, scene_id: str) -> None:
        """Do nothing: the environment loads scenes."""

    def set_pose(self, position: Sequence[float], heading: float) -> None:
        """Refuse: the robot moves by physics."""
        raise NotImplementedError("iGibson's robot moves by physics: step the environment")

    def move(self, forward_m: float, turn_rad: float) -> bool:
        """Refuse: the robot moves by physics."""
        raise NotImplementedError("iGibson's robot moves by physics: step the environment")

    def observe(self) -> Dict[str, np.ndarray]:
        """Refuse: pictures come with the environment's observations."""
        raise NotImplementedError("pictures come with the environment's observations")

    def set_goal(self, position: Sequence[float]) -> None:
        """Set the goal of the distances that follow."""
        self._goal = np.array(position, np.float64)

    def distance_to_goal(self, position: Sequence[float]) -> float:
        """Geodesic metres to the goal's centre, on iGibson's 8-connected grid."""
        return self._paths.distance(self.floor, position[:2], self._goal[:2])

    def shortest_path(self, position: Sequence[float]) -> np.ndarray:
        """Corners of the cells (n, 3) on a shortest path to the goal."""
        flat = self._paths.path(self.floor, position[:2], self._goal[:2])
        return np.hstack([flat, np.full((len(flat), 1), float(position[2]))])

    def close(self) -> None:
        """Do nothing: the environment closes the simulator."""
