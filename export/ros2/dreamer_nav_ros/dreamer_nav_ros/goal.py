"""The goal: told in any frame, followed in `odom`, shown to the policy as (rho, phi)."""

from __future__ import annotations

import math
from typing import Callable, NamedTuple, Optional

import numpy as np

from dreamer_nav_ros.inputs import Goal, Pose, wrap_angle


class FrameTransform(NamedTuple):
    """Where the origin of another frame lies in `odom`, and when that was so (+inf: always)."""

    pose: Pose
    stamp_s: float


Lookup = Callable[[str], Optional[FrameTransform]]
"""The newest transform of a frame into `odom`, or None while there is none."""


class GoalMessage(NamedTuple):
    """A goal's position as received: its frame, the message's stamp and metres."""

    frame: str
    stamp_s: float
    x: float
    y: float


def polar(pose: Pose, x: float, y: float) -> np.ndarray:
    """Return the point seen from `pose`, float32 (2,) = (rho m, phi rad in (-pi, pi], left positive).

    The same formula as the training task's `pointgoal`.
    """
    dx, dy = x - pose.x, y - pose.y
    return np.array([math.hypot(dx, dy), wrap_angle(math.atan2(dy, dx) - pose.yaw)], np.float32)


def into_odom(frame: Pose, x: float, y: float) -> "tuple[float, float]":
    """Return in `odom` the point (x, y) of a frame whose origin lies at `frame` in `odom`."""
    cos, sin = math.cos(frame.yaw), math.sin(frame.yaw)
    return frame.x + cos * x - sin * y, frame.y + sin * x + cos * y


class GoalTracker:
    """Keeps the goal where the map says it is while `odom` drifts under it.

    A goal told in `odom` stays; one told in another frame (RViz: `map`) is projected into `odom`
    again at every step, as localisation corrects itself (REP 105).
    """

    def __init__(self, odom_frame: str, same_goal_m: float) -> None:
        """Take a message within `same_goal_m` metres of the goal as the same goal, repeated."""
        self._odom_frame = odom_frame
        self._same_goal_m = same_goal_m
        self._message: Optional[GoalMessage] = None
        self._number = 0
        self._last: Optional[Goal] = None

    def accept(self, message: GoalMessage, has_ended: bool) -> bool:
        """Take `message`; return whether it is a new goal.

        A planner repeats its goal; that must not reset the policy. Once the episode `has_ended`,
        a message with another stamp is a new goal even at the same place.

        Raises:
            ValueError: no frame, or a position that is not finite.
        """
        if not message.frame:
            raise ValueError("the goal has no header.frame_id; set it, for example to 'map'")
        if not (math.isfinite(message.x) and math.isfinite(message.y)):
            raise ValueError(f"the goal's position must be finite, got {message.x}, {message.y}")
        if self._is_repeat(message, has_ended):
            return False
        self._message = message
        self._number += 1
        self._last = None
        return True

    def _is_repeat(self, message: GoalMessage, has_ended: bool) -> bool:
        known = self._message
        if known is None or known.frame != message.frame:
            return False
        if math.hypot(known.x - message.x, known.y - message.y) > self._same_goal_m:
            return False
        return not has_ended or known.stamp_s == message.stamp_s

    def drop(self) -> None:
        """Have no goal."""
        self._message = None
        self._last = None

    def project(self, now_s: float, lookup: Lookup) -> Optional[Goal]:
        """Return the goal in `odom`, None without one.

        While `lookup` has nothing for the goal's frame, the last projection is returned with its
        own stamp, so that its age shows; before the first, one that is infinitely old.
        """
        message = self._message
        if message is None:
            return None
        if message.frame == self._odom_frame:
            return Goal(self._number, message.x, message.y, now_s)
        found = lookup(message.frame)
        if found is not None:
            x, y = into_odom(found.pose, message.x, message.y)
            # Localisation stamps its transform ahead of time (AMCL by 1 s), tf2 a static one with 0.
            self._last = Goal(self._number, x, y, min(found.stamp_s, now_s))
        return self._last or Goal(self._number, message.x, message.y, -math.inf)
