"""The control step: what makes the robot stand still, forget, latch and go on."""

from __future__ import annotations

import math

import pytest

from dreamer_nav_ros.command import ARRIVED, DRIVING, FAULT, IDLE, LATCHED, STOPPED_SHORT
from dreamer_nav_ros.faults import Fault, FaultLatch
from dreamer_nav_ros.inputs import Goal, Odometry, Pose
from dreamer_nav_ros.settings import Settings
from tests.dreamer_nav_export.ros_robot import (
    CONTINUOUS,
    DISCRETE,
    FORWARD,
    LEFT,
    RGB_FIELD,
    STOP,
    FakeAction,
    FakePolicy,
    Robot,
    contract,
    depth_picture,
    is_zero,
)


def driving(script: list[object], spec: dict[str, object] = DISCRETE, **settings: object) -> Robot:
    """A robot in the middle of its first action."""
    robot = Robot(FakePolicy(script, spec), Settings(policy_file="x", **settings))  # type: ignore[arg-type]
    robot.step(6)
    assert robot.command.state == DRIVING
    assert not is_zero(robot.command)
    return robot


def expect_fault(robot: Robot, name: str) -> None:
    assert (robot.command.state, robot.command.fault) == (FAULT, name)
    assert is_zero(robot.command)
    assert robot.command.detail


def test_without_a_goal_the_robot_stands_and_the_policy_is_not_asked() -> None:
    robot = Robot(FakePolicy([FORWARD]))
    robot.goal = None
    assert robot.step(5).state == IDLE
    assert all(is_zero(command) for command in robot.commands)
    assert not robot.policy.observations


def test_the_policy_sees_depth_and_the_goal_to_its_left() -> None:
    robot = Robot(FakePolicy([STOP]))
    robot.goal = Goal(1, 0.0, 2.0, 0.0)
    robot.step(3)
    (seen,) = robot.policy.observations
    assert set(seen) == {"depth", "pointgoal"}
    assert seen["pointgoal"] == pytest.approx([2.0, math.pi / 2], abs=1e-6)
    assert seen["depth"] == pytest.approx(2.0)


def test_a_stale_picture_stops_at_once_and_the_robot_recovers_with_a_reset_policy() -> None:
    robot = driving([FORWARD])
    resets = len(robot.policy.resets)
    robot.camera_alive = False
    last_picture_s = robot.now_s
    robot.step_until(lambda: robot.command.state == FAULT)
    expect_fault(robot, "stale_depth")
    # The contract allows 0.5 s: the first step after that, not a later one.
    assert 0.5 < robot.now_s - last_picture_s <= 0.5 + 1.5 * robot.period_s
    robot.camera_alive = True
    robot.step_until(lambda: robot.command.v_mps > 0)
    assert robot.command.state == DRIVING
    assert len(robot.policy.resets) == resets + 1
    assert robot.policy.resets[-1] == len(robot.policy.observations) - 1


def test_a_parameter_may_shorten_the_contracts_age_limit() -> None:
    robot = driving([FORWARD], max_image_age_s=0.12)
    robot.camera_alive = False
    robot.step(3)
    expect_fault(robot, "stale_depth")


def test_no_picture_at_all_is_a_fault() -> None:
    robot = Robot(FakePolicy([FORWARD]))
    robot.camera_alive, robot.depth = False, None
    robot.step(2)
    expect_fault(robot, "no_depth")


def test_stale_odometry_stops_at_once() -> None:
    robot = driving([FORWARD])
    robot.odometry_alive = False
    robot.step(4)  # 0.2 s, which is allowed
    assert robot.command.state == DRIVING
    robot.step(1)
    expect_fault(robot, "stale_odometry")


def test_no_odometry_is_a_fault() -> None:
    robot = Robot(FakePolicy([FORWARD]))
    robot.odometry_alive = False
    robot.step(2)
    expect_fault(robot, "no_odometry")


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("place", range(5))
def test_odometry_that_is_not_finite_is_a_fault(place: int, number: float) -> None:
    robot = driving([FORWARD])
    numbers = [0.0] * 5
    numbers[place] = number
    robot.odometry_alive = False
    x, y, yaw, v, w = numbers
    robot.odometry = Odometry(robot.now_s, Pose(x, y, yaw), v, w)
    robot.step()
    expect_fault(robot, "bad_odometry")


def test_odometry_that_jumps_is_a_fault_once() -> None:
    robot = driving([FORWARD])
    robot.pose = robot.pose._replace(y=3.0)
    robot.step()
    expect_fault(robot, "odometry_jump")
    robot.step(2)
    assert robot.command.state == DRIVING


def test_a_picture_from_the_future_is_a_fault() -> None:
    robot = Robot(FakePolicy([FORWARD]))
    robot.camera_alive = False
    robot.depth = depth_picture(robot.now_s + 10.0)
    robot.step(2)
    expect_fault(robot, "stale_depth")


def test_depth_without_readings_is_a_fault_and_the_policy_is_not_asked() -> None:
    robot = Robot(FakePolicy([FORWARD]))
    robot.camera_alive = False
    robot.depth = depth_picture(robot.now_s + 0.1, math.nan)
    robot.step(2)
    expect_fault(robot, "bad_depth")
    assert not robot.policy.observations


def test_a_frame_gap_resets_the_policy_before_its_next_answer() -> None:
    robot = driving([FORWARD], max_image_age_s=5.0, max_frame_gap_s=0.3)
    robot.step_until(lambda: len(robot.policy.observations) == 2)
    assert robot.policy.resets == [0]
    robot.camera_alive = False
    robot.step(7)  # 0.35 s
    robot.camera_alive = True
    robot.step_until(lambda: len(robot.policy.observations) == 3)
    assert robot.policy.resets == [0, 2]
    assert robot.controller.status()["last policy reset"] == "frame gap"


def test_a_new_goal_resets_the_policy_and_ends_the_move() -> None:
    robot = driving([FORWARD])
    robot.step_until(lambda: robot.command.v_mps == robot.settings.max_speed_mps)
    assert robot.policy.resets == [0]
    robot.goal = Goal(2, 0.0, -3.0, 0.0)
    robot.step_until(lambda: len(robot.policy.observations) == 2)
    assert robot.policy.resets == [0, 1]
    assert robot.pose.x < 0.2  # of the 0.25 m that the move would have made
    rho, phi = robot.policy.observations[-1]["pointgoal"]
    assert phi < 0 < rho


@pytest.mark.parametrize(("parameter", "seed"), [(-1, None), (7, 7)])
def test_the_policys_noise_is_seeded_by_the_parameter(parameter: int, seed: int | None) -> None:
    robot = driving([FORWARD], policy_seed=parameter)
    assert robot.policy.seeds == [seed]


def test_a_stale_goal_transform_is_a_fault() -> None:
    robot = driving([FORWARD])
    goal = Goal(1, 5.0, 0.0, robot.now_s - 3.0)
    robot.command = robot.controller.step(robot.now_s, None, robot.depth, robot.odometry, goal)
    expect_fault(robot, "stale_goal")


def test_an_exception_of_the_policy_is_a_fault_and_then_forgotten() -> None:
    robot = Robot(FakePolicy([RuntimeError("out of memory"), FORWARD]))
    robot.step(2)
    robot.step_until(lambda: robot.command.state == FAULT, 3) if is_zero(robot.command) else None
    assert any(
        c.fault == "inference_failed" and "out of memory" in c.detail for c in robot.commands
    )
    robot.step_until(lambda: robot.command.v_mps > 0)
    assert robot.policy.resets == [0, 1]


def test_an_action_that_is_not_ok_is_a_fault() -> None:
    robot = Robot(FakePolicy([FakeAction(FORWARD, "forward", None, ok=False)]))
    robot.step(2)
    expect_fault(robot, "inference_failed")


@pytest.mark.parametrize("index", [-1, 4, None])
def test_an_index_outside_the_contract_is_a_fault(index: int | None) -> None:
    robot = Robot(FakePolicy([FakeAction(index, "x", None)]))
    robot.step(2)
    expect_fault(robot, "bad_action")


def test_a_slow_answer_is_dropped() -> None:
    robot = Robot(FakePolicy([FORWARD]))

    def think() -> None:
        robot.steady_s += 0.11

    robot.policy.before_answer = think
    robot.step(2)
    expect_fault(robot, "slow_inference")
    robot.policy.before_answer = lambda: None
    robot.step_until(lambda: robot.command.v_mps > 0)


@pytest.mark.parametrize("jump_s", [-20.0, 20.0])
def test_a_jump_of_the_clock_stops_and_is_recovered_from(jump_s: float) -> None:
    robot = driving([FORWARD])
    robot.now_s += jump_s
    robot.step()
    expect_fault(robot, "clock_jump")
    robot.step_until(lambda: robot.command.v_mps > 0)
    assert robot.command.state == DRIVING


def test_a_restarted_simulation_with_another_pose_costs_one_step() -> None:
    robot = driving([FORWARD])
    robot.now_s -= 20.0
    robot.pose = Pose(4.0, 4.0, 1.0)
    robot.step()
    expect_fault(robot, "clock_jump")
    robot.step()
    assert robot.command.state == DRIVING


def test_a_robot_that_was_carried_elsewhere_while_inactive_starts_without_a_fault() -> None:
    robot = driving([FORWARD])
    robot.controller.restart()
    robot.now_s += 60.0
    robot.pose = Pose(4.0, 4.0, 1.0)
    robot.goal = Goal(2, 5.0, 5.0, 0.0)
    robot.step()
    assert robot.command.state == DRIVING
    robot.step_until(lambda: robot.command.v_mps > 0)
    assert robot.policy.resets == [0, 1]


def test_after_a_backward_jump_the_old_pictures_are_of_the_future() -> None:
    robot = driving([FORWARD])
    robot.camera_alive = False
    robot.now_s -= 20.0
    robot.step(2)
    expect_fault(robot, "stale_depth")


def test_a_clock_that_is_not_finite_is_a_fault() -> None:
    robot = driving([FORWARD])
    robot.now_s = math.nan
    robot.step()
    expect_fault(robot, "clock_jump")


def test_faults_in_a_row_latch_until_the_reset_and_a_new_goal() -> None:
    robot = driving([FORWARD], max_consecutive_faults=4)
    robot.camera_alive = False
    robot.step_until(lambda: robot.command.state == FAULT)
    robot.step(2)
    assert robot.command.state == FAULT
    robot.step()
    assert (robot.command.state, robot.command.fault) == (LATCHED, "stale_depth")
    robot.camera_alive = True
    asked = len(robot.policy.observations)
    robot.step(50)
    robot.goal = Goal(2, 5.0, 1.0, 0.0)
    robot.step(50)
    assert robot.command.state == LATCHED
    assert all(is_zero(command) for command in robot.commands[-100:])
    robot.controller.reset_latch()
    assert robot.step(50).state == IDLE  # the reset alone moves nothing
    assert len(robot.policy.observations) == asked
    robot.goal = Goal(3, 5.0, 1.0, 0.0)
    robot.step_until(lambda: robot.command.v_mps > 0)


def test_a_completed_action_starts_the_count_of_faults_again() -> None:
    robot = driving([FORWARD], max_consecutive_faults=3)
    for _ in range(5):
        robot.camera_alive = False
        robot.step_until(lambda: robot.command.state == FAULT)
        robot.step()
        robot.camera_alive = True
        enough = len(robot.policy.observations) + 2
        robot.step_until(lambda enough=enough: len(robot.policy.observations) == enough)  # type: ignore[misc]
    assert robot.command.state == DRIVING


def test_deactivating_does_not_open_the_latch() -> None:
    robot = driving([FORWARD], max_consecutive_faults=1)
    robot.odometry_alive = False
    robot.step_until(lambda: robot.command.state == LATCHED)
    robot.controller.restart()
    robot.odometry_alive = True
    robot.goal = Goal(2, 5.0, 1.0, 0.0)
    assert robot.step(5).state == LATCHED


def test_a_fault_that_was_reported_stops_one_step() -> None:
    robot = driving([FORWARD])
    robot.controller.report(Fault("watchdog", "late"))
    robot.step()
    expect_fault(robot, "watchdog")
    robot.step()
    assert robot.command.state == DRIVING


def test_a_mistake_of_our_own_ends_in_a_standing_robot() -> None:
    robot = driving([FORWARD])
    robot.odometry_alive, robot.odometry = False, "not odometry"  # type: ignore[assignment]
    robot.step()
    expect_fault(robot, "internal_error")


def test_stop_near_the_goal_is_an_arrival_and_ends_the_episode() -> None:
    robot = Robot(FakePolicy([STOP]))
    robot.goal = Goal(1, 0.2, 0.0, 0.0)
    robot.step(2)
    assert robot.command.state == ARRIVED
    assert "0.20 m" in robot.command.detail
    robot.step(20)
    assert robot.command.state == ARRIVED
    assert robot.controller.has_ended
    assert len(robot.policy.observations) == 1


def test_stop_far_from_the_goal_is_said_to_be_short_of_it() -> None:
    robot = Robot(FakePolicy([STOP]))
    robot.step(2)
    assert robot.command.state == STOPPED_SHORT
    assert is_zero(robot.command)
    assert "5.00 m" in robot.command.detail


def test_after_an_arrival_a_new_goal_is_driven_to_with_a_reset_policy() -> None:
    robot = Robot(FakePolicy([STOP, FORWARD]))
    robot.step(2)
    robot.goal = Goal(2, 3.0, 0.0, 0.0)
    robot.step_until(lambda: robot.command.v_mps > 0)
    assert robot.policy.resets == [0, 1]


def test_a_policy_without_stop_is_stopped_at_the_goal() -> None:
    choices = [{**c, "index": c["index"] - 1} for c in DISCRETE["discrete"]["choices"][1:]]
    robot = Robot(FakePolicy([0], contract(DISCRETE, discrete={"choices": choices})))
    robot.goal = Goal(1, 1.0, 0.0, 0.0)
    robot.step_until(lambda: robot.command.state == ARRIVED)
    assert robot.pose.x == pytest.approx(0.7, abs=0.02)


def test_a_policy_of_depth_and_rgb_refuses_pictures_that_are_apart() -> None:
    spec = contract(DISCRETE, observations=[*DISCRETE["observations"], RGB_FIELD])
    robot = Robot(FakePolicy([FORWARD], spec))
    robot.step(1)
    expect_fault(robot, "no_rgb")
    robot.image = depth_picture(robot.now_s - 0.2)._replace(encoding="rgb8")
    robot.step(1)
    expect_fault(robot, "images_apart")


def test_a_continuous_stop_ends_the_episode() -> None:
    robot = Robot(FakePolicy([FakeAction(None, "stop", None)], CONTINUOUS))
    robot.step(2)
    assert robot.command.state == STOPPED_SHORT


def test_turning_left_is_positive() -> None:
    robot = driving([LEFT])
    assert robot.command.w_rps > 0
    assert robot.command.v_mps == 0


def test_the_latch_counts_to_its_limit_and_only_a_reset_opens_it() -> None:
    latch = FaultLatch(2)
    latch.add(Fault("first", "a"))
    latch.clear()
    latch.add(Fault("second", "b"))
    assert not latch.is_latched
    latch.add(Fault("third", "c"))
    latch.add(Fault("fourth", "d"))
    assert latch.latched_by == "third: c"
    latch.clear()
    assert latch.is_latched
    latch.reset()
    assert (latch.is_latched, latch.count) == (False, 0)
    with pytest.raises(ValueError, match="at least 1"):
        FaultLatch(0)
