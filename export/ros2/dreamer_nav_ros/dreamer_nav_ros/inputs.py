"""What the controller is given: messages of ROS, without ROS."""

from __future__ import annotations

import math
from typing import NamedTuple


class Picture(NamedTuple):
    """A camera's picture as it came off the wire (the fields of `sensor_msgs/Image`).

    `stamp_s` is the time of exposure on the node's clock, `row_bytes` the length of a row with
    its padding.
    """

    stamp_s: float
    height: int
    width: int
    encoding: str
    is_big_endian: bool
    row_bytes: int
    data: bytes


class Pose(NamedTuple):
    """A pose on the floor: metres, and a heading in radians counter-clockwise from +x."""

    x: float
    y: float
    yaw: float


class Odometry(NamedTuple):
    """Where the robot is in the `odom` frame, and how fast it moves (m/s, rad/s)."""

    stamp_s: float
    pose: Pose
    v_mps: float
    w_rps: float


class Goal(NamedTuple):
    """Where to go, in the `odom` frame.

    `number` differs between goals; `stamp_s` is when the position was last projected into `odom`.
    """

    number: int
    x: float
    y: float
    stamp_s: float


def wrap_angle(angle: float) -> float:
    """Return `angle` (radians) in (-pi, pi]."""
    wrapped = math.remainder(angle, 2.0 * math.pi)
    return math.pi if wrapped == -math.pi else wrapped
