"""Top-down pictures of an episode: the floor, start, goal, the shortest path and the robot's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image, ImageDraw

__all__ = ["EpisodeMap", "PathPicture"]

_SHORTEST = (120, 120, 120)
_START, _GOAL, _ROBOT = (40, 90, 200), (20, 150, 60), (230, 70, 30)
_EARLY, _LATE = np.array((250, 190, 60)), np.array((215, 40, 40))  # the path's colours over time
_SMOOTH = 2  # drawn this many times larger, then shrunk
_FLOOR_SIZE = 512
_MARGIN_M = 0.5  # around the path where the simulator has no map


@dataclass
class EpisodeMap:
    """The map of one episode.

    Attributes:
        floor: uint8 (H, W, 3), seen from above, +x to the right and +y up.
        low: world (x, y) in metres of the picture's lower left corner.
        pixels_per_m: scale of `floor`.
        start, goal: (x, y) in metres.
        shortest: corners (n, 2) of a shortest path, metres.
    """

    floor: np.ndarray | None
    low: np.ndarray
    pixels_per_m: float
    start: np.ndarray
    goal: np.ndarray
    shortest: np.ndarray

    @classmethod
    def of(cls, env: gym.Env) -> EpisodeMap | None:
        """The map of a navigation environment that was just reset; None for other tasks.

        A simulator may offer `top_down(size)`: a picture of the floor, uint8 (H, W, 3) with +y up,
        whose longer side has `size` pixels, the world (x, y) in metres of its lower left corner,
        and its pixels a metre. Without it the path is drawn on white.
        """
        from sim_adapters.pointgoal import NavigationTask

        task: Any = env.unwrapped
        if not isinstance(task, NavigationTask) or task.episode is None:
            return None
        simulator: Any = task.simulator
        start = simulator.position[:2]
        goal = np.asarray(task.episode.goal_position[:2], np.float64)
        shortest = np.asarray(simulator.shortest_path(simulator.position.tolist()))[:, :2]
        if not hasattr(simulator, "top_down"):
            return cls(None, np.zeros(2), 1.0, start, goal, shortest)
        floor, low, pixels_per_m = simulator.top_down(_FLOOR_SIZE)
        return cls(floor, np.asarray(low)[:2], pixels_per_m, start, goal, shortest)


class PathPicture:
    """An episode's map and path, prepared once and drawn up to any step.

    Args:
        map: where the path goes.
        path: positions (n, 2) in metres, one an observation.
        size: side of the square pictures, pixels.
    """

    def __init__(self, map: EpisodeMap, path: np.ndarray, size: int) -> None:
        self._map, self._path, self._size = map, np.asarray(path, np.float64), size
        side = size * _SMOOTH
        self._base = Image.new("RGB", (side, side), (255, 255, 255))
        self._to_pixels = self._place_floor()
        self._pen(self._base).line(map.shortest, _SHORTEST, 0.6)

    def draw(self, step: int | None = None, heading: float | None = None) -> np.ndarray:
        """The path up to `step`, or all of it, uint8 (size, size, 3); with a heading, the robot."""
        canvas = self._base.copy()
        pen = self._pen(canvas)
        path = self._path if step is None else self._path[: step + 1]
        moved = np.ones(len(path), bool)
        moved[1:] = np.abs(np.diff(path, axis=0)).sum(axis=1) > 1e-6
        self._draw_path(pen, path[moved])
        pen.disc(self._map.start, _START, 2.2)
        pen.star(self._map.goal, _GOAL)
        if heading is not None:
            pen.arrow(path[-1], heading, _ROBOT)
        return np.asarray(canvas.resize((self._size, self._size), Image.Resampling.BOX))

    @staticmethod
    def _draw_path(pen: _Pen, path: np.ndarray) -> None:
        shade = np.linspace(0.0, 1.0, max(2, len(path)))[:, None]
        colours = (_EARLY * (1 - shade) + _LATE * shade).astype(int).tolist()
        for k in range(len(path) - 1):
            pen.line(path[k : k + 2], tuple(colours[k]), 1.3)

    def _pen(self, canvas: Image.Image) -> _Pen:
        return _Pen(
            ImageDraw.Draw(canvas), self._to_pixels, unit=_SMOOTH * (1.0 + self._size / 192)
        )

    def _place_floor(self) -> _ToPixels:
        """Paste the floor, as large as fits, in the middle; returns where metres go."""
        map, side = self._map, self._base.width
        if map.floor is None:
            points = np.vstack([self._path, map.shortest, map.goal[None], map.start[None]])
            low, high = points.min(0) - _MARGIN_M, points.max(0) + _MARGIN_M
            return _ToPixels((low + high) / 2, side / float((high - low).max()), side)
        height, width = map.floor.shape[:2]
        factor = side / max(height, width)
        size = max(1, round(width * factor)), max(1, round(height * factor))
        picture = Image.fromarray(map.floor).resize(size, Image.Resampling.BILINEAR)
        self._base.paste(picture, ((side - size[0]) // 2, (side - size[1]) // 2))
        middle = map.low + np.array([width, height]) / map.pixels_per_m / 2
        return _ToPixels(middle, map.pixels_per_m * factor, side)


@dataclass(frozen=True)
class _ToPixels:
    """World metres to pixels of a square picture, y up."""

    middle: np.ndarray
    scale: float
    side: int

    def __call__(self, point: Sequence[float] | np.ndarray) -> tuple[float, float]:
        x, y = (np.asarray(point, np.float64)[:2] - self.middle) * self.scale
        return self.side / 2 + float(x), self.side / 2 - float(y)


@dataclass(frozen=True)
class _Pen:
    """Draws in world coordinates; sizes in `unit` pixels."""

    on: ImageDraw.ImageDraw
    to_pixels: _ToPixels
    unit: float

    def line(self, points: np.ndarray, colour: tuple[int, ...], width: float) -> None:
        if len(points) > 1:
            pixels = [self.to_pixels(p) for p in points]
            thick = max(1, round(width * self.unit))
            self.on.line(pixels, fill=colour, width=thick, joint="curve")

    def disc(self, point: np.ndarray, colour: tuple[int, int, int], radius: float) -> None:
        x, y = self.to_pixels(point)
        r = radius * self.unit
        edge = max(1, round(0.4 * self.unit))
        self.on.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline="white", width=edge)

    def star(self, point: np.ndarray, colour: tuple[int, int, int]) -> None:
        """A star with five points, which no robot or start looks like."""
        x, y = self.to_pixels(point)
        corners = []
        for k in range(10):
            r = (3.8 if k % 2 == 0 else 1.6) * self.unit
            angle = math.pi / 2 + k * math.pi / 5
            corners.append((x + r * math.cos(angle), y - r * math.sin(angle)))
        self.on.polygon(corners, fill=colour, outline="white")

    def arrow(self, point: np.ndarray, heading: float, colour: tuple[int, int, int]) -> None:
        x, y = self.to_pixels(point)
        corners = []
        for turn, reach in ((0.0, 4.2), (2.5, 3.2), (math.pi, 1.2), (-2.5, 3.2)):
            angle, r = heading + turn, reach * self.unit
            corners.append((x + r * math.cos(angle), y - r * math.sin(angle)))
        self.on.polygon(corners, fill=colour, outline="white")
