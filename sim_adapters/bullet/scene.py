"""Scenes: what is seen, and for every floor where the agent may go."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np

from sim_adapters.bullet.geodesic import CELL_M, NavGrid, Point, free_cells
from sim_adapters.bullet.layout import Layout, build_layout

AGENT_RADIUS_M = 0.18
TIERS = ("room", "apartment")
POOL = {"train": 2000, "val": 200}
"""Number of procedural scenes of a tier in each split."""


@dataclass
class Floor:
    """One floor of a scene.

    Attributes:
        height: of the floor, metres.
        obstacles: rectangles (n, 4) that stop the agent.
        grid: geodesic distances.
        standing: cells (m, 2) of `grid`, connected, on whose centres the agent touches nothing.
    """

    height: float
    obstacles: np.ndarray
    grid: NavGrid
    standing: np.ndarray


def build_floor(
    height: float, obstacles: np.ndarray, bounds: Sequence[float], radius: float = AGENT_RADIUS_M
) -> Floor:
    """Work out where an agent of `radius` metres may go.

    Arguments:
        height: of the floor, metres.
        obstacles: rectangles (n, 4).
        bounds: (x_low, y_low, x_high, y_high) of the floor, metres.

    Raises:
        ValueError: the agent fits nowhere.
    """
    grid = NavGrid(free_cells(bounds, obstacles, radius - CELL_M / 2), bounds)
    clear = free_cells(bounds, obstacles, radius)
    standing = np.argwhere(clear & (grid.component == grid.main_component))
    if not len(standing):
        raise ValueError("the scene has no place where the agent fits")
    return Floor(height, obstacles, grid, standing)


@dataclass
class Scene:
    """A scene with either a procedural `layout` or a mesh file to show."""

    scene_id: str
    floors: List[Floor]
    layout: Optional[Layout] = None
    mesh: Optional[Path] = None

    def floor_at(self, height: float) -> Floor:
        """The floor nearest to `height` metres."""
        return min(self.floors, key=lambda floor: abs(floor.height - height))

    def distance(self, a: Point, b: Point) -> float:
        """Geodesic metres from `a` to `b` (x, y, z); inf between floors or without a way."""
        floor = self.floor_at(float(a[2]))
        if floor is not self.floor_at(float(b[2])):
            return float("inf")
        return floor.grid.distance(a[:2], b[:2])

    def path(self, a: Point, b: Point) -> np.ndarray:
        """Corners (n, 3) of a shortest path from `a` to `b` (x, y, z); (0, 3) if there is none."""
        floor = self.floor_at(float(a[2]))
        if floor is not self.floor_at(float(b[2])):
            return np.zeros((0, 3))
        flat = floor.grid.path(a[:2], b[:2])
        return np.hstack([flat, np.full((len(flat), 1), floor.height)])


def procedural_scene(scene_id: str, radius: float = AGENT_RADIUS_M) -> Scene:
    """Build a scene of a tier from its name, such as "room-train-00017", for an agent of `radius` metres."""
    layout = build_layout(scene_id)
    obstacles = np.array(layout.obstacles, dtype=np.float64)
    return Scene(scene_id, [build_floor(0.0, obstacles, layout.bounds, radius)], layout=layout)


def procedural_id(tier: str, split: str, number: int) -> str:
    """Name of a procedural scene.

    Raises:
        ValueError: unknown tier or split, or a number outside the split's pool.
    """
    if tier not in TIERS:
        raise ValueError(f"tier must be one of {TIERS}, got {tier!r}")
    if split not in POOL:
        raise ValueError(f"split must be one of {tuple(POOL)}, got {split!r}")
    if not 0 <= number < POOL[split]:
        raise ValueError(f"split {split!r} has scenes 0 to {POOL[split] - 1}, got {number}")
    return f"{tier}-{split}-{number:05d}"


def is_procedural(scene_id: str) -> bool:
    """Whether the name is one of a procedural scene."""
    return scene_id.split("-")[0] in TIERS and scene_id.count("-") == 2


@dataclass
class SceneLibrary:
    """Builds scenes by name and keeps the last few.

    Attributes:
        scenes_dir: folder that holds Gibson scenes, one folder each; "" for none.
        capacity: how many scenes are kept.
        radius: of the agent, metres.
    """

    scenes_dir: str = ""
    capacity: int = 8
    radius: float = AGENT_RADIUS_M
    _kept: OrderedDict[str, Scene] = field(default_factory=OrderedDict)

    def __call__(self, scene_id: str) -> Scene:
        """The scene of that name."""
        if scene_id in self._kept:
            self._kept.move_to_end(scene_id)
            return self._kept[scene_id]
        if is_procedural(scene_id):
            scene = procedural_scene(scene_id, self.radius)
        else:
            from sim_adapters.bullet.gibson import gibson_scene

            scene = gibson_scene(scene_id, self.scenes_dir, self.radius)
        self._kept[scene_id] = scene
        while len(self._kept) > self.capacity:
            self._kept.popitem(last=False)
        return scene
