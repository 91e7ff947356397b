from __future__ import annotations

import math

import pytest

from sim_adapters.nav_measures import Measures


def walk(*positions: tuple[float, float], distances: list[float], success: bool) -> Measures:
    """An episode through `positions` (on the floor) with the geodesic `distances` given."""
    measures = Measures((*positions[0], 0.0), distances[0])
    for position, distance in zip(positions[1:], distances[1:], strict=True):
        measures.update((*position, 0.0), distance, collided=False, success=False)
    last = (*positions[-1], 0.0)
    measures.update(last, distances[-1], collided=False, success=success)  # the stop
    return measures


def test_spl_is_one_on_the_shortest_path() -> None:
    m = walk((0, 0), (1, 0), (2, 0), distances=[2, 1, 0], success=True)
    assert (m.spl, m.soft_spl, m.path_length_m, m.steps) == (1.0, 1.0, 2.0, 3)


def test_spl_divides_by_the_path_that_was_travelled() -> None:
    # l = 2; three sides of a rectangle: p = 1 + 2 + 1 = 4; SPL = 1 * 2 / max(4, 2) = 0.5.
    m = walk((0, 0), (0, 1), (2, 1), (2, 0), distances=[2, 2.2, 1, 0], success=True)
    assert m.path_length_m == 4.0
    assert m.spl == 0.5
    assert m.soft_spl == 0.5


def test_spl_is_not_above_one_when_the_robot_stops_short_of_the_goal() -> None:
    # l = 2, p = 1.9 because success begins 0.2 m before the goal: l / max(p, l) = 1, not 1.05.
    m = walk((0, 0), (1.9, 0), distances=[2, 0.1], success=True)
    assert m.spl == 1.0
    assert m.soft_spl == pytest.approx(0.95)  # (1 - 0.1 / 2) * 2 / 2


def test_a_failure_has_no_spl_but_soft_spl_for_the_way_it_made() -> None:
    # d_0 = l = 4, d_T = 1, p = 5: SoftSPL = (1 - 1/4) * 4 / 5 = 0.6.
    m = walk((0, 0), (5, 0), distances=[4, 1], success=False)
    assert m.spl == 0.0
    assert m.soft_spl == pytest.approx(0.6)


def test_soft_spl_is_zero_and_not_negative_when_the_robot_ends_farther_away() -> None:
    m = walk((0, 0), (-1, 0), distances=[4, 5], success=False)
    assert m.soft_spl == 0.0


def test_path_length_adds_euclidean_displacements_in_three_dimensions() -> None:
    m = Measures((0.0, 0.0, 0.0), 10.0)
    m.update((3.0, 4.0, 12.0), 9.0, collided=False, success=False)  # |(3, 4, 12)| = 13
    m.update((3.0, 4.0, 12.0), 9.0, collided=False, success=False)
    assert m.path_length_m == 13.0


def test_update_returns_the_geodesic_progress_of_the_step() -> None:
    m = Measures((0.0, 0.0, 0.0), 3.0)
    assert m.update((1.0, 0.0, 0.0), 2.5, collided=False, success=False) == 0.5
    assert m.update((1.0, 0.0, 0.0), 2.75, collided=False, success=False) == -0.25


def test_collisions_count_the_steps_that_touched_something() -> None:
    m = Measures((0.0, 0.0, 0.0), 3.0)
    for collided in (True, False, True):
        m.update((0.0, 0.0, 0.0), 3.0, collided=collided, success=False)
    assert m.info()["collisions"] == 2
    assert m.info()["collided"] is True
    assert m.info()["steps"] == 3


def test_an_episode_that_starts_at_the_goal_has_finite_measures() -> None:
    m = walk((0, 0), (0, 0), distances=[0, 0], success=True)
    assert (m.spl, m.soft_spl) == (1.0, 1.0)
    away = walk((0, 0), (1, 0), distances=[0, 1], success=False)
    assert (away.spl, away.soft_spl) == (0.0, 0.0)


def test_info_has_the_declared_keys() -> None:
    assert tuple(Measures((0.0, 0.0, 0.0), 1.0).info()) == Measures.KEYS


@pytest.mark.parametrize("distance", [math.inf, math.nan, -1.0])
def test_an_impossible_start_distance_is_refused(distance: float) -> None:
    with pytest.raises(ValueError, match="finite and >= 0"):
        Measures((0.0, 0.0, 0.0), distance)
