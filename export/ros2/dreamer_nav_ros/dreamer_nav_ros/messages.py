"""ROS messages into the core's inputs and back, by their fields' names: no import of ROS."""

from __future__ import annotations

import math
from typing import Any

from dreamer_nav_ros.camera_info import Intrinsics
from dreamer_nav_ros.command import Command
from dreamer_nav_ros.goal import FrameTransform, GoalMessage
from dreamer_nav_ros.inputs import Odometry, Picture, Pose

QUATERNION_TOLERANCE = 0.05


def stamp_s(time: Any) -> float:
    """Return a `builtin_interfaces/Time` in seconds."""
    return float(time.sec) + 1e-9 * float(time.nanosec)


def picture(msg: Any) -> Picture:
    """Return a `sensor_msgs/Image`; its data are not copied."""
    return Picture(
        stamp_s(msg.header.stamp),
        int(msg.height),
        int(msg.width),
        msg.encoding,
        bool(msg.is_bigendian),
        int(msg.step),
        msg.data,
    )


def odometry(msg: Any) -> Odometry:
    """Return a `nav_msgs/Odometry`; a heading of NaN stands for no rotation at all."""
    pose, twist = msg.pose.pose, msg.twist.twist
    return Odometry(
        stamp_s(msg.header.stamp),
        Pose(float(pose.position.x), float(pose.position.y), yaw(pose.orientation)),
        float(twist.linear.x),
        float(twist.angular.z),
    )


def goal_message(msg: Any) -> GoalMessage:
    """Return a `geometry_msgs/PoseStamped`; its orientation has no meaning for PointGoal."""
    position = msg.pose.position
    stamp = stamp_s(msg.header.stamp)
    return GoalMessage(msg.header.frame_id, stamp, float(position.x), float(position.y))


def transform(msg: Any) -> FrameTransform:
    """Return a `geometry_msgs/TransformStamped`.

    tf2 stamps what only static transforms make up with 0: that never gets old.
    """
    stamp = stamp_s(msg.header.stamp)
    move = msg.transform
    pose = Pose(float(move.translation.x), float(move.translation.y), yaw(move.rotation))
    return FrameTransform(pose, stamp if stamp > 0 else math.inf)


def intrinsics(msg: Any) -> Intrinsics:
    """Return a `sensor_msgs/CameraInfo`: of the rectified picture (P) where it is given, else K."""
    fx, fy, cx, cy = msg.k[0], msg.k[4], msg.k[2], msg.k[5]
    if msg.p[0] > 0:
        fx, fy, cx, cy = msg.p[0], msg.p[5], msg.p[2], msg.p[6]
    roi = msg.roi
    has_roi = bool(roi.width or roi.height or roi.x_offset or roi.y_offset)
    is_full_roi = (roi.width, roi.height) == (msg.width, msg.height)
    is_binned = msg.binning_x > 1 or msg.binning_y > 1
    return Intrinsics(
        int(msg.height),
        int(msg.width),
        float(fx),
        float(fy),
        float(cx),
        float(cy),
        is_binned or (has_roi and not is_full_roi),
    )


def yaw(rotation: Any) -> float:
    """Return the heading of a quaternion in radians, NaN unless its length is 1."""
    x, y, z, w = (float(v) for v in (rotation.x, rotation.y, rotation.z, rotation.w))
    length = math.sqrt(x * x + y * y + z * z + w * w)
    if not abs(length - 1.0) <= QUATERNION_TOLERANCE:
        return math.nan
    return math.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


def fill_twist(twist: Any, command: Command) -> None:
    """Write `command` into a `geometry_msgs/Twist`."""
    twist.linear.x = float(command.v_mps)
    twist.angular.z = float(command.w_rps)
