"""Floor plans of the `apartment` tier: rooms cut out of a rectangle, joined by doorways."""

from __future__ import annotations

from typing import List, Optional, Tuple

import numpy as np

from sim_adapters.bullet.furniture import Box
from sim_adapters.bullet.layout import (
    CEILING_M,
    DOORWAY_M,
    WALL_M,
    Layout,
    Rectangle,
    add_shell,
    draw_light,
    furnish,
    hang_decoration,
)
from sim_adapters.bullet.textures import palette

SMALLEST_M = 2.7
"""No room is narrower."""
LINTEL_M = 2.05


def apartment_layout(rng: np.random.Generator) -> Layout:
    """Three to six furnished rooms; every wall between two halves has at least one doorway."""
    width, depth = float(rng.uniform(8.0, 11.0)), float(rng.uniform(7.0, 9.0))
    layout = Layout(bounds=(0.0, 0.0, width, depth))
    wanted = int(rng.integers(3, 7))
    layout.paints, layout.light = palette(rng, wall_kinds=2), draw_light(rng)
    add_shell(layout)
    layout.rooms, walls = _divide(layout.bounds, wanted, rng)
    clear: List[Rectangle] = []
    for wall in walls:
        clear.extend(_add_wall_with_doorway(layout, wall, walls, rng))
    for room in layout.rooms:
        area = (room[2] - room[0]) * (room[3] - room[1])
        furnish(
            layout,
            room,
            rng,
            against_wall=int(np.clip(area / 4, 2, 5)),
            free_standing=int(np.clip(area / 12, 0, 2)),
            keep_clear=clear,
        )
    hang_decoration(layout, layout.bounds, "wall0", rng)
    return layout


def _divide(
    bounds: Rectangle, wanted: int, rng: np.random.Generator
) -> Tuple[List[Rectangle], List[Rectangle]]:
    """Split the largest room again and again; returns rooms and the walls between them."""
    rooms, walls = [bounds], []
    while len(rooms) < wanted:
        rooms.sort(key=lambda r: (r[2] - r[0]) * (r[3] - r[1]))
        largest = rooms.pop()
        halves = _split(largest, rng)
        if halves is None:
            rooms.append(largest)
            break
        rooms.extend(halves[:2])
        walls.append(halves[2])
    return rooms, walls


def _split(
    room: Rectangle, rng: np.random.Generator
) -> Optional[Tuple[Rectangle, Rectangle, Rectangle]]:
    x0, y0, x1, y1 = room
    t = WALL_M / 2
    along_x = x1 - x0 > y1 - y0
    low, high = (x0, x1) if along_x else (y0, y1)
    least = SMALLEST_M + t
    if high - low < 2 * least:
        return None
    middle = low + (high - low) * float(rng.uniform(0.38, 0.62))
    at = float(np.clip(middle, low + least, high - least))
    if along_x:
        return (x0, y0, at - t, y1), (at + t, y0, x1, y1), (at - t, y0, at + t, y1)
    return (x0, y0, x1, at - t), (x0, at + t, x1, y1), (x0, at - t, x1, at + t)


def _add_wall_with_doorway(
    layout: Layout, wall: Rectangle, walls: List[Rectangle], rng: np.random.Generator
) -> List[Rectangle]:
    """Build a wall with a doorway clear of the walls that meet it; returns what to keep free."""
    along_x = wall[2] - wall[0] > wall[3] - wall[1]
    low, high = (wall[0], wall[2]) if along_x else (wall[1], wall[3])
    taken = [(low, low), (high, high)]
    for other in walls:
        if other is not wall and _touch(wall, other):
            taken.append((other[0], other[2]) if along_x else (other[1], other[3]))
    for _ in range(200):
        at = float(rng.uniform(low + 0.3, high - 0.3 - DOORWAY_M))
        if all(at > b + 0.25 or at + DOORWAY_M < a - 0.25 for a, b in taken):
            break
    ends = (at, at + DOORWAY_M)
    for a, b, height in ((low, ends[0], 0.0), (ends[1], high, 0.0), (*ends, LINTEL_M)):
        part = (a, wall[1], b, wall[3]) if along_x else (wall[0], a, wall[2], b)
        if height:
            layout.boxes.append(
                Box((part[0], part[1], height), (part[2], part[3], CEILING_M), "wall1")
            )
        else:
            layout.add_wall(part, "wall1")
    reach = 0.9
    if along_x:
        return [(ends[0], wall[1] - reach, ends[1], wall[3] + reach)]
    return [(wall[0] - reach, ends[0], wall[2] + reach, ends[1])]


def _touch(a: Rectangle, b: Rectangle) -> bool:
    return (
        a[0] <= b[2] + 1e-6 and b[0] <= a[2] + 1e-6 and a[1] <= b[3] + 1e-6 and b[1] <= a[3] + 1e-6
    )
