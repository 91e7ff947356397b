"""Floor plans: what a scene is made of before any simulator sees it.

A layout is a pure function of its scene's name. Tiers: `room`, one furnished room of 5 to 7 m a
side with low and high partitions; `apartment`, three to six rooms joined by doorways (see apartments.py).
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from sim_adapters.bullet.furniture import (
    AGAINST_WALL,
    FREE_STANDING,
    Box,
    Piece,
    footprint,
    place,
)
from sim_adapters.bullet.textures import Paint, palette

Rectangle = Tuple[float, float, float, float]

CEILING_M = 2.6
WALL_M = 0.12
PASSAGE_M = 0.75
"""Two obstacles either touch or leave at least this much between them."""
DOORWAY_M = 0.9


@dataclass(frozen=True)
class Light:
    """The lamp of a scene: where it shines from, and how strongly (coefficients of Phong)."""

    direction: Tuple[float, float, float]
    colour: Tuple[float, float, float]
    ambient: float
    diffuse: float


@dataclass
class Layout:
    """A floor plan.

    Attributes:
        bounds: (x_low, y_low, x_high, y_high) of the inside, metres.
        boxes: everything that is seen.
        obstacles: rectangles that stop the agent.
        rooms: inside rectangle of every room.
        paints: what each material looks like.
        light: the lamp.
    """

    bounds: Rectangle
    boxes: List[Box] = field(default_factory=list)
    obstacles: List[Rectangle] = field(default_factory=list)
    rooms: List[Rectangle] = field(default_factory=list)
    paints: Dict[str, Paint] = field(default_factory=dict)
    light: Optional[Light] = None

    def add_wall(self, wall: Rectangle, material: str, height: float = CEILING_M) -> None:
        """A solid wall over the whole rectangle."""
        self.boxes.append(Box((wall[0], wall[1], 0.0), (wall[2], wall[3], height), material))
        self.obstacles.append(wall)


def gap(a: Sequence[float], b: Sequence[float]) -> float:
    """Distance in metres between two rectangles, 0 if they touch."""
    dx = max(a[0] - b[2], b[0] - a[2], 0.0)
    dy = max(a[1] - b[3], b[1] - a[3], 0.0)
    return math.hypot(dx, dy)


def scene_rng(scene_id: str, attempt: int = 0) -> np.random.Generator:
    """The random numbers of a scene; a crc32, since `hash` of a string differs between runs."""
    return np.random.default_rng([zlib.crc32(scene_id.encode()), attempt])


def draw_light(rng: np.random.Generator) -> Light:
    """A lamp above the room, off centre, warm or cold."""
    turn = rng.uniform(0, 2 * np.pi)
    warm = rng.uniform(-0.12, 0.12)
    return Light(
        direction=(float(np.cos(turn)), float(np.sin(turn)), float(rng.uniform(0.8, 1.8))),
        colour=(min(1.0, 1.0 + float(warm)), 1.0, min(1.0, 1.0 - float(warm))),
        ambient=float(rng.uniform(0.5, 0.65)),
        diffuse=float(rng.uniform(0.3, 0.5)),
    )


def room_layout(rng: np.random.Generator) -> Layout:
    """One furnished room with partitions that hide parts of it from each other."""
    width, depth = (float(v) for v in rng.uniform(5.0, 7.0, 2))
    layout = Layout(bounds=(0.0, 0.0, width, depth))
    layout.rooms.append(layout.bounds)
    layout.paints, layout.light = palette(rng), draw_light(rng)
    add_shell(layout)
    _add_partitions(layout, rng)
    furnish(layout, layout.bounds, rng, against_wall=5, free_standing=3)
    hang_decoration(layout, layout.bounds, "wall0", rng)
    return layout


def add_shell(layout: Layout, material: str = "wall0") -> None:
    """Floor, ceiling and the four outer walls."""
    x0, y0, x1, y1 = layout.bounds
    t = WALL_M
    layout.boxes.append(Box((x0 - t, y0 - t, -0.05), (x1 + t, y1 + t, 0.0), "floor"))
    layout.boxes.append(
        Box((x0 - t, y0 - t, CEILING_M), (x1 + t, y1 + t, CEILING_M + 0.05), "ceiling")
    )
    layout.add_wall((x0 - t, y0 - t, x1 + t, y0), material)
    layout.add_wall((x0 - t, y1, x1 + t, y1 + t), material)
    layout.add_wall((x0 - t, y0, x0, y1), material)
    layout.add_wall((x1, y0, x1 + t, y1), material)


def _add_partitions(layout: Layout, rng: np.random.Generator) -> None:
    """Two or three partitions from the walls, staggered, that hide and block a third of the way across."""
    x0, y0, x1, y1 = layout.bounds
    along_x = bool(rng.random() < 0.5)  # the partitions' normal points along x
    length, across = (x1 - x0, y1 - y0) if along_x else (y1 - y0, x1 - x0)
    count = 2 if length < 6.3 or rng.random() < 0.5 else 3
    side = int(rng.integers(2))
    for k in range(count):
        at = length * (k + 1) / (count + 1) + float(rng.uniform(-0.3, 0.3))
        reach = across * float(rng.uniform(0.25, 0.45))
        low, high = (0.0, reach) if side == 0 else (across - reach, across)
        if rng.random() < 0.35:  # a free-standing screen
            shift = float(rng.uniform(0.8, max(0.85, across - reach - 0.8)))
            low, high = shift, min(shift + reach, across - 0.8)
        t = WALL_M / 2
        wall = (at - t, low, at + t, high) if along_x else (low, at - t, high, at + t)
        height = CEILING_M if rng.random() < 0.5 else float(rng.uniform(1.0, 1.7))
        layout.add_wall(wall, "partition", height)
        side = 1 - side if rng.random() < 0.8 else side


def furnish(
    layout: Layout,
    room: Rectangle,
    rng: np.random.Generator,
    against_wall: int,
    free_standing: int,
    keep_clear: Sequence[Rectangle] = (),
) -> None:
    """Put furniture into a room, as far as it fits with `PASSAGE_M` around it.

    Arguments:
        room: inside rectangle of the room.
        against_wall, free_standing: how many pieces to aim for.
        keep_clear: rectangles no piece may touch (doorways).
    """
    makers = list(AGAINST_WALL.values())
    for _ in range(against_wall):
        _try_place(layout, room, rng, makers, _wall_pose, keep_clear)
    makers = list(FREE_STANDING.values())
    for _ in range(free_standing):
        _try_place(layout, room, rng, makers, _free_pose, keep_clear)


def _try_place(
    layout: Layout,
    room: Rectangle,
    rng: np.random.Generator,
    makers: Sequence[Callable[[np.random.Generator], Piece]],
    pose: Callable[[Piece, Rectangle, np.random.Generator], Tuple[float, float, int]],
    keep_clear: Sequence[Rectangle],
) -> None:
    for _ in range(12):
        piece = makers[int(rng.integers(len(makers)))](rng)
        x, y, quarter = pose(piece, room, rng)
        print_ = footprint(piece, x, y, quarter)
        if _fits(print_, room, layout.obstacles) and all(gap(print_, c) > 0 for c in keep_clear):
            layout.boxes.extend(place(piece, x, y, quarter))
            layout.obstacles.append(print_)
            return


def _wall_pose(piece: Piece, room: Rectangle, rng: np.random.Generator) -> Tuple[float, float, int]:
    """Back to a random wall of the room, sometimes right into a corner."""
    quarter = int(rng.integers(4))
    x0, y0, x1, y1 = room
    w, d = piece.width, piece.depth
    along, across = (x1 - x0, y1 - y0) if quarter % 2 == 0 else (y1 - y0, x1 - x0)
    u = float(rng.uniform(w / 2, max(w / 2 + 1e-3, along - w / 2)))
    if rng.random() < 0.4:
        u = w / 2 if rng.random() < 0.5 else along - w / 2
    v = across - d / 2
    return {
        0: (x0 + u, y0 + v, 0),
        1: (x1 - v, y0 + u, 1),
        2: (x0 + u, y1 - v, 2),
        3: (x0 + v, y0 + u, 3),
    }[quarter]


def _free_pose(piece: Piece, room: Rectangle, rng: np.random.Generator) -> Tuple[float, float, int]:
    x0, y0, x1, y1 = room
    x, y = float(rng.uniform(x0 + 0.5, x1 - 0.5)), float(rng.uniform(y0 + 0.5, y1 - 0.5))
    return x, y, int(rng.integers(4))


def _fits(rect: Rectangle, room: Rectangle, obstacles: Sequence[Rectangle]) -> bool:
    """Inside the room, and from every obstacle either `PASSAGE_M` away or in full contact."""
    if rect[0] < room[0] - 1e-6 or rect[1] < room[1] - 1e-6:
        return False
    if rect[2] > room[2] + 1e-6 or rect[3] > room[3] + 1e-6:
        return False
    for other in obstacles:
        # Negative where the two overlap along an axis.
        apart_x = max(rect[0] - other[2], other[0] - rect[2])
        apart_y = max(rect[1] - other[3], other[1] - rect[3])
        if apart_x >= PASSAGE_M or apart_y >= PASSAGE_M:
            continue
        if apart_x < -1e-6 and apart_y < -1e-6:
            return False
        if 1e-6 < math.hypot(max(apart_x, 0.0), max(apart_y, 0.0)) < PASSAGE_M:
            return False
    return True


def hang_decoration(
    layout: Layout, room: Rectangle, material: str, rng: np.random.Generator
) -> None:
    """Paintings, windows and a door as thin slabs on the walls of a room."""
    kinds = ["art0", "art1", "art2", "window", "window", "door"]
    for side in range(4):
        for _ in range(2):
            kind = kinds[int(rng.integers(len(kinds)))]
            wide = {"window": 1.2, "door": 0.9}.get(kind, float(rng.uniform(0.5, 0.9)))
            z0, z1 = {"window": (0.95, 2.1), "door": (0.0, 2.05)}.get(kind, (1.2, 1.8))
            _hang(layout, room, side, rng, kind, wide, z0, z1)


def _hang(
    layout: Layout,
    room: Rectangle,
    side: int,
    rng: np.random.Generator,
    kind: str,
    wide: float,
    z0: float,
    z1: float,
) -> None:
    x0, y0, x1, y1 = room
    length = (x1 - x0) if side % 2 == 0 else (y1 - y0)
    if length < wide + 0.4:
        return
    a = float(rng.uniform(0.2, length - wide - 0.2))
    t = 0.02
    slab = {
        0: (x0 + a, y0, x0 + a + wide, y0 + t),
        1: (x1 - t, y0 + a, x1, y0 + a + wide),
        2: (x0 + a, y1 - t, x0 + a + wide, y1),
        3: (x0, y0 + a, x0 + t, y0 + a + wide),
    }[side]
    for box in layout.boxes:
        flat = (box.low[0], box.low[1], box.high[0], box.high[1])
        thin = min(flat[2] - flat[0], flat[3] - flat[1]) < 0.03
        if thin and gap(flat, slab) < 0.1:
            return
    layout.boxes.append(Box((slab[0], slab[1], z0), (slab[2], slab[3], z1), kind))


def build_layout(scene_id: str) -> Layout:
    """The layout of a procedural scene such as "room-train-00017".

    A plan whose free floor falls into pieces is thrown away and drawn again, so that nearly all
    of the floor can be reached.
    """
    from sim_adapters.bullet.apartments import apartment_layout
    from sim_adapters.bullet.geodesic import NavGrid, free_cells

    tiers = {"room": room_layout, "apartment": apartment_layout}
    tier = scene_id.split("-")[0]
    if tier not in tiers:
        raise ValueError(
            f"unknown scene {scene_id!r}: procedural scenes are named <tier>-<split>-<number> "
            f"with tier one of {sorted(tiers)}"
        )
    for attempt in range(50):
        layout = tiers[tier](scene_rng(scene_id, attempt))
        free = free_cells(layout.bounds, np.array(layout.obstacles), 0.18, 0.1)
        if free.any() and NavGrid(free, layout.bounds, 0.1).main_fraction > 0.97:
            return layout
    raise RuntimeError(f"no connected floor plan for scene {scene_id!r} in 50 attempts")
