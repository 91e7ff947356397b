"""Goals by hand-worked numbers, and which message is a new goal."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dreamer_nav_ros.goal import FrameTransform, GoalMessage, GoalTracker, into_odom, polar
from dreamer_nav_ros.inputs import Goal, Pose, wrap_angle
from sim_adapters.pointgoal import pointgoal

QUARTER = math.pi / 2


def no_transform(frame: str) -> FrameTransform | None:
    raise AssertionError(f"{frame} needs no transform")


@pytest.mark.parametrize(
    ("pose", "goal", "rho", "phi"),
    [
        (Pose(0, 0, 0), (2, 0), 2.0, 0.0),  # ahead
        (Pose(0, 0, 0), (0, 2), 2.0, QUARTER),  # to the left: positive
        (Pose(0, 0, 0), (0, -2), 2.0, -QUARTER),
        (Pose(1, 1, QUARTER), (1, 4), 3.0, 0.0),  # facing +y
        (Pose(1, 1, QUARTER), (4, 1), 3.0, -QUARTER),  # +x is then to the right
        (Pose(0, 0, math.pi), (3, 4), 5.0, math.atan2(4, 3) - math.pi),
        (Pose(0, 0, 0), (-1, 0), 1.0, math.pi),  # behind: +pi, not -pi
        (Pose(0, 0, -3.0), (-1, 0.1), math.hypot(1, 0.1), wrap_angle(math.atan2(0.1, -1) + 3.0)),
    ],
)
def test_polar_coordinates_worked_by_hand(
    pose: Pose, goal: tuple[float, float], rho: float, phi: float
) -> None:
    seen = polar(pose, *goal)
    assert seen.dtype == np.float32
    assert seen == pytest.approx([rho, phi], abs=1e-6)


def test_polar_coordinates_are_the_training_tasks() -> None:
    generator = np.random.default_rng(0)
    for x, y, goal_x, goal_y in generator.uniform(-5, 5, size=(50, 4)):
        yaw = generator.uniform(-10, 10)
        expected = pointgoal((x, y, 0.0), yaw, (goal_x, goal_y, 0.0))
        assert polar(Pose(x, y, yaw), goal_x, goal_y) == pytest.approx(expected, abs=1e-5)


def test_a_point_of_the_map_in_odom_worked_by_hand() -> None:
    # The map's origin lies at (1, 2) in odom and its x axis points along odom's y.
    assert into_odom(Pose(1, 2, QUARTER), 3, 0) == pytest.approx((1, 5))
    assert into_odom(Pose(1, 2, QUARTER), 0, 3) == pytest.approx((-2, 2))


def test_a_goal_in_odom_stays_and_is_never_old() -> None:
    tracker = GoalTracker("odom", 0.05)
    assert tracker.project(1.0, no_transform) is None
    assert tracker.accept(GoalMessage("odom", 1.0, 3.0, 4.0), False)
    assert tracker.project(9.0, no_transform) == Goal(1, 3.0, 4.0, 9.0)


def test_a_goal_in_the_map_follows_the_maps_corrections() -> None:
    tracker = GoalTracker("odom", 0.05)
    tracker.accept(GoalMessage("map", 1.0, 3.0, 0.0), False)
    first = tracker.project(9.0, lambda frame: FrameTransform(Pose(0, 0, 0), 8.9))
    assert first == Goal(1, 3.0, 0.0, 8.9)
    second = tracker.project(9.1, lambda frame: FrameTransform(Pose(0.5, 0, 0), 9.0))
    assert second == Goal(1, 3.5, 0.0, 9.0)
    # Localisation is gone: the last projection, with its age.
    assert tracker.project(20.0, lambda frame: None) == second


def test_without_any_transform_a_goal_is_infinitely_old() -> None:
    tracker = GoalTracker("odom", 0.05)
    tracker.accept(GoalMessage("map", 1.0, 3.0, 0.0), False)
    goal = tracker.project(9.0, lambda frame: None)
    assert goal is not None
    assert goal.stamp_s == -math.inf


@pytest.mark.parametrize("stamp_s", [10.0, math.inf])
def test_transforms_of_the_future_and_static_ones_are_of_now(stamp_s: float) -> None:
    tracker = GoalTracker("odom", 0.05)
    tracker.accept(GoalMessage("map", 1.0, 3.0, 0.0), False)
    goal = tracker.project(9.0, lambda frame: FrameTransform(Pose(0, 0, 0), stamp_s))
    assert goal is not None
    assert goal.stamp_s == 9.0


def test_a_repeated_message_is_the_same_goal() -> None:
    tracker = GoalTracker("odom", 0.05)
    assert tracker.accept(GoalMessage("odom", 1.0, 3.0, 4.0), False)
    assert not tracker.accept(GoalMessage("odom", 2.0, 3.02, 4.0), False)
    assert tracker.accept(GoalMessage("odom", 3.0, 3.2, 4.0), False)
    assert tracker.accept(GoalMessage("map", 4.0, 3.2, 4.0), False)
    goal = tracker.project(9.0, lambda frame: FrameTransform(Pose(0, 0, 0), 9.0))
    assert goal is not None
    assert goal.number == 3


def test_after_the_episode_another_stamp_is_a_new_goal() -> None:
    tracker = GoalTracker("odom", 0.05)
    tracker.accept(GoalMessage("odom", 1.0, 3.0, 4.0), False)
    assert not tracker.accept(GoalMessage("odom", 1.0, 3.0, 4.0), True)
    assert tracker.accept(GoalMessage("odom", 2.0, 3.0, 4.0), True)


def test_a_dropped_goal_is_gone_and_numbers_go_on() -> None:
    tracker = GoalTracker("odom", 0.05)
    tracker.accept(GoalMessage("odom", 1.0, 3.0, 4.0), False)
    tracker.drop()
    assert tracker.project(9.0, no_transform) is None
    assert tracker.accept(GoalMessage("odom", 1.0, 3.0, 4.0), False)
    goal = tracker.project(9.0, no_transform)
    assert goal is not None
    assert goal.number == 2


@pytest.mark.parametrize(
    "message", [GoalMessage("", 1.0, 0.0, 0.0), GoalMessage("map", 1.0, math.nan, 0.0)]
)
def test_a_goal_without_frame_or_number_is_refused_and_the_old_one_kept(
    message: GoalMessage,
) -> None:
    tracker = GoalTracker("odom", 0.05)
    tracker.accept(GoalMessage("odom", 1.0, 3.0, 4.0), False)
    with pytest.raises(ValueError, match="goal"):
        tracker.accept(message, False)
    assert tracker.project(9.0, no_transform) == Goal(1, 3.0, 4.0, 9.0)
