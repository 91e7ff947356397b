"""From messages to the policy's observation, or a fault."""

from __future__ import annotations

import math
from typing import Dict, Mapping, Optional

import numpy as np

from dreamer_nav_ros.contract_fields import CameraField, PolicyFields
from dreamer_nav_ros.faults import Fault
from dreamer_nav_ros.freshness import FrameGap, check_age
from dreamer_nav_ros.goal import polar
from dreamer_nav_ros.inputs import Goal, Odometry, Picture, Pose
from dreamer_nav_ros.pictures import Window, colour_observation, depth_observation
from dreamer_nav_ros.settings import Settings


class Senses:
    """Checks every message for age and sense, and makes the observation of what passes."""

    def __init__(
        self, fields: PolicyFields, windows: Mapping[str, Window], settings: Settings
    ) -> None:
        """Look through the cameras of `windows`, by the observation's name."""
        self._fields = fields
        self._windows = dict(windows)
        self._settings = settings
        self._max_image_age_s = settings.max_image_age_s or fields.max_staleness_s
        self._gap = FrameGap(settings.max_frame_gap_s)
        self._last_pose: Optional[Pose] = None

    def forget(self) -> None:
        """Compare nothing with what came before: the clock jumped."""
        self._gap.forget()
        self._last_pose = None

    def check_odometry(self, now_s: float, odometry: Optional[Odometry]) -> Odometry:
        """Return `odometry`.

        Raises:
            Fault: `no_odometry`, `stale_odometry`, `bad_odometry` or `odometry_jump`.
        """
        if odometry is None:
            raise Fault("no_odometry", "none was received; check the topic and its QoS")
        check_age("odometry", odometry.stamp_s, now_s, self._settings.max_odom_age_s)
        numbers = (*odometry.pose, odometry.v_mps, odometry.w_rps)
        if not all(math.isfinite(number) for number in numbers):
            raise Fault("bad_odometry", f"all numbers must be finite, got {odometry}")
        self._check_jump(odometry)
        return odometry

    def _check_jump(self, odometry: Odometry) -> None:
        last, self._last_pose = self._last_pose, odometry.pose
        if last is None:
            return
        jump = math.hypot(odometry.pose.x - last.x, odometry.pose.y - last.y)
        if jump > self._settings.max_odom_jump_m:
            raise Fault(
                "odometry_jump",
                f"odometry moved by {jump:.2f} m between two messages, at most "
                f"{self._settings.max_odom_jump_m} m are allowed; it was reset, or follows the map",
            )

    def check_pictures(
        self, now_s: float, image: Optional[Picture], depth: Optional[Picture]
    ) -> None:
        """Check that the pictures that the policy needs are there and of now.

        Raises:
            Fault: `no_<kind>`, `stale_<kind>` or `images_apart`.
        """
        for kind, field, picture in (
            ("depth", self._fields.depth, depth),
            ("rgb", self._fields.rgb, image),
        ):
            if field is None:
                continue
            if picture is None:
                raise Fault(f"no_{kind}", f"no {kind} picture was received; check the topic")
            check_age(kind, picture.stamp_s, now_s, self._max_image_age_s)
        if self._fields.depth is not None and self._fields.rgb is not None:
            assert image is not None
            assert depth is not None
            skew = abs(image.stamp_s - depth.stamp_s)
            if skew > self._settings.max_image_skew_s:
                raise Fault(
                    "images_apart",
                    f"depth and rgb are {skew:.3f} s apart, at most "
                    f"{self._settings.max_image_skew_s} s are allowed; synchronise them in the driver",
                )

    def oldest_stamp(
        self, now_s: float, image: Optional[Picture], depth: Optional[Picture]
    ) -> float:
        """Return the stamp of the older of the pictures that the policy needs, now if it needs none."""
        stamps = [now_s]
        if self._fields.depth is not None and depth is not None:
            stamps.append(depth.stamp_s)
        if self._fields.rgb is not None and image is not None:
            stamps.append(image.stamp_s)
        return min(stamps)

    def is_gap(self, stamp_s: float) -> bool:
        """Whether pictures are missing before the one of `stamp_s`."""
        return self._gap.is_gap(stamp_s)

    def check_goal(self, now_s: float, goal: Goal) -> None:
        """Raise the fault `stale_goal` unless the goal was projected into `odom` lately."""
        check_age("goal", goal.stamp_s, now_s, self._settings.max_goal_age_s)

    def observe(
        self, image: Optional[Picture], depth: Optional[Picture], pose: Pose, goal: Goal
    ) -> Dict[str, np.ndarray]:
        """Return the policy's observation of checked inputs.

        Raises:
            Fault: `bad_depth` or `bad_rgb`.
        """
        observation = {self._fields.goal_name: polar(pose, goal.x, goal.y)}
        if self._fields.depth is not None:
            assert depth is not None
            observation[self._fields.depth.name] = self._depth(depth, self._fields.depth)
        if self._fields.rgb is not None:
            assert image is not None
            field = self._fields.rgb
            observation[field.name] = colour_observation(image, self._windows[field.name], field)
        return observation

    def _depth(self, picture: Picture, field: CameraField) -> np.ndarray:
        settings = self._settings
        window = self._windows[field.name]
        return depth_observation(
            picture, window, field, settings.max_invalid_share, settings.depth_resize
        )
