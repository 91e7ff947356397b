"""Geodesic distances against hand-computed ones and against an exact visibility graph."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from sim_adapters.bullet.geodesic import CELL_M, NavGrid
from sim_adapters.bullet.scene import build_floor

pytest.importorskip("scipy")

RADIUS = 0.18


def _room(
    width: float, depth: float, obstacles: list[tuple[float, float, float, float]]
) -> NavGrid:
    walls = [
        (-1.0, -1.0, width + 1.0, 0.0),
        (-1.0, depth, width + 1.0, depth + 1.0),
        (-1.0, 0.0, 0.0, depth),
        (width, 0.0, width + 1.0, depth),
    ]
    bounds = (0.0, 0.0, width, depth)
    return build_floor(0.0, np.array(walls + obstacles), bounds).grid


def _around_a_corner(a: np.ndarray, b: np.ndarray, corner: np.ndarray) -> float:
    """Length of a taut string from a to b around a disc of the radius on the corner."""
    da, db = np.linalg.norm(a - corner), np.linalg.norm(b - corner)
    # The obstacle fills the side on which the angle is less than half a turn.
    between = 2 * math.pi - math.acos(float((a - corner) @ (b - corner)) / float(da * db))
    arc = between - math.acos(RADIUS / da) - math.acos(RADIUS / db)
    return math.sqrt(da**2 - RADIUS**2) + math.sqrt(db**2 - RADIUS**2) + RADIUS * arc


def test_distance_in_an_l_shaped_corridor_is_that_of_a_taut_string() -> None:
    grid = _room(5.0, 5.0, [(1.0, 1.0, 5.0, 5.0)])  # corridors 1 m wide along x = 0 and y = 0
    for a, b in (((0.5, 4.5), (4.5, 0.5)), ((0.3, 3.0), (2.0, 0.7)), ((0.7, 4.0), (4.0, 0.3))):
        exact = _around_a_corner(np.array(a), np.array(b), np.array([1.0, 1.0]))
        assert grid.distance(a, b) == pytest.approx(exact, rel=0.02)
        path = grid.path(a, b)
        assert np.linalg.norm(np.diff(path, axis=0), axis=1).sum() == pytest.approx(exact, rel=0.02)
        assert path[0] == pytest.approx(a)
        assert path[-1] == pytest.approx(b)


def test_distance_in_the_open_is_within_2_percent_of_euclid_in_every_direction() -> None:
    grid = _room(6.0, 6.0, [])
    rng = np.random.default_rng(0)
    for _ in range(20):
        goal = rng.uniform(0.5, 5.5, 2)
        for point in rng.uniform(0.5, 5.5, (30, 2)):
            straight = float(np.linalg.norm(goal - point))
            if straight > 0.3:
                assert grid.distance(point, goal) == pytest.approx(straight, rel=0.02)


def _visibility_distance(a: np.ndarray, b: np.ndarray, boxes: np.ndarray) -> float:
    """Exact shortest way in a 5 m room, around boxes grown by the radius (round corners in 8)."""
    nodes = [a, b]
    for x0, y0, x1, y1 in boxes:
        for turn, (cx, cy) in enumerate([(x1, y1), (x0, y1), (x0, y0), (x1, y0)]):
            for k in range(9):
                angle = (turn + k / 8) * math.pi / 2
                node = np.array([cx, cy]) + RADIUS * np.array([math.cos(angle), math.sin(angle)])
                if (np.abs(node - 2.5) <= 2.5 - RADIUS).all():
                    nodes.append(node)
    cost = np.full(len(nodes), np.inf)
    cost[0], todo = 0.0, set(range(len(nodes)))
    while todo:
        k = min(todo, key=lambda n: float(cost[n]))
        todo.remove(k)
        if k == 1:
            break
        for n in list(todo):
            way = float(cost[k] + np.linalg.norm(nodes[k] - nodes[n]))
            if way < cost[n] and _sees(nodes[k], nodes[n], boxes):
                cost[n] = way
    return float(cost[1])


def _sees(a: np.ndarray, b: np.ndarray, boxes: np.ndarray) -> bool:
    count = max(2, int(np.linalg.norm(b - a) / 0.02))
    points = a + np.linspace(0, 1, count)[:, None] * (b - a)
    gap = np.maximum(boxes[None, :, :2] - points[:, None], points[:, None] - boxes[None, :, 2:])
    return bool((np.linalg.norm(np.maximum(gap, 0), axis=2) >= RADIUS - 0.003).all())


def test_distance_among_obstacles_is_within_3_percent_of_the_visibility_graph() -> None:
    boxes = [(1.5, 0.0, 1.7, 3.5), (3.0, 1.5, 3.8, 2.3), (3.2, 3.6, 5.0, 3.9)]
    grid = _room(5.0, 5.0, boxes)
    points = [(0.6, 0.6), (4.4, 0.5), (2.4, 2.9), (4.3, 4.5), (0.7, 4.2)]
    for a, b in itertools.combinations(points, 2):
        exact = _visibility_distance(np.array(a), np.array(b), np.array(boxes))
        assert grid.distance(a, b) == pytest.approx(exact, rel=0.03)


def test_distance_is_continuous_and_nearly_symmetric() -> None:
    grid = _room(5.0, 5.0, [(2.0, 0.0, 2.2, 3.5)])
    goal = (4.0, 1.0)
    ways = [grid.distance((1.0, 0.5 + 0.01 * k), goal) for k in range(400)]
    assert max(abs(a - b) for a, b in itertools.pairwise(ways)) < 0.02
    there = grid.distance((1.0, 1.0), goal)
    assert grid.distance(goal, (1.0, 1.0)) == pytest.approx(there, rel=0.01)


def test_distance_is_zero_at_the_goal_and_exact_next_to_it() -> None:
    grid = _room(4.0, 4.0, [])
    goal = (2.013, 1.987)
    assert grid.distance(goal, goal) < CELL_M
    assert grid.distance((2.213, 1.987), goal) == pytest.approx(0.2, abs=0.01)


def test_a_point_behind_a_closed_wall_is_infinitely_far() -> None:
    grid = _room(5.0, 5.0, [(2.0, 0.0, 2.2, 5.0)])
    assert grid.distance((1.0, 1.0), (4.0, 1.0)) == math.inf
    assert grid.path((1.0, 1.0), (4.0, 1.0)).shape == (0, 2)
    assert not grid.same_component((1.0, 1.0), (4.0, 1.0))


def test_a_point_deep_in_an_obstacle_or_far_outside_is_infinitely_far() -> None:
    grid = _room(5.0, 5.0, [(1.5, 1.5, 3.5, 3.5)])
    assert grid.distance((2.5, 2.5), (0.5, 0.5)) == math.inf
    assert grid.distance((9.0, 9.0), (0.5, 0.5)) == math.inf


def test_a_point_touching_a_wall_has_a_distance() -> None:
    grid = _room(5.0, 5.0, [])
    assert grid.distance((RADIUS, 2.5), (4.0, 2.5)) == pytest.approx(4.0 - RADIUS, rel=0.02)
    assert grid.distance((RADIUS, RADIUS), (4.0, RADIUS)) == pytest.approx(3.82, rel=0.02)


def test_the_path_stays_on_free_cells() -> None:
    grid = _room(5.0, 5.0, [(1.5, 0.0, 1.7, 3.5), (3.0, 1.5, 3.2, 5.0)])
    path = grid.path((0.5, 0.5), (4.5, 4.5))
    assert len(path) > 3
    for a, b in itertools.pairwise(path):
        assert grid.line_is_free(a, b)


def test_a_scene_without_room_for_the_agent_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        NavGrid(np.zeros((4, 4), dtype=bool), (0.0, 0.0))
