"""What habitat-lab asks of habitat-sim's path finder, answered from our floor grids.

Points are habitat's: (x, y, z) in metres, y up.
"""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

import numpy as np

from sim_adapters.bullet import motion
from sim_adapters.bullet.scene import Floor
from sim_adapters.bullet.simulator import BulletSimulator
from sim_adapters.episodes import position_from_habitat, position_to_habitat

CONTACT_M = 1e-6
"""A disc that rests against an obstacle may sink this far into it by rounding."""


class Vector(np.ndarray):
    """Three numbers with the one method of magnum's Vector3 that navigation uses."""

    @classmethod
    def of(cls, values: Any) -> Vector:
        """A copy of three numbers, float64 (3,)."""
        return np.array(values, dtype=np.float64).view(cls)

    def dot(self, other: Any = None, out: Any = None) -> Any:
        """The product with `other`, or the squared length."""
        return float(np.dot(np.asarray(self), np.asarray(self if other is None else other)))


class NavMesh:
    """Where the robot may stand and go, in the simulator's current scene."""

    def __init__(self, simulator: BulletSimulator) -> None:
        self._simulator = simulator

    def _floor(self, point: Sequence[float]) -> Floor:
        return self._simulator.scene.floor_at(float(point[1]))

    def is_navigable(self, point: Sequence[float], max_y_delta: float = 0.5) -> bool:
        """Whether the robot fits at `point`, at most `max_y_delta` metres above or below a floor."""
        floor = self._floor(point)
        if abs(floor.height - float(point[1])) > max_y_delta:
            return False
        flat = np.array(position_from_habitat(point)[:2])
        return _fits(floor, flat, self._simulator.agent_radius_m)

    def get_random_navigable_point(self, rng: np.random.Generator) -> List[float]:
        """A point on a random floor, uniform over where the robot can get about."""
        floors = self._simulator.scene.floors
        area = np.array([len(floor.standing) for floor in floors], dtype=np.float64)
        floor = floors[int(rng.choice(len(floors), p=area / area.sum()))]
        centre = floor.grid.centre(floor.standing[int(rng.integers(len(floor.standing)))])
        aside = centre + rng.uniform(-0.5, 0.5, 2) * floor.grid.cell
        x, y = aside if _fits(floor, aside, self._simulator.agent_radius_m) else centre
        return list(position_to_habitat((float(x), float(y), floor.height)))

    def island_radius(self, point: Sequence[float]) -> float:
        """Metres from the middle of the connected area at `point` to its farthest cell; 0 if none."""
        grid = self._floor(point).grid
        cell = grid.snap(position_from_habitat(point))
        if cell is None:
            return 0.0
        cells = np.argwhere(grid.component == grid.component[cell])
        return float(np.linalg.norm(cells - cells.mean(axis=0), axis=1).max() * grid.cell)

    def distance_to_closest_obstacle(
        self, point: Sequence[float], max_search_radius: float
    ) -> float:
        """Metres that the robot's body can move in every direction, at most `max_search_radius`."""
        flat = np.array(position_from_habitat(point)[:2])
        gap = motion.clearance(flat, self._floor(point).obstacles) - self._simulator.agent_radius_m
        return float(np.clip(gap, 0.0, max_search_radius))

    def try_step(self, start: Sequence[float], end: Sequence[float]) -> Vector:
        """Where a move from `start` towards `end` ends when the robot slides along obstacles."""
        return self._step(start, end, sliding=True)

    def try_step_no_sliding(self, start: Sequence[float], end: Sequence[float]) -> Vector:
        """Where a move from `start` towards `end` ends when obstacles stop the robot."""
        return self._step(start, end, sliding=False)

    def _step(self, start: Sequence[float], end: Sequence[float], sliding: bool) -> Vector:
        a, b = (np.array(position_from_habitat(p)[:2]) for p in (start, end))
        reached, _ = self._simulator.travel(a, b - a, sliding)
        x, y = (float(v) for v in reached)
        return Vector.of(position_to_habitat((x, y, self._simulator.floor.height)))

    def get_bounds(self) -> Tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest corner of all floors, float64 (3,) each."""
        lows, highs = [], []
        for floor in self._simulator.scene.floors:
            x, y = floor.grid.origin
            size_x, size_y = np.array(floor.grid.free.shape) * floor.grid.cell
            lows.append((x, floor.height, -(y + size_y)))
            highs.append((x + size_x, floor.height, -y))
        return np.array(lows).min(axis=0), np.array(highs).max(axis=0)

    def get_topdown_view(self, meters_per_pixel: float, height: float) -> np.ndarray:
        """Where the robot fits on the floor at `height`, bool; rows along z, columns along x."""
        low, high = self.get_bounds()
        columns = np.arange(low[0], high[0], meters_per_pixel)
        rows = np.arange(low[2], high[2], meters_per_pixel)
        floor = self._simulator.scene.floor_at(float(height))
        x, z = np.meshgrid(columns, rows)
        points = np.stack([x.ravel(), -z.ravel()], axis=1)
        raw = np.floor((points - floor.grid.origin) / floor.grid.cell).astype(int)
        shape = np.array(floor.grid.free.shape)
        inside = ((raw >= 0) & (raw < shape)).all(axis=1)
        i, j = np.clip(raw, 0, shape - 1).T
        return (inside & floor.grid.free[i, j]).reshape(x.shape)


def _fits(floor: Floor, point: np.ndarray, radius: float) -> bool:
    """Whether a disc fits at `point` (2,) of a floor."""
    is_clear = motion.clearance(point, floor.obstacles) >= radius - CONTACT_M
    return floor.grid.snap(point) is not None and bool(is_clear)
