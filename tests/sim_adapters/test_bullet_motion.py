"""Motion of the disc: contacts against hand-computed places."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim_adapters.bullet.motion import SKIN, clearance, slide, sweep

BOX = np.array([[1.0, -0.5, 2.0, 0.5]])
RADIUS = 0.2


def _sweep(x: float, y: float, dx: float, dy: float) -> tuple[np.ndarray, int]:
    start, delta = np.array([x, y]), np.array([dx, dy])
    fraction, index = sweep(start, delta, BOX, RADIUS)
    return start + fraction * delta, index


def test_a_head_on_move_stops_at_one_radius_from_the_face() -> None:
    end, index = _sweep(0.0, 0.0, 3.0, 0.0)
    assert index == 0
    assert end == pytest.approx([0.8 - SKIN, 0.0], abs=1e-9)


def test_a_move_past_the_corner_within_the_radius_stops_on_the_rounded_corner() -> None:
    end, index = _sweep(0.0, 0.6, 3.0, 0.0)  # 0.1 m above the corner at (1, 0.5)
    assert index == 0
    assert end[0] == pytest.approx(1.0 - math.sqrt(0.2**2 - 0.1**2) - SKIN, abs=1e-9)


def test_a_move_farther_than_the_radius_from_the_corner_is_free() -> None:
    end, index = _sweep(0.0, 0.701, 3.0, 0.0)
    assert index == -1
    assert end == pytest.approx([3.0, 0.701])


def test_a_disc_in_contact_can_turn_away_and_along_but_not_in() -> None:
    touching, _ = _sweep(0.0, 0.0, 3.0, 0.0)
    assert _sweep(touching[0], touching[1], -0.5, 0.0)[1] == -1
    assert _sweep(touching[0], touching[1], 0.0, 0.3)[1] == -1
    inwards, index = _sweep(touching[0], touching[1], 0.5, 0.0)
    assert index == 0
    assert inwards == pytest.approx(touching, abs=1e-9)


def test_a_slanted_move_slides_along_the_face() -> None:
    end, touched = slide(np.array([0.0, 0.0]), np.array([1.0, 0.1]), BOX, RADIUS)
    assert touched
    assert end == pytest.approx([0.8, 0.1], abs=2 * SKIN)


def test_no_sequence_of_moves_enters_an_obstacle() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(-3, 3, (12, 2))
    boxes = np.hstack([low, low + rng.uniform(0.1, 1.0, (12, 2))])
    position = np.array([5.0, 5.0])
    stopped = 0
    for k in range(3000):
        delta = rng.uniform(-0.5, 0.5, 2) - 0.02 * position
        if k % 2:
            position, touched = slide(position, delta, boxes, RADIUS)
        else:
            fraction, index = sweep(position, delta, boxes, RADIUS)
            position, touched = position + fraction * delta, index >= 0
        stopped += touched
        assert clearance(position, boxes) >= RADIUS - 1e-6
    assert stopped > 300


def test_clearance_is_the_distance_to_the_nearest_rectangle() -> None:
    assert clearance(np.array([0.0, 0.0]), BOX) == pytest.approx(1.0)
    assert clearance(np.array([0.7, 0.9]), BOX) == pytest.approx(0.5)
    assert clearance(np.array([1.5, 0.0]), BOX) == 0.0
    assert clearance(np.zeros(2), np.zeros((0, 4))) == math.inf
