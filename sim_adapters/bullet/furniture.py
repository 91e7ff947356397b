"""Pieces of furniture as lists of boxes, in the piece's own frame.

A piece stands on the floor, centred on the origin, its back towards +y. `place` turns it by a
quarter turn and moves it into the room. For motion and geodesics a piece is its footprint: the
agent (0.88 m tall) fits under no table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, Tuple

import numpy as np

Vector = Tuple[float, float, float]


@dataclass(frozen=True)
class Box:
    """An axis-aligned block: two opposite corners in metres, and the name of its material."""

    low: Vector
    high: Vector
    material: str


@dataclass(frozen=True)
class Piece:
    """A piece of furniture: its boxes and its footprint (width along x, depth along y), metres."""

    name: str
    boxes: Tuple[Box, ...]
    width: float
    depth: float


def _block(x: Tuple[float, float], y: Tuple[float, float], z: Tuple[float, float], m: str) -> Box:
    return Box((x[0], y[0], z[0]), (x[1], y[1], z[1]), m)


def _legs(w: float, d: float, height: float, material: str, side: float = 0.06) -> List[Box]:
    return [
        _block(
            (sx * w / 2 - (side if sx > 0 else 0), sx * w / 2 + (0 if sx > 0 else side)),
            (sy * d / 2 - (side if sy > 0 else 0), sy * d / 2 + (0 if sy > 0 else side)),
            (0.0, height),
            material,
        )
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]


def sofa(rng: np.random.Generator) -> Piece:
    """A sofa or, when short, an armchair: seat, back and arms."""
    w, d = float(rng.uniform(0.9, 2.1)), float(rng.uniform(0.8, 0.95))
    h = float(rng.uniform(0.75, 0.95))
    x, y = w / 2, d / 2
    boxes = [
        _block((-x + 0.18, x - 0.18), (-y, y - 0.22), (0.05, 0.44), "fabric"),
        _block((-x, x), (y - 0.22, y), (0.0, h), "fabric"),
        _block((-x, -x + 0.18), (-y, y - 0.22), (0.0, 0.62), "fabric_dark"),
        _block((x - 0.18, x), (-y, y - 0.22), (0.0, 0.62), "fabric_dark"),
    ]
    return Piece("sofa", tuple(boxes), w, d)


def shelf(rng: np.random.Generator) -> Piece:
    """A bookcase with a row of books on every board."""
    w, d, h = float(rng.uniform(0.8, 1.7)), 0.36, float(rng.uniform(1.5, 2.1))
    x, y = w / 2, d / 2
    boxes = [
        _block((-x, x), (y - 0.04, y), (0.0, h), "wood"),
        _block((-x, -x + 0.04), (-y, y - 0.04), (0.0, h), "wood"),
        _block((x - 0.04, x), (-y, y - 0.04), (0.0, h), "wood"),
        _block((-x + 0.04, x - 0.04), (-y, y - 0.04), (h - 0.04, h), "wood"),
        _block((-x + 0.04, x - 0.04), (-y, y - 0.04), (0.0, 0.1), "wood"),
    ]
    boards = int(h / 0.42)
    for k in range(boards):
        z = 0.1 + k * (h - 0.14) / boards
        tall = float(rng.uniform(0.2, 0.3))
        boxes.append(_block((-x + 0.04, x - 0.04), (-y + 0.06, y - 0.04), (z, z + tall), "books"))
        boxes.append(_block((-x + 0.04, x - 0.04), (-y, y - 0.04), (z - 0.02, z), "wood"))
    return Piece("shelf", tuple(boxes), w, d)


def cabinet(rng: np.random.Generator) -> Piece:
    """A closed cupboard, waist high to head high, with a darker top and plinth."""
    w, d = float(rng.uniform(0.6, 1.6)), float(rng.uniform(0.4, 0.6))
    h = float(rng.choice([0.85, 1.1, 1.9]))
    x, y = w / 2, d / 2
    boxes = [
        _block((-x + 0.03, x - 0.03), (-y + 0.03, y - 0.01), (0.08, h - 0.04), "panel"),
        _block((-x, x), (-y, y), (h - 0.04, h), "wood_dark"),
        _block((-x + 0.05, x - 0.05), (-y + 0.05, y), (0.0, 0.08), "wood_dark"),
    ]
    doors = max(1, int(w / 0.45))
    for k in range(doors):
        at = -x + (k + 0.85) * w / doors
        boxes.append(
            _block((at - 0.02, at), (-y + 0.01, -y + 0.03), (h / 2, h / 2 + 0.14), "metal")
        )
    return Piece("cabinet", tuple(boxes), w, d)


def table(rng: np.random.Generator) -> Piece:
    """A table with chairs pushed against its long sides."""
    w, d, h = float(rng.uniform(1.0, 1.8)), float(rng.uniform(0.75, 1.0)), 0.74
    boxes = [_block((-w / 2, w / 2), (-d / 2, d / 2), (h - 0.05, h), "wood")]
    boxes += _legs(w - 0.06, d - 0.06, h - 0.05, "wood_dark")
    for sign in (-1, 1):
        for k in range(int(w / 0.75)):
            x = (k + 0.5) * w / int(w / 0.75) - w / 2
            y0, y1 = sorted((sign * (d / 2 - 0.25), sign * (d / 2 + 0.15)))
            b0, b1 = sorted((sign * (d / 2 + 0.1), sign * (d / 2 + 0.15)))
            boxes.append(_block((x - 0.21, x + 0.21), (y0, y1), (0.42, 0.47), "fabric_dark"))
            boxes.append(_block((x - 0.21, x + 0.21), (b0, b1), (0.0, 0.92), "wood_dark"))
            f0, f1 = sorted((sign * (d / 2 - 0.25), sign * (d / 2 - 0.2)))
            boxes.append(_block((x - 0.2, x + 0.2), (f0, f1), (0.0, 0.42), "wood_dark"))
    return Piece("table", tuple(boxes), w, d + 0.3)


def desk(rng: np.random.Generator) -> Piece:
    """A desk against the wall with a screen on it."""
    w, d, h = float(rng.uniform(1.1, 1.6)), 0.7, 0.74
    boxes = [_block((-w / 2, w / 2), (-d / 2, d / 2), (h - 0.04, h), "wood")]
    boxes += [
        _block((-w / 2, -w / 2 + 0.42), (-d / 2 + 0.05, d / 2), (0.0, h - 0.04), "panel"),
        _block((w / 2 - 0.05, w / 2), (-d / 2, d / 2), (0.0, h - 0.04), "wood"),
        _block((-0.3, 0.3), (d / 2 - 0.2, d / 2 - 0.16), (h + 0.08, h + 0.46), "screen"),
        _block((-0.04, 0.04), (d / 2 - 0.18, d / 2 - 0.14), (h, h + 0.08), "metal"),
    ]
    return Piece("desk", tuple(boxes), w, d)


def bed(rng: np.random.Generator) -> Piece:
    """A bed: frame, mattress, pillows, headboard."""
    w, d = float(rng.choice([0.95, 1.4, 1.7])), 2.05
    x, y = w / 2, d / 2
    boxes = [
        _block((-x, x), (-y, y - 0.08), (0.08, 0.3), "wood_dark"),
        _block((-x + 0.03, x - 0.03), (-y + 0.03, y - 0.08), (0.3, 0.52), "fabric"),
        _block((-x, x), (y - 0.08, y), (0.0, 1.05), "wood"),
        _block((-x + 0.12, x - 0.12), (y - 0.5, y - 0.12), (0.52, 0.64), "linen"),
    ]
    return Piece("bed", tuple(boxes), w, d)


def plant(rng: np.random.Generator) -> Piece:
    """A potted plant."""
    s, h = float(rng.uniform(0.34, 0.46)), float(rng.uniform(1.0, 1.6))
    x = s / 2
    boxes = [
        _block((-x + 0.04, x - 0.04), (-x + 0.04, x - 0.04), (0.0, 0.34), "pot"),
        _block((-0.03, 0.03), (-0.03, 0.03), (0.34, 0.55), "wood_dark"),
        _block((-x, x), (-x, x), (0.5, 0.5 + (h - 0.5) * 0.6), "leaves"),
        _block((-x + 0.08, x - 0.08), (-x + 0.08, x - 0.08), (0.5 + (h - 0.5) * 0.6, h), "leaves"),
    ]
    return Piece("plant", tuple(boxes), s, s)


def island(rng: np.random.Generator) -> Piece:
    """A kitchen island: a heavy block with a light top."""
    w, d, h = float(rng.uniform(1.2, 2.0)), float(rng.uniform(0.7, 0.95)), 0.95
    boxes = [
        _block(
            (-w / 2 + 0.05, w / 2 - 0.05), (-d / 2 + 0.05, d / 2 - 0.05), (0, h - 0.06), "panel"
        ),
        _block((-w / 2, w / 2), (-d / 2, d / 2), (h - 0.06, h), "stone"),
    ]
    return Piece("island", tuple(boxes), w, d)


AGAINST_WALL: Dict[str, Callable[[np.random.Generator], Piece]] = {
    "sofa": sofa,
    "shelf": shelf,
    "cabinet": cabinet,
    "desk": desk,
    "bed": bed,
    "plant": plant,
}
FREE_STANDING: Dict[str, Callable[[np.random.Generator], Piece]] = {
    "table": table,
    "island": island,
    "sofa": sofa,
    "shelf": shelf,
    "plant": plant,
}


def footprint(piece: Piece, x: float, y: float, quarter: int) -> Tuple[float, float, float, float]:
    """Rectangle (x_low, y_low, x_high, y_high) of a piece at (x, y) after `quarter` turns."""
    w, d = (piece.width, piece.depth) if quarter % 2 == 0 else (piece.depth, piece.width)
    return x - w / 2, y - d / 2, x + w / 2, y + d / 2


def place(piece: Piece, x: float, y: float, quarter: int) -> List[Box]:
    """The piece's boxes in the room, turned counter-clockwise by `quarter` right angles."""
    placed = []
    for box in piece.boxes:
        corners = [_turn(box.low, quarter), _turn(box.high, quarter)]
        low = (min(c[0] for c in corners) + x, min(c[1] for c in corners) + y, box.low[2])
        high = (max(c[0] for c in corners) + x, max(c[1] for c in corners) + y, box.high[2])
        placed.append(Box(low, high, box.material))
    return placed


def _turn(point: Vector, quarter: int) -> Tuple[float, float]:
    x, y = point[0], point[1]
    for _ in range(quarter % 4):
        x, y = -y, x
    return x, y
