"""A navigation simulator in numpy whose geodesic distances can be worked out by hand.

A point robot on the square [0, 5] x [0, 5]. Scene "square" is empty, "gap" has a thin wall at
x = 2 with a gap for 3 <= y <= 4, "sealed" the same wall without the gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from sim_adapters.pointgoal import Episode

SIZE = 5.0
WALL_X = 2.0
GAPS: dict[str, tuple[float, float] | None] = {"gap": (3.0, 4.0), "sealed": None}
#: the robot stops this far from what it touches
SKIN = 1e-6


def episode(
    goal: Sequence[float],
    start: Sequence[float] = (1.0, 1.0),
    heading: float = 0.0,
    scene: str = "square",
    name: str = "0",
) -> Episode:
    """An episode on the plane; its recorded distance is the straight one (not used by the task)."""
    distance = math.hypot(goal[0] - start[0], goal[1] - start[1])
    return Episode(
        name, scene, (start[0], start[1], 0.0), heading, (goal[0], goal[1], 0.0), distance
    )


class Flatland:
    """See the module; depth is the straight distance to the goal in every pixel."""

    observation_space = spaces.Dict({"depth": spaces.Box(0.0, 10.0, (4, 4, 1), np.float32)})

    def __init__(self) -> None:
        self.scene = ""
        self.closed = 0
        self._xy = np.zeros(2)
        self._heading = 0.0
        self._goal = np.zeros(2)

    def load_scene(self, scene_id: str) -> None:
        self.scene = scene_id

    def set_pose(self, position: Sequence[float], heading: float) -> None:
        self._xy = np.array(position[:2], dtype=np.float64)
        self._heading = heading

    @property
    def position(self) -> np.ndarray:
        return np.array([self._xy[0], self._xy[1], 0.0])

    @property
    def heading(self) -> float:
        return self._heading

    def _crosses_wall(self, a: np.ndarray, b: np.ndarray) -> bool:
        if self.scene == "square" or (a[0] - WALL_X) * (b[0] - WALL_X) > 0:
            return False
        if a[0] == b[0]:
            return False
        gap = GAPS[self.scene]
        y = a[1] + (b[1] - a[1]) * (WALL_X - a[0]) / (b[0] - a[0])
        return gap is None or not gap[0] <= y <= gap[1]

    def move(self, forward_m: float, turn_rad: float) -> bool:
        self._heading += turn_rad
        direction = np.array([math.cos(self._heading), math.sin(self._heading)])
        end = self._xy + forward_m * direction
        free = 1.0
        for axis in (0, 1):
            if end[axis] < 0:
                free = min(free, self._xy[axis] / (self._xy[axis] - end[axis]))
            elif end[axis] > SIZE:
                free = min(free, (SIZE - self._xy[axis]) / (end[axis] - self._xy[axis]))
        if self._crosses_wall(self._xy, end):
            free = min(free, (WALL_X - self._xy[0]) / (end[0] - self._xy[0]))
        if free == 1.0:
            self._xy = end
            return False
        self._xy = self._xy + max(0.0, free * abs(forward_m) - SKIN) * direction
        return True

    def observe(self) -> dict[str, np.ndarray]:
        straight = float(np.linalg.norm(self._goal - self._xy))
        return {"depth": np.full((4, 4, 1), min(straight, 10.0), np.float32)}

    def set_goal(self, position: Sequence[float]) -> None:
        self._goal = np.array(position[:2], dtype=np.float64)

    def distance_to_goal(self, position: Sequence[float]) -> float:
        path = self.shortest_path(position)
        return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum()) if len(path) else math.inf

    def shortest_path(self, position: Sequence[float]) -> np.ndarray:
        here, gap = np.array(position[:2], dtype=np.float64), GAPS.get(self.scene)
        if not self._crosses_wall(here, self._goal):
            corners = [here, self._goal]
        elif gap is None:
            return np.zeros((0, 3))
        else:
            # One wall, one gap: a shortest path that is not straight bends at one of its ends.
            edges = [np.array([WALL_X, y]) for y in gap]
            ways = [np.linalg.norm(e - here) + np.linalg.norm(e - self._goal) for e in edges]
            corners = [here, edges[int(np.argmin(ways))], self._goal]
        return np.array([[x, y, 0.0] for x, y in corners])

    def close(self) -> None:
        self.closed += 1


class NoisyFlatland(Flatland):
    """Adds sensor noise to depth, drawn anew at every look."""

    def __init__(self) -> None:
        super().__init__()
        self._rng = np.random.default_rng()

    def seed(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def observe(self) -> dict[str, np.ndarray]:
        clean = super().observe()["depth"]
        noise = self._rng.uniform(0.0, 0.1, clean.shape)
        return {"depth": np.clip(clean + noise, 0.0, 10.0).astype(np.float32)}


class SampledEpisodes:
    """Draws a scene, a start, a heading and a goal."""

    def __call__(self, rng: np.random.Generator) -> Episode:
        scene = ("square", "gap")[int(rng.integers(2))]
        start, goal = rng.uniform(0.3, 1.7, 2), rng.uniform(2.3, 4.7, 2)
        heading = float(rng.uniform(-math.pi, math.pi))
        return episode(tuple(goal), tuple(start), heading, scene, str(rng.integers(10**6)))


def as_any(value: Any) -> Any:
    """Hide the type of `value`, for tests that pass what the annotations forbid."""
    return value
