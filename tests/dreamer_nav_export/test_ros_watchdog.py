"""The watchdog, with a control step that really hangs in another thread."""

from __future__ import annotations

import math
import threading
import time

import pytest

from dreamer_nav_ros.camera_info import fit_camera
from dreamer_nav_ros.command import DRIVING, FAULT, IDLE, LATCHED, Command
from dreamer_nav_ros.contract_fields import read_fields
from dreamer_nav_ros.goal import FrameTransform, GoalMessage
from dreamer_nav_ros.inputs import Odometry, Pose
from dreamer_nav_ros.pilot import Pilot
from dreamer_nav_ros.settings import Settings
from dreamer_nav_ros.watchdog import Watchdog
from tests.dreamer_nav_export.ros_robot import (
    CAMERA,
    CONTINUOUS,
    FakePolicy,
    depth_picture,
    is_zero,
)

GO = Command(0.2, 0.0, DRIVING)


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


class Scene:
    """A watchdog under a fake clock, and what was published."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.dog = Watchdog(0.5, self.clock)
        self.sent: list[Command] = []

    def deliver(self, ticket: int) -> Command:
        self.dog.deliver(ticket, GO, self.sent.append)
        return self.sent[-1]


def test_commands_in_time_go_out() -> None:
    scene = Scene()
    scene.dog.arm()
    for _ in range(5):
        ticket = scene.dog.begin()
        scene.clock.now_s += 0.4
        assert not scene.dog.check(scene.sent.append)
        assert scene.deliver(ticket) == GO
    assert not scene.dog.take_trip()


def test_a_step_that_does_not_come_back_is_answered_with_zero_again_and_again() -> None:
    scene = Scene()
    scene.dog.arm()
    ticket = scene.dog.begin()
    scene.clock.now_s += 0.51
    assert scene.dog.check(scene.sent.append)
    assert scene.dog.check(scene.sent.append)
    assert [is_zero(command) for command in scene.sent] == [True, True]
    # It comes back after all, with a command of before.
    assert is_zero(scene.deliver(ticket))
    assert scene.dog.take_trip()
    assert not scene.dog.take_trip()
    assert scene.deliver(scene.dog.begin()) == GO


def test_a_late_command_is_zero_even_if_nobody_checked() -> None:
    scene = Scene()
    scene.dog.arm()
    ticket = scene.dog.begin()
    scene.clock.now_s += 0.51
    assert is_zero(scene.deliver(ticket))
    assert scene.dog.take_trip()


def test_a_step_under_way_when_it_barks_is_not_delivered_even_if_it_was_short() -> None:
    scene = Scene()
    scene.dog.arm()
    scene.clock.now_s += 0.4
    ticket = scene.dog.begin()
    scene.clock.now_s += 0.11
    assert scene.dog.check(scene.sent.append)
    scene.clock.now_s += 0.04
    assert is_zero(scene.deliver(ticket))


def test_disarmed_it_sends_zero_once_and_nothing_after() -> None:
    scene = Scene()
    scene.dog.arm()
    ticket = scene.dog.begin()
    scene.dog.disarm(scene.sent.append)
    scene.dog.deliver(ticket, GO, scene.sent.append)
    scene.clock.now_s += 10.0
    assert not scene.dog.check(scene.sent.append)
    assert [is_zero(command) for command in scene.sent] == [True]


def test_a_step_of_before_the_activation_is_not_delivered() -> None:
    scene = Scene()
    scene.dog.arm()
    ticket = scene.dog.begin()
    scene.dog.disarm(scene.sent.append)
    scene.dog.arm()
    assert is_zero(scene.deliver(ticket))


class Drive:
    """A pilot in front of a goal, with a policy that drives straight on."""

    def __init__(self, clock: Clock | None = None, **settings: object) -> None:
        self.policy = FakePolicy([[1.0, 0.0]], CONTINUOUS)
        self.settings = Settings(policy_file="x", **settings)  # type: ignore[arg-type]
        fields = read_fields(self.policy.spec)
        windows = {f.name: fit_camera(CAMERA, f, 2.0, False) for f in fields.cameras}
        timer = clock or time.monotonic
        self.pilot = Pilot(self.policy, fields, {"depth": CAMERA}, windows, self.settings, timer)
        self.sent: list[Command] = []
        self.now_s = 100.0

    def start(self) -> None:
        self.pilot.activate()
        assert self.pilot.on_goal(GoalMessage("odom", 1.0, 9.0, 0.0))

    def tick(self) -> Command:
        self.now_s += 0.05
        self.pilot.on_depth(depth_picture(self.now_s))
        self.pilot.on_odometry(Odometry(self.now_s, Pose(0, 0, 0), 0.0, 0.0))
        self.pilot.tick(self.now_s, lambda frame: None, self.sent.append)
        return self.sent[-1]


def test_zero_goes_out_while_inference_hangs_and_its_late_answer_is_dropped() -> None:
    drive = Drive(watchdog_timeout_s=0.2, max_inference_s=0.1)
    drive.start()
    drive.tick()
    for _ in range(3):
        assert not is_zero(drive.tick())
    hang, is_hanging = threading.Event(), threading.Event()

    def stuck() -> None:
        is_hanging.set()
        assert hang.wait(10.0)

    drive.policy.before_answer = stuck
    thread = threading.Thread(target=drive.tick)
    thread.start()
    assert is_hanging.wait(10.0)
    before = len(drive.sent)
    deadline = time.monotonic() + 10.0
    while not drive.pilot.watch(drive.sent.append) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(drive.sent) > before
    assert is_zero(drive.sent[-1])
    drive.policy.before_answer = lambda: None
    hang.set()
    thread.join(10.0)
    assert is_zero(drive.sent[-1])
    resets = len(drive.policy.resets)
    assert drive.tick().fault == "watchdog"
    drive.tick()
    assert not is_zero(drive.tick())
    assert len(drive.policy.resets) == resets + 1


def test_watchdog_trips_latch_like_any_fault() -> None:
    clock = Clock()
    drive = Drive(clock, max_consecutive_faults=1)
    drive.start()
    drive.tick()
    clock.now_s += 0.6
    drive.pilot.watch(drive.sent.append)
    assert drive.tick().state == LATCHED
    assert drive.pilot.reset_stop()
    assert not drive.pilot.reset_stop()
    assert drive.tick().state == IDLE


def test_nothing_is_published_before_activation_nor_after_deactivation() -> None:
    drive = Drive()
    drive.pilot.on_goal(GoalMessage("odom", 1.0, 9.0, 0.0))
    drive.pilot.tick(100.0, lambda frame: None, drive.sent.append)
    assert not drive.sent
    drive.start()
    drive.tick()
    assert not is_zero(drive.tick())
    drive.pilot.deactivate(drive.sent.append)
    assert is_zero(drive.sent[-1])
    count = len(drive.sent)
    drive.pilot.tick(drive.now_s + 0.05, lambda frame: None, drive.sent.append)
    assert len(drive.sent) == count


def test_an_activation_waits_for_a_new_goal() -> None:
    drive = Drive()
    drive.start()
    drive.tick()
    assert not is_zero(drive.tick())
    drive.pilot.deactivate(drive.sent.append)
    drive.pilot.activate()
    for _ in range(5):
        assert drive.tick().state == IDLE


def test_a_later_activation_starts_afresh() -> None:
    drive = Drive()
    drive.start()
    drive.tick()
    drive.pilot.deactivate(drive.sent.append)
    drive.now_s += 60.0
    drive.start()
    assert drive.tick().state == DRIVING
    assert drive.policy.resets == [0, 1]


def test_messages_of_before_the_activation_are_not_used() -> None:
    drive = Drive()
    drive.start()
    drive.tick()
    drive.pilot.deactivate(drive.sent.append)
    drive.start()
    command = drive.pilot.tick(drive.now_s + 0.05, lambda frame: None, drive.sent.append)
    assert command.fault == "no_odometry"


def test_a_goal_that_came_while_the_stop_was_latched_is_dropped_by_the_reset() -> None:
    clock = Clock()
    drive = Drive(clock, max_consecutive_faults=1)
    drive.start()
    drive.tick()
    clock.now_s += 0.6
    drive.pilot.watch(drive.sent.append)
    assert drive.tick().state == LATCHED
    assert drive.pilot.on_goal(GoalMessage("odom", 2.0, 5.0, 5.0))
    assert drive.pilot.reset_stop()
    assert [drive.tick().state for _ in range(5)] == [IDLE] * 5


def test_a_camera_that_changes_under_way_stops_the_robot() -> None:
    drive = Drive()
    drive.start()
    drive.tick()
    drive.tick()
    drive.pilot.on_camera_info("depth", CAMERA)
    assert not is_zero(drive.tick())
    drive.pilot.on_camera_info("depth", CAMERA._replace(fx=9.0))
    assert drive.tick().fault == "camera_changed"
    drive.pilot.on_camera_info("depth", CAMERA)
    drive.tick()
    assert not is_zero(drive.tick())


def test_a_transform_that_fails_stops_the_robot() -> None:
    drive = Drive()
    drive.pilot.activate()
    drive.pilot.on_goal(GoalMessage("map", 1.0, 9.0, 0.0))

    def broken(frame: str) -> FrameTransform | None:
        raise LookupError(frame)

    command = drive.pilot.tick(100.0, broken, drive.sent.append)
    assert (command.state, command.fault) == (FAULT, "stale_goal")
    assert "LookupError: map" in command.detail


def test_the_status_names_state_fault_and_counts() -> None:
    drive = Drive()
    drive.start()
    drive.tick()
    status = drive.pilot.status()
    assert status["state"] == DRIVING
    assert status["faults in a row"] == "0"
    assert all(isinstance(value, str) for value in status.values())
    assert not math.isnan(float(status["last inference (ms)"]))


def test_more_than_the_timeout_for_inference_is_refused() -> None:
    with pytest.raises(ValueError, match="max_inference_s must be below"):
        Settings(max_inference_s=0.5, watchdog_timeout_s=0.5)
