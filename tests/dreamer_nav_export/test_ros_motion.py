"""Discrete moves closed by odometry, held velocities, and the last limits."""

from __future__ import annotations

import itertools
import math

import pytest

from dreamer_nav_ros.command import DRIVING, LATCHED, Limits, VelocityLimiter
from dreamer_nav_ros.contract_fields import MoveAction
from dreamer_nav_ros.faults import Fault
from dreamer_nav_ros.inputs import Pose
from dreamer_nav_ros.moves import Move, MoveSettings
from dreamer_nav_ros.settings import Settings
from tests.dreamer_nav_export.ros_robot import (
    CONTINUOUS,
    FORWARD,
    LEFT,
    RIGHT,
    STOP,
    FakePolicy,
    Robot,
    depth_picture,
)

SETTINGS = Settings(policy_file="x")
LIMITS = Limits(0.5, 0.0, 1.0, 0.5, 2.0)


def robot_of(
    script: list[object], spec: dict[str, object] | None = None, **changes: object
) -> Robot:
    policy = FakePolicy(script, spec) if spec else FakePolicy(script)
    return Robot(policy, Settings(policy_file="x", **changes))  # type: ignore[arg-type]


def test_a_forward_move_ends_at_its_length_by_odometry() -> None:
    robot = robot_of([FORWARD, STOP])
    robot.step_until(lambda: robot.controller.has_ended)
    # 2 cm tolerance, and what the base coasts in one period at creeping speed.
    assert robot.pose.x == pytest.approx(0.25, abs=0.03)
    assert robot.pose.y == robot.pose.yaw == 0.0


@pytest.mark.parametrize(("action", "sign"), [(LEFT, 1), (RIGHT, -1)])
def test_a_turn_ends_at_its_angle_by_odometry(action: int, sign: int) -> None:
    robot = robot_of([action, STOP])
    robot.step_until(lambda: robot.controller.has_ended)
    assert math.degrees(robot.pose.yaw) == pytest.approx(sign * 30.0, abs=3.0)
    assert robot.pose.x == robot.pose.y == 0.0


def test_twelve_turns_of_30_degrees_cross_the_seam_of_the_angle() -> None:
    robot = robot_of([LEFT] * 12 + [STOP])
    robot.step_until(lambda: robot.controller.has_ended, 2000)
    assert len(robot.policy.observations) == 13
    assert math.degrees(robot.pose.yaw) == pytest.approx(360.0, abs=36.0)


def test_a_half_turn_is_measured_by_summing_small_steps() -> None:
    move = Move(MoveAction("turn", 0.0, math.pi), SETTINGS.move_settings(), Pose(0, 0, 3.0), 0.0)
    left = math.pi
    for degrees in range(10, 181, 10):
        yaw = math.remainder(3.0 + math.radians(degrees), 2 * math.pi)
        left = move.advance(Pose(0, 0, yaw), 0.0)
        assert left == pytest.approx(math.pi - math.radians(degrees), abs=1e-9)
    assert move.is_complete(left)
    beyond = math.remainder(3.0 + math.radians(185), 2 * math.pi)
    assert move.advance(Pose(0, 0, beyond), 0.0) == pytest.approx(math.radians(-5), abs=1e-9)


def test_a_drive_is_measured_along_its_own_heading() -> None:
    start = Pose(1.0, 1.0, math.pi / 2)
    move = Move(MoveAction("forward", 0.25, 0.0), SETTINGS.move_settings(), start, 0.0)
    assert move.advance(Pose(1.0, 1.1, 0.0), 0.0) == pytest.approx(0.15)
    assert move.advance(Pose(1.3, 1.0, 0.0), 0.0) == pytest.approx(0.25)


def test_a_blocked_move_is_given_up_soon_without_a_reset_of_the_policy() -> None:
    robot = robot_of([FORWARD, LEFT, STOP])
    robot.is_blocked = True
    robot.step_until(lambda: robot.command.v_mps > 0)
    began_s = robot.now_s
    robot.step_until(lambda: robot.command.v_mps == 0)
    assert robot.now_s - began_s == pytest.approx(SETTINGS.stall_timeout_s, abs=0.11)
    assert "move_blocked" in robot.controller.status()["last fault"]
    robot.is_blocked = False
    robot.step_until(lambda: robot.controller.has_ended)
    assert robot.policy.resets == [0]
    assert math.degrees(robot.pose.yaw) == pytest.approx(30.0, abs=3.0)


def test_a_move_blocked_half_way_is_given_up_as_soon() -> None:
    robot = robot_of([FORWARD])
    robot.step_until(lambda: robot.pose.x > 0.1)
    robot.is_blocked = True
    began_s = robot.now_s
    robot.step_until(lambda: robot.command.v_mps == 0)
    assert robot.now_s - began_s == pytest.approx(SETTINGS.stall_timeout_s, abs=0.11)


def test_a_blocked_turn_is_given_up_too() -> None:
    robot = robot_of([LEFT])
    robot.is_blocked = True
    robot.step_until(lambda: robot.command.w_rps > 0)
    robot.step_until(lambda: robot.command.w_rps == 0, 25)
    assert "move_blocked" in robot.controller.status()["last fault"]


def test_some_millimetres_are_no_progress() -> None:
    """Wheels that slip a little, or odometry that drifts, before a wall."""
    robot = robot_of([FORWARD])
    move = robot.move

    def slipping() -> None:
        before = robot.pose
        move()
        if robot.pose != before:
            robot.pose = Pose(before.x + 0.005 * robot.period_s, 0.0, 0.0)

    robot.move = slipping  # type: ignore[method-assign]
    robot.step_until(lambda: robot.command.v_mps > 0)
    robot.step_until(lambda: robot.command.v_mps == 0, 25)
    assert "move_blocked" in robot.controller.status()["last fault"]


def test_a_slow_move_is_not_a_blocked_one_but_its_time_ends() -> None:
    """Something slows the base to a fifth: always some progress, and never the end."""
    robot = robot_of([FORWARD], move_timeout_s=3.0)
    move = robot.move

    def slowed() -> None:
        before = robot.pose
        move()
        robot.pose = Pose(before.x + 0.2 * (robot.pose.x - before.x), 0.0, 0.0)

    robot.move = slowed  # type: ignore[method-assign]
    robot.step_until(lambda: robot.command.v_mps > 0)
    began_s = robot.now_s
    robot.step_until(lambda: robot.command.v_mps == 0)
    assert robot.now_s - began_s == pytest.approx(3.0, abs=0.11)
    assert "move_timeout" in robot.controller.status()["last fault"]


def test_a_policy_may_push_on_some_times_before_it_turns_away() -> None:
    """Trained ones do: six blocked moves one after the other were seen on the way to a goal."""
    robot = robot_of([*[FORWARD] * 6, LEFT, STOP])
    robot.is_blocked = True
    robot.step_until(lambda: len(robot.policy.observations) == 7, 600)
    robot.is_blocked = False
    robot.step_until(lambda: robot.controller.has_ended)
    assert robot.policy.resets == [0]
    assert not robot.controller.is_latched


def test_moves_given_up_latch_before_they_push_for_long() -> None:
    robot = robot_of([FORWARD])
    robot.is_blocked = True
    robot.step_until(lambda: robot.command.state == LATCHED, 2000)
    assert robot.command.fault == "move_blocked"
    assert len(robot.policy.observations) == SETTINGS.max_moves_given_up == 10
    pushing_s = sum(c.v_mps > 0 for c in robot.commands) * robot.period_s
    # Less than three moves of `move_timeout_s`.
    assert 9.0 < pushing_s < 11.0 < 3 * SETTINGS.move_timeout_s
    robot.is_blocked = False
    assert robot.step(20).state == LATCHED
    robot.controller.reset_latch()
    assert not robot.controller.is_latched


def test_a_completed_drive_starts_the_count_of_given_up_ones_again() -> None:
    robot = robot_of([FORWARD], max_moves_given_up=2)
    for _ in range(3):
        robot.is_blocked = True
        robot.step_until(lambda: robot.controller.status()["moves given up since a drive"] == "1")
        robot.is_blocked = False
        robot.step_until(lambda: robot.controller.status()["moves given up since a drive"] == "0")
    assert robot.command.state == DRIVING


def test_turns_between_do_not_start_the_count_again() -> None:
    """Before a wall it turns to and fro and pushes for ever."""
    robot = robot_of([*[FORWARD, LEFT, FORWARD, RIGHT] * 10])
    move = robot.move

    def only_turns() -> None:
        move()
        robot.pose = robot.pose._replace(x=0.0, y=0.0)

    robot.move = only_turns  # type: ignore[method-assign]
    robot.step_until(lambda: robot.command.state == LATCHED, 2000)
    assert robot.command.fault == "move_blocked"
    assert len(robot.policy.observations) == 2 * SETTINGS.max_moves_given_up - 1


@pytest.mark.parametrize("changes", [{"stall_timeout_s": 0.3}, {"creep_mps": 0.03}])
def test_a_stall_timeout_too_short_for_the_slowest_of_a_move_is_refused(
    changes: dict[str, float],
) -> None:
    with pytest.raises(ValueError, match="stall timeout"):
        robot_of([FORWARD], **changes)


def test_the_next_decision_is_made_of_a_picture_taken_while_the_robot_stands() -> None:
    robot = robot_of([FORWARD])
    robot.step_until(lambda: robot.command.v_mps > 0)
    robot.step_until(lambda: robot.command.v_mps == 0)
    robot.camera_alive = False
    while_moving = depth_picture(robot.now_s - 0.01)
    robot.depth = while_moving
    robot.step(4)
    assert len(robot.policy.observations) == 1
    robot.camera_alive = True
    robot.step(1)
    assert len(robot.policy.observations) == 2


def test_the_robot_settles_before_the_next_decision() -> None:
    robot = robot_of([FORWARD])
    speeds: list[float] = []
    robot.policy.before_answer = lambda: speeds.append(robot.command.v_mps)
    robot.step_until(lambda: len(speeds) == 4)
    assert speeds == [0.0] * 4


def test_a_base_whose_odometry_never_stands_still_is_waited_for_only_so_long() -> None:
    robot = robot_of([FORWARD])
    sense = robot.sense

    def trembling() -> None:
        sense()
        assert robot.odometry is not None
        robot.odometry = robot.odometry._replace(w_rps=0.3)

    robot.sense = trembling  # type: ignore[method-assign]
    steps = robot.step_until(lambda: robot.command.v_mps > 0)
    assert steps * robot.period_s == pytest.approx(SETTINGS.settle_timeout_s, abs=0.2)


def test_speed_and_acceleration_stay_within_their_limits_over_a_whole_drive() -> None:
    robot = robot_of([FORWARD, LEFT, FORWARD, RIGHT, STOP])
    robot.step_until(lambda: robot.controller.has_ended, 1000)
    s, dt = robot.settings, robot.period_s
    v = [0.0, *(c.v_mps for c in robot.commands[:-1])]
    w = [0.0, *(c.w_rps for c in robot.commands[:-1])]
    assert max(v) == s.max_speed_mps
    assert max(w) == s.max_turn_rate_rps == -min(w)
    slack = 1e-9
    assert max(abs(b - a) for a, b in itertools.pairwise(v)) <= s.max_acceleration_mps2 * dt + slack
    assert (
        max(abs(b - a) for a, b in itertools.pairwise(w))
        <= s.max_turn_acceleration_rps2 * dt + slack
    )


def test_a_late_step_does_not_allow_a_leap_of_speed() -> None:
    robot = robot_of([FORWARD])
    robot.step_until(lambda: robot.command.v_mps > 0)
    before = robot.command.v_mps
    robot.now_s += 0.3  # less than a clock jump
    robot.step()
    gained = robot.command.v_mps - before
    assert 0 < gained <= robot.settings.max_acceleration_mps2 * robot.period_s + 1e-9


def test_the_limiter_clamps_speed_before_acceleration_and_to_the_robots_reverse() -> None:
    limiter = VelocityLimiter(LIMITS)
    for _ in range(100):
        limiter.limit(9.0, -9.0, 0.1)
    assert (limiter.v_mps, limiter.w_rps) == (0.5, -1.0)
    limiter.limit(-9.0, 9.0, 0.1)
    assert limiter.v_mps == pytest.approx(0.45)
    assert limiter.w_rps == pytest.approx(-0.8)
    for _ in range(100):
        limiter.limit(-9.0, 0.0, 0.1)
    assert limiter.v_mps == 0.0
    assert limiter.is_at_rest


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_the_limiter_refuses_what_is_not_finite_and_keeps_its_speed(number: float) -> None:
    limiter = VelocityLimiter(LIMITS)
    limiter.limit(0.1, 0.0, 1.0)
    with pytest.raises(Fault, match="bad_action"):
        limiter.limit(0.1, number, 0.1)
    assert limiter.v_mps == 0.1


@pytest.mark.parametrize("name", list(vars(LIMITS)))
@pytest.mark.parametrize("number", [-1.0, math.nan, math.inf])
def test_limits_that_limit_nothing_are_refused(name: str, number: float) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{**vars(LIMITS), name: number})


def test_a_tolerance_as_long_as_the_action_is_refused() -> None:
    with pytest.raises(ValueError, match="tolerance"):
        robot_of([FORWARD], move_tolerance_m=0.2)


def test_a_timeout_shorter_than_the_action_is_refused() -> None:
    with pytest.raises(ValueError, match="timeout"):
        robot_of([FORWARD], move_timeout_s=0.5)


def test_the_approach_brakes_to_the_end_and_never_creeps_faster_than_it_cruises() -> None:
    settings = MoveSettings(0.5, 1.0, 0.05, 0.1, 0.25, 1.0, 0.02, 0.03, 5.0, 1.0)
    move = Move(MoveAction("forward", 1.0, 0.0), settings, Pose(0, 0, 0), 0.0)
    assert move.velocity(1.0) == (0.5, 0.0)
    assert move.velocity(0.08)[0] == pytest.approx(0.2)  # sqrt(2 * 0.25 * 0.08)
    assert move.velocity(0.001)[0] == 0.05


def test_a_continuous_action_is_scaled_by_the_contract_and_held_for_its_duration() -> None:
    robot = robot_of(
        [[0.0, 0.5]],
        CONTINUOUS,
        max_speed_mps=1.0,
        max_turn_rate_rps=2.0,
        max_acceleration_mps2=9.0,
    )
    robot.step(21)
    # v = 0.5 + 0.5 * 0 m/s; w = 90 * 0.5 degrees a second.
    assert robot.command.v_mps == pytest.approx(0.5)
    assert robot.command.w_rps == pytest.approx(math.radians(45.0))
    # One decision in 0.2 s at 20 steps a second: at steps 1, 5, 9, 13, 17, 21.
    assert len(robot.policy.observations) == 6


def test_a_continuous_action_is_clamped_by_the_robots_limits() -> None:
    robot = robot_of([[1.0, -1.0]], CONTINUOUS)
    robot.step(40)
    assert robot.command.v_mps == robot.settings.max_speed_mps
    assert robot.command.w_rps == -robot.settings.max_turn_rate_rps


def test_a_continuous_action_is_held_until_a_new_picture_and_not_longer_than_that_may_be_old() -> (
    None
):
    robot = robot_of([[1.0, 0.0]], CONTINUOUS)
    robot.step(5)  # decisions at the first and the fifth step
    asked = len(robot.policy.observations)
    assert asked == 2
    robot.camera_alive = False
    robot.step(8)
    assert len(robot.policy.observations) == asked
    assert robot.command.state == DRIVING
    robot.step_until(lambda: robot.command.fault == "stale_depth", 4)


@pytest.mark.parametrize("values", [[math.nan, 0.0], [0.0], [[0.0, 0.0]]])
def test_a_continuous_action_of_another_form_is_a_fault(values: list[float]) -> None:
    robot = robot_of([values], CONTINUOUS)
    robot.step(2)
    assert robot.command.fault == "bad_action"
