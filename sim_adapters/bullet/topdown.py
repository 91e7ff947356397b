"""Maps seen from above, for videos and figures."""

from __future__ import annotations

from typing import Dict, Optional, Sequence, Tuple

import numpy as np

from sim_adapters.bullet.scene import Scene
from sim_adapters.bullet.textures import pictures

Colour = Tuple[int, int, int]

FREE: Colour = (235, 235, 235)
OCCUPIED: Colour = (90, 90, 90)
OUTSIDE: Colour = (255, 255, 255)
SHORTEST: Colour = (60, 160, 75)
TRAIL: Colour = (30, 90, 220)
START: Colour = (40, 40, 220)
GOAL: Colour = (220, 30, 40)
AGENT: Colour = (250, 140, 20)
CUT_M = 2.0
"""Nothing higher than this is drawn: lintels and the ceiling are lifted off."""


class TopDownMap:
    """The floor plan of a scene as a picture, north (+y) up.

    Arguments:
        scene: what to draw.
        height: of the floor to draw, metres.
        size: pixels of the longer side.

    Attributes:
        image: the floor plan, uint8 (H, W, 3).
        low: world (x, y) of its lower left corner, metres.
        pixels_per_m: its scale.
    """

    def __init__(self, scene: Scene, height: float = 0.0, size: int = 256) -> None:
        floor = scene.floor_at(height)
        extent = np.array(floor.grid.free.shape) * floor.grid.cell
        margin = 0.2
        self.low = floor.grid.origin - margin
        self.pixels_per_m = size / float((extent + 2 * margin).max())
        columns, rows = np.round((extent + 2 * margin) * self.pixels_per_m).astype(int)
        self.image = np.empty((int(rows), int(columns), 3), dtype=np.uint8)
        self.image[:] = OUTSIDE
        if scene.layout is not None:
            self._draw_layout(scene)
        else:
            self._draw_obstacles(floor.obstacles, extent)

    def draw(
        self,
        *,
        start: Optional[Sequence[float]] = None,
        goal: Optional[Sequence[float]] = None,
        shortest: Optional[np.ndarray] = None,
        trail: Optional[np.ndarray] = None,
        position: Optional[Sequence[float]] = None,
        heading: float = 0.0,
    ) -> np.ndarray:
        """A copy of the map, uint8 (H, W, 3), with what is given drawn on it.

        Arguments:
            start, goal: points (x, y, ...), metres.
            shortest, trail: polylines (n, 2 or more), metres.
            position, heading: of the agent.
        """
        picture = self.image.copy()
        if shortest is not None:
            self._line(picture, shortest, SHORTEST, 0.05)
        if trail is not None:
            self._line(picture, trail, TRAIL, 0.05)
        for point, colour in ((start, START), (goal, GOAL)):
            if point is not None:
                self._disc(picture, np.asarray(point)[:2], 0.13, colour)
        if position is not None:
            at = np.asarray(position, dtype=np.float64)[:2]
            nose = at + 0.35 * np.array([np.cos(heading), np.sin(heading)])
            self._line(picture, np.stack([at, nose]), (0, 0, 0), 0.05)
            self._disc(picture, at, 0.18, AGENT)
        return picture

    def _pixel(self, points: np.ndarray) -> np.ndarray:
        """(column, row) of points (..., 2), not rounded."""
        at = (np.asarray(points, dtype=np.float64)[..., :2] - self.low) * self.pixels_per_m
        return np.stack([at[..., 0], self.image.shape[0] - at[..., 1]], axis=-1)

    def _draw_layout(self, scene: Scene) -> None:
        assert scene.layout is not None
        means = _mean_colours()
        boxes = [box for box in scene.layout.boxes if box.low[2] < CUT_M]
        for box in sorted(boxes, key=lambda box: min(box.high[2], CUT_M)):
            paint = scene.layout.paints[box.material]
            colour = means[paint.picture] * np.array(paint.tint)
            if box.material == "floor":  # pale, so that what stands on it stands out
                colour = 0.45 * colour + 0.55 * 255.0
            elif box.material.startswith(("wall", "partition")):
                colour = 0.5 * colour
            self._fill((*box.low[:2], *box.high[:2]), colour)

    def _draw_obstacles(self, obstacles: np.ndarray, extent: np.ndarray) -> None:
        low = self.low + 0.2
        self._fill((low[0], low[1], low[0] + extent[0], low[1] + extent[1]), np.array(FREE))
        for rectangle in obstacles:
            self._fill(rectangle, np.array(OCCUPIED))

    def _fill(self, rectangle: Sequence[float], colour: np.ndarray) -> None:
        a = self._pixel(np.array([rectangle[0], rectangle[3]]))
        b = self._pixel(np.array([rectangle[2], rectangle[1]]))
        columns, rows = np.maximum(np.round(np.stack([a, b], axis=-1)).astype(int), 0)
        self.image[
            rows[0] : max(rows[1], rows[0] + 1), columns[0] : max(columns[1], columns[0] + 1)
        ] = colour

    def _disc(self, picture: np.ndarray, at: np.ndarray, radius: float, colour: Colour) -> None:
        column, row = self._pixel(at)
        r = max(1.5, radius * self.pixels_per_m)
        j, i = np.meshgrid(np.arange(picture.shape[1]), np.arange(picture.shape[0]))
        picture[(i - row) ** 2 + (j - column) ** 2 <= r**2] = colour

    def _line(self, picture: np.ndarray, points: np.ndarray, colour: Colour, width: float) -> None:
        pixels = self._pixel(np.asarray(points))
        half = max(0, round(width * self.pixels_per_m / 2))
        for a, b in zip(pixels[:-1], pixels[1:]):
            count = int(np.ceil(np.abs(b - a).max())) + 1
            for column, row in np.round(np.linspace(a, b, count)).astype(int):
                picture[
                    max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1
                ] = colour


_MEANS: Dict[str, np.ndarray] = {}


def _mean_colours() -> Dict[str, np.ndarray]:
    if not _MEANS:
        _MEANS.update({name: p.mean(axis=(0, 1)) for name, p in pictures().items()})
    return _MEANS
