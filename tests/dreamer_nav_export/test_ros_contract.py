"""What the node reads of a contract, and how messages become its inputs."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace as Msg
from typing import Any

import numpy as np
import pytest

from dreamer_nav_ros import messages
from dreamer_nav_ros.camera_info import Intrinsics
from dreamer_nav_ros.command import DRIVING, Command
from dreamer_nav_ros.contract_fields import CameraField, ContractError, MoveAction, read_fields
from dreamer_nav_ros.goal import GoalMessage
from dreamer_nav_ros.inputs import Pose
from tests.dreamer_nav_export.ros_robot import CONTINUOUS, DISCRETE, RGB_FIELD, SIZE, contract


def test_a_discrete_contract() -> None:
    fields = read_fields(DISCRETE)
    assert fields.depth == CameraField("depth", SIZE, SIZE, 90.0, 0.88, 0.0, 0.1, 10.0, 10.0)
    assert fields.rgb is None
    assert fields.goal_name == "pointgoal"
    assert fields.max_staleness_s == 0.5
    assert fields.has_stop
    assert fields.moves == (
        MoveAction("stop", 0.0, 0.0),
        MoveAction("forward", 0.25, 0.0),
        MoveAction("left", 0.0, math.pi / 6),
        MoveAction("right", 0.0, -math.pi / 6),
    )


def test_an_object_with_to_json_is_read_like_its_json() -> None:
    assert read_fields(Msg(to_json=lambda: DISCRETE)) == read_fields(DISCRETE)


def test_a_continuous_contract_scales_to_metres_and_radians_whatever_the_order() -> None:
    fields = read_fields(CONTINUOUS)
    assert fields.velocity is not None
    assert fields.velocity.duration_s == 0.2
    v, w = fields.velocity.velocities(np.array([-1.0, 0.5], np.float32))
    assert (v, w) == (0.0, pytest.approx(math.radians(45)))
    components = CONTINUOUS["continuous"]["components"][::-1]
    turned = read_fields(contract(CONTINUOUS, continuous={"components": components}))
    assert turned.velocity is not None
    assert turned.velocity.duration_s == 0.2  # of control.rate_hz
    assert turned.velocity.velocities(np.array([0.5, -1.0])) == pytest.approx((v, w))


def test_turns_may_be_told_in_degrees_and_rgb_may_be_seen_too() -> None:
    choices = copy.deepcopy(DISCRETE["discrete"]["choices"])
    choices[2].update(magnitude=30.0, unit="deg")
    spec = contract(
        DISCRETE,
        discrete={"choices": choices},
        observations=[*DISCRETE["observations"], RGB_FIELD],
    )
    fields = read_fields(spec)
    assert fields.moves is not None
    assert fields.moves[2].turn_rad == pytest.approx(math.pi / 6)
    assert [camera.name for camera in fields.cameras] == ["depth", "rgb"]


def broken(path: str, value: Any, base: dict[str, Any] = DISCRETE) -> dict[str, Any]:
    """`base` with the value at a dotted path replaced."""
    spec = copy.deepcopy(base)
    *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    place: Any = spec
    for parent in parents:
        place = place[parent]
    place[last] = value
    return spec


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("observations.0.kind", "lidar", "lidar"),
        ("observations.1.kind", "vector", "goal"),
        ("observations.0.units", ["mm"], "mm"),
        ("observations.0.shape", [8, 8, 2], r"\[8, 8, 2\]"),
        ("observations.0.dtype", "uint8", "uint8"),
        ("observations.0.camera", None, "camera"),
        ("observations.0.camera.hfov_deg", None, "hfov_deg"),
        ("observations.0.invalid", None, "invalid"),
        ("observations.0.invalid.value", 12.0, "12.0"),
        ("observations.0.low", [11.0], "11.0"),
        ("observations.0.high", [None], "None"),
        ("observations.1.shape", [3], r"\[3\]"),
        ("observations.1.units", ["m", "m"], "rad"),
        ("discrete", None, "either"),
        ("continuous", {}, "either"),
        ("discrete.choices.1.motion", None, "motion"),
        ("discrete.choices.1.motion", "jump", "jump"),
        ("discrete.choices.1.magnitude", -0.25, "-0.25"),
        ("discrete.choices.1.unit", "rad", "forward"),
        ("discrete.choices.2.unit", "m", "turn"),
        ("discrete.choices.2.magnitude", 7.0, "7.0"),
        ("control.max_staleness_s", 0.0, "max_staleness_s"),
        ("control.max_staleness_s", math.nan, "max_staleness_s"),
    ],
)
def test_a_contract_that_cannot_be_met_is_refused(path: str, value: Any, told: str) -> None:
    with pytest.raises(ContractError, match=told):
        read_fields(broken(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("continuous.components.0.unit", "rad/s"),
        ("continuous.components.1.unit", None),
        ("continuous.components.1.scale", None),
    ],
)
def test_a_continuous_action_without_meaning_is_refused(path: str, value: Any) -> None:
    with pytest.raises(ContractError, match=r"component|scale"):
        read_fields(broken(path, value, CONTINUOUS))


STAMP = Msg(sec=12, nanosec=500_000_000)


def rotation(yaw: float, length: float = 1.0) -> Msg:
    return Msg(x=0.0, y=0.0, z=length * math.sin(yaw / 2), w=length * math.cos(yaw / 2))


def odometry_message(orientation: Msg) -> Msg:
    pose = Msg(position=Msg(x=1.0, y=-2.0, z=0.3), orientation=orientation)
    twist = Msg(linear=Msg(x=0.4), angular=Msg(z=-0.2))
    return Msg(header=Msg(stamp=STAMP), pose=Msg(pose=pose), twist=Msg(twist=twist))


def test_odometry_and_the_heading_of_its_quaternion() -> None:
    odometry = messages.odometry(odometry_message(rotation(2.5)))
    assert odometry.stamp_s == 12.5
    assert odometry.pose == pytest.approx((1.0, -2.0, 2.5))
    assert (odometry.v_mps, odometry.w_rps) == (0.4, -0.2)


def test_the_heading_of_a_tilted_base_is_its_yaw() -> None:
    cos_yaw, sin_yaw, cos_pitch, sin_pitch = (
        math.cos(0.6),
        math.sin(0.6),
        math.cos(0.2),
        math.sin(0.2),
    )
    # Pitch first, then yaw: the product of the two quaternions.
    tilted = Msg(
        x=-sin_yaw * sin_pitch, y=cos_yaw * sin_pitch, z=sin_yaw * cos_pitch, w=cos_yaw * cos_pitch
    )
    assert messages.yaw(tilted) == pytest.approx(1.2)


@pytest.mark.parametrize("length", [0.0, 0.5, 2.0, math.nan])
def test_a_quaternion_that_is_no_rotation_has_no_heading(length: float) -> None:
    odometry = messages.odometry(odometry_message(rotation(1.0, length)))
    assert math.isnan(odometry.pose.yaw)


def camera_info(**changes: Any) -> Msg:
    roi = Msg(width=0, height=0, x_offset=0, y_offset=0)
    fields: dict[str, Any] = {
        "height": 480,
        "width": 640,
        "k": [500.0, 0.0, 321.0, 0.0, 501.0, 241.0, 0.0, 0.0, 1.0],
        "p": [0.0] * 12,
        "roi": roi,
        "binning_x": 0,
        "binning_y": 0,
    }
    return Msg(**{**fields, **changes})


def test_camera_info_of_the_raw_and_of_the_rectified_picture() -> None:
    raw = Intrinsics(480, 640, 500.0, 501.0, 321.0, 241.0, False)
    assert messages.intrinsics(camera_info()) == raw
    p = [400.0, 0.0, 320.0, 0.0, 0.0, 401.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    rectified = messages.intrinsics(camera_info(p=p))
    assert rectified == Intrinsics(480, 640, 400.0, 401.0, 320.0, 240.0, False)


def test_a_part_of_a_picture_is_seen_to_be_one() -> None:
    part = Msg(width=320, height=240, x_offset=10, y_offset=0)
    whole = Msg(width=640, height=480, x_offset=0, y_offset=0)
    assert messages.intrinsics(camera_info(roi=part)).is_partial
    assert messages.intrinsics(camera_info(binning_y=2)).is_partial
    assert not messages.intrinsics(camera_info(roi=whole, binning_x=1)).is_partial


def test_a_picture_keeps_its_buffer() -> None:
    data = b"\1" * 16
    msg = Msg(
        header=Msg(stamp=STAMP),
        height=2,
        width=2,
        encoding="32FC1",
        is_bigendian=1,
        step=8,
        data=data,
    )
    picture = messages.picture(msg)
    assert picture.data is data
    assert picture[:6] == (12.5, 2, 2, "32FC1", True, 8)


def test_goals_and_transforms() -> None:
    pose = Msg(position=Msg(x=3.0, y=4.0, z=0.0), orientation=rotation(1.0))
    goal = messages.goal_message(Msg(header=Msg(stamp=STAMP, frame_id="map"), pose=pose))
    assert goal == GoalMessage("map", 12.5, 3.0, 4.0)
    move = Msg(translation=Msg(x=1.0, y=2.0, z=0.0), rotation=rotation(-0.5))
    found = messages.transform(Msg(header=Msg(stamp=STAMP), transform=move))
    assert found.stamp_s == 12.5
    assert found.pose == pytest.approx(Pose(1.0, 2.0, -0.5))
    static = Msg(header=Msg(stamp=Msg(sec=0, nanosec=0)), transform=move)
    assert messages.transform(static).stamp_s == math.inf


def test_a_command_fills_a_twist() -> None:
    twist = Msg(linear=Msg(x=9.0, y=0.0), angular=Msg(z=9.0))
    messages.fill_twist(twist, Command(0.2, -0.3, DRIVING))
    assert (twist.linear.x, twist.linear.y, twist.angular.z) == (0.2, 0.0, -0.3)
