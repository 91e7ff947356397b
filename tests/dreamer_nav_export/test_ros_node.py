"""The node's wiring, under stand-ins for ROS: lifecycle, topics, timers, services, what is published."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from types import SimpleNamespace as Msg
from typing import Any

import numpy as np
import pytest

from tests.dreamer_nav_export import ros_stubs
from tests.dreamer_nav_export.ros_robot import CONTINUOUS, SIZE, FakeAction, FakePolicy
from tests.dreamer_nav_export.ros_stubs import Message, Result

STRAIGHT = [1.0, 0.0]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    ros_stubs.install(monkeypatch)
    yield importlib.import_module("dreamer_nav_ros.node")
    monkeypatch.undo()


class Bench:
    """A node with a policy, and the messages of a robot that stands at the origin."""

    def __init__(self, module: Any, script: list[Any] | None = None) -> None:
        self.policy = FakePolicy(script or [STRAIGHT], CONTINUOUS)
        self.loaded: list[tuple[str, str]] = []
        self.node = module.DreamerNavNode(load=self.load)
        self.node.parameters["policy_file"] = "p.onnx"
        self.node.parameters["camera_info_timeout_s"] = 0.05
        self.focal = SIZE / 2
        make = self.node.create_subscription

        # The camera publishes its CameraInfo as soon as somebody listens.
        def subscribe(kind: type, topic: str, callback: Any, qos: Any, callback_group: Any) -> Any:
            if topic == "depth/camera_info" and self.focal:
                callback(self.camera_info())
            return make(kind, topic, callback, qos, callback_group)

        self.node.create_subscription = subscribe

    def load(self, path: str, sha256: str) -> FakePolicy:
        self.loaded.append((path, sha256))
        return self.policy

    def camera_info(self) -> Msg:
        half = SIZE / 2
        k = [self.focal, 0.0, half, 0.0, self.focal, half, 0.0, 0.0, 1.0]
        roi = Msg(width=0, height=0, x_offset=0, y_offset=0)
        return Msg(height=SIZE, width=SIZE, k=k, p=[0.0] * 12, roi=roi, binning_x=0, binning_y=0)

    def header(self, frame: str = "") -> Msg:
        nanoseconds = round(self.node.now_s * 1e9)
        stamp = Msg(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
        return Msg(stamp=stamp, frame_id=frame)

    def call(self, topic: str, *messages: Any) -> Any:
        return self.node.callbacks[topic][0](*messages)

    def send_goal(self, frame: str = "odom", x: float = 9.0) -> None:
        pose = Msg(position=Msg(x=x, y=0.0))
        self.call("goal_pose", Msg(header=self.header(frame), pose=pose))

    def tick(self) -> Any:
        self.node.now_s += 0.05
        data = np.full((SIZE, SIZE), 2.0, "<f4").tobytes()
        picture = Msg(
            header=self.header(), height=SIZE, width=SIZE, encoding="32FC1", is_bigendian=0
        )
        picture.step, picture.data = 4 * SIZE, data
        self.call("depth/image", picture)
        pose = Msg(position=Msg(x=0.0, y=0.0), orientation=Msg(x=0.0, y=0.0, z=0.0, w=1.0))
        twist = Msg(linear=Msg(x=0.0), angular=Msg(z=0.0))
        odometry = Msg(header=self.header(), pose=Msg(pose=pose), twist=Msg(twist=twist))
        self.call("odom", odometry)
        self.node._control()
        return self.sent("cmd_vel")[-1]

    def sent(self, topic: str) -> list[Any]:
        sent: list[Any] = self.node.publishers_by_topic[topic].sent
        return sent

    def errors(self) -> str:
        return " ".join(text for level, text in self.node.log.lines if level == "error")


def active(module: Any, script: list[Any] | None = None) -> Bench:
    bench = Bench(module, script)
    assert bench.node.on_configure(None) is Result.SUCCESS
    assert bench.node.on_activate(None) is Result.SUCCESS
    return bench


def test_a_goal_moves_the_robot_with_stamped_commands(module: Any) -> None:
    bench = active(module)
    bench.send_goal()
    bench.tick()
    msg = bench.tick()
    assert type(msg).__name__ == "TwistStamped"
    assert msg.header.frame_id == "base_link"
    assert msg.header.stamp.sec == 100
    assert msg.twist.linear.x > 0
    assert bench.loaded == [("p.onnx", "")]


def test_plain_twists_on_request(module: Any) -> None:
    bench = Bench(module)
    bench.node.parameters["enable_stamped_cmd_vel"] = False
    bench.node.on_configure(None)
    bench.node.on_activate(None)
    bench.send_goal()
    bench.tick()
    msg = bench.tick()
    assert type(msg).__name__ == "Twist"
    assert msg.linear.x > 0


def test_nothing_is_published_before_activation(module: Any) -> None:
    bench = Bench(module)
    bench.node.on_configure(None)
    assert not bench.node.timers_by_name
    bench.node._control()
    assert not bench.sent("cmd_vel")


@pytest.mark.parametrize("end", ["on_deactivate", "on_cleanup", "on_shutdown", "on_error"])
def test_leaving_sends_zero_last_and_stops_the_timers(module: Any, end: str) -> None:
    bench = active(module)
    bench.send_goal()
    bench.tick()
    assert bench.tick().twist.linear.x > 0
    sent = bench.sent("cmd_vel")
    assert getattr(bench.node, end)(None) is Result.SUCCESS
    assert sent[-1].twist.linear.x == sent[-1].twist.angular.z == 0.0
    assert not bench.node.timers_by_name
    count = len(sent)
    bench.node._control()
    assert len(sent) == count


def test_the_control_loop_and_the_watchdog_share_neither_thread_nor_clock(module: Any) -> None:
    bench = active(module)
    control_s, control_group, control_clock = bench.node.timers_by_name["_control"]
    watch_s, watch_group, watch_clock = bench.node.timers_by_name["_watch"]
    assert control_group is not watch_group
    assert control_clock is None  # the node's: simulated time with use_sim_time
    assert watch_clock.clock_type == "steady"
    assert (control_s, watch_s) == (0.05, 0.125)


def test_sensors_are_best_effort_of_depth_one_in_a_group_of_their_own(module: Any) -> None:
    bench = active(module)
    control_group = bench.node.timers_by_name["_control"][1]
    for topic in ("depth/image", "depth/camera_info", "odom"):
        _, qos, group = bench.node.callbacks[topic]
        assert (qos.depth, qos.reliability, qos.history) == (1, "best", "last")
        assert group is not control_group
    for name in ("goal_pose", "~/reset_stop"):
        assert bench.node.callbacks[name][2] is control_group
    assert "rgb/image" not in bench.node.callbacks


def test_without_camera_info_the_node_is_not_configured(module: Any) -> None:
    bench = Bench(module)
    bench.focal = 0.0
    assert bench.node.on_configure(None) is Result.FAILURE
    assert "no CameraInfo of ['depth']" in bench.errors()
    assert not bench.node.publishers_by_topic
    assert not bench.node.callbacks


def test_another_camera_is_refused(module: Any) -> None:
    bench = Bench(module)
    bench.focal = SIZE
    assert bench.node.on_configure(None) is Result.FAILURE
    assert "field of view is 53.1 degrees" in bench.errors()


def test_a_policy_that_cannot_be_loaded_is_refused_with_its_reason(module: Any) -> None:
    bench = Bench(module)

    def fail(path: str, sha256: str) -> Any:
        raise OSError(f"{path} is damaged")

    bench.node._load = fail
    assert bench.node.on_configure(None) is Result.FAILURE
    assert "p.onnx is damaged" in bench.errors()


def test_without_a_policy_file_the_node_is_not_configured(module: Any) -> None:
    bench = Bench(module)
    bench.node.parameters["policy_file"] = ""
    assert bench.node.on_configure(None) is Result.FAILURE
    assert "policy_file" in bench.errors()


def test_a_camera_that_changes_under_way_stops_the_robot(module: Any) -> None:
    bench = active(module)
    bench.send_goal()
    bench.tick()
    assert bench.tick().twist.linear.x > 0
    bench.focal = 9.0
    bench.call("depth/camera_info", bench.camera_info())
    assert bench.tick().twist.linear.x == 0.0
    assert "camera_changed" in bench.errors()


def test_the_watchdog_publishes_zero_and_says_so(module: Any) -> None:
    bench = active(module)
    bench.send_goal()
    bench.tick()
    bench.tick()
    bench.node._watch()
    assert bench.sent("cmd_vel")[-1].twist.linear.x > 0
    bench.node._pilot._watchdog._timer = lambda: math.inf
    bench.node._watch()
    assert bench.sent("cmd_vel")[-1].twist.linear.x == 0.0
    assert "watchdog" in bench.errors()


def test_a_goal_in_the_map_waits_for_its_transform(module: Any) -> None:
    bench = active(module)
    bench.send_goal("map", 3.0)
    assert bench.tick().twist.linear.x == 0.0
    assert "stale_goal" in bench.errors()
    move = Msg(translation=Msg(x=1.0, y=0.0), rotation=Msg(x=0.0, y=0.0, z=0.0, w=1.0))
    bench.node._tf_buffer.transforms["map"] = Msg(header=bench.header(), transform=move)
    bench.tick()
    assert bench.tick().twist.linear.x > 0
    assert bench.policy.observations[0]["pointgoal"] == pytest.approx([4.0, 0.0])


def test_a_transform_that_is_lost_or_no_number_is_bridged_for_a_while(module: Any) -> None:
    bench = active(module)
    bench.send_goal("map", 3.0)
    rotation = Msg(x=0.0, y=0.0, z=0.0, w=1.0)
    move = Msg(translation=Msg(x=1.0, y=0.0), rotation=rotation)
    transforms = bench.node._tf_buffer.transforms
    transforms["map"] = Msg(header=bench.header(), transform=move)
    for _ in range(3):
        bench.tick()
    del transforms["map"]
    assert bench.tick().twist.linear.x > 0
    broken = (
        Msg(translation=Msg(x=math.nan, y=0.0), rotation=rotation),
        Msg(translation=Msg(x=0.0, y=math.inf), rotation=rotation),
        Msg(translation=Msg(x=1.0, y=0.0), rotation=Msg(x=0.0, y=0.0, z=0.0, w=0.0)),
    )
    for bad in broken:
        transforms["map"] = Msg(header=bench.header(), transform=bad)
        for _ in range(5):  # longer than an action lasts, so that the policy is asked
            assert bench.tick().twist.linear.x > 0
    seen = np.array([observation["pointgoal"] for observation in bench.policy.observations])
    assert len(seen) > 4
    np.testing.assert_allclose(seen, np.tile([4.0, 0.0], (len(seen), 1)))
    for _ in range(40):  # max_goal_age_s is 2 s
        last = bench.tick()
    assert last.twist.linear.x == 0.0
    assert "stale_goal" in bench.errors()


def test_a_goal_without_a_frame_is_refused_aloud(module: Any) -> None:
    bench = active(module)
    bench.send_goal("")
    assert "goal refused" in bench.errors()
    assert bench.tick().twist.linear.x == 0.0


def test_changes_of_state_are_said_once_and_an_arrival_is_reported(module: Any) -> None:
    bench = active(module, [STRAIGHT, FakeAction(None, "stop", None)])
    bench.send_goal(x=0.2)
    for _ in range(10):
        bench.tick()
    assert [msg.data for msg in bench.sent("~/state")] == ["driving", "arrived"]
    assert ("info", "arrived: stopped 0.20 m from the goal by odometry") in bench.node.log.lines


def test_a_latched_stop_is_opened_by_the_service_and_needs_a_new_goal(module: Any) -> None:
    bench = Bench(module, [RuntimeError("broken"), STRAIGHT])
    bench.node.parameters["max_consecutive_faults"] = 1
    bench.node.on_configure(None)
    bench.node.on_activate(None)
    bench.send_goal()
    for _ in range(3):
        bench.tick()
    assert bench.sent("~/state")[-1].data == "latched inference_failed"
    response = bench.call("~/reset_stop", None, Message())
    assert response.success
    assert "was latched" in response.message
    for _ in range(5):
        assert bench.tick().twist.linear.x == 0.0
    bench.send_goal()
    bench.tick()
    assert bench.tick().twist.linear.x > 0


def test_diagnostics_have_a_level_and_the_fault(module: Any) -> None:
    bench = active(module, [RuntimeError("broken")])
    bench.node._diagnose()
    bench.send_goal()
    bench.tick()
    bench.node._diagnose()
    calm, bad = (msg.status[0] for msg in bench.sent("/diagnostics"))
    assert (calm.level, calm.message) == (b"\0", "idle")
    assert (bad.level, bad.message) == (b"\2", "fault inference_failed")
    values = {entry.key: entry.value for entry in bad.values}
    assert values["faults in a row"] == "1"
    assert "RuntimeError: broken" in values["detail"]
