"""Everything the node does, without ROS: newest messages in, one command a tick out."""

from __future__ import annotations

import time
from typing import Callable, Dict, Mapping, Optional

from dreamer_nav_ros.camera_info import Intrinsics
from dreamer_nav_ros.command import IDLE, Command
from dreamer_nav_ros.contract_fields import PolicyFields
from dreamer_nav_ros.controller import Controller
from dreamer_nav_ros.faults import Fault
from dreamer_nav_ros.goal import GoalMessage, GoalTracker, Lookup
from dreamer_nav_ros.inputs import Odometry, Picture
from dreamer_nav_ros.pictures import Window
from dreamer_nav_ros.policy_runner import RecurrentPolicy
from dreamer_nav_ros.settings import Settings
from dreamer_nav_ros.watchdog import Publish, Watchdog


class Pilot:
    """The controller with its goal, its newest messages and its watchdog.

    `watch` may be called from another thread than everything else; the `on_...` methods for
    sensors too, since each only replaces one reference.
    """

    def __init__(
        self,
        policy: RecurrentPolicy,
        fields: PolicyFields,
        cameras: Mapping[str, Intrinsics],
        windows: Mapping[str, Window],
        settings: Settings,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Drive with `cameras`, by the observation's name, and what `fit_camera` made of them."""
        self._cameras: Dict[str, Intrinsics] = dict(cameras)
        self._camera_now: Dict[str, Intrinsics] = dict(cameras)
        self._controller = Controller(policy, fields, windows, settings, timer)
        self._tracker = GoalTracker(settings.odom_frame, settings.same_goal_m)
        self._watchdog = Watchdog(settings.watchdog_timeout_s, timer)
        self._image: Optional[Picture] = None
        self._depth: Optional[Picture] = None
        self._odometry: Optional[Odometry] = None
        self.last_command = Command(0.0, 0.0, IDLE)

    def on_image(self, picture: Picture) -> None:
        """Take a colour picture."""
        self._image = picture

    def on_depth(self, picture: Picture) -> None:
        """Take a depth picture."""
        self._depth = picture

    def on_odometry(self, odometry: Odometry) -> None:
        """Take odometry."""
        self._odometry = odometry

    def on_camera_info(self, name: str, info: Intrinsics) -> None:
        """Take CameraInfo; one that differs from that of `configure` stops the robot."""
        self._camera_now[name] = info

    def on_goal(self, message: GoalMessage) -> bool:
        """Take a goal; return whether it is a new one.

        Raises:
            ValueError: a goal without frame or with numbers that are not finite; the old one stays.
        """
        return self._tracker.accept(message, self._controller.has_ended)

    def activate(self) -> None:
        """Begin to drive to goals that come from now on."""
        self._tracker.drop()
        self._controller.restart()
        self._image = self._depth = self._odometry = None
        self._watchdog.arm()

    def deactivate(self, publish: Publish) -> None:
        """Publish zero and nothing more until `activate`."""
        self._watchdog.disarm(publish)
        self._tracker.drop()
        self.last_command = Command(0.0, 0.0, IDLE)

    def tick(self, now_s: float, lookup: Lookup, publish: Publish) -> Command:
        """Make one control step and publish its command, or zero if it came too late."""
        ticket = self._watchdog.begin()
        if self._watchdog.take_trip():
            self._controller.report(Fault("watchdog", "a control step was not finished in time"))
        self._report_cameras()
        goal = None
        try:
            goal = self._tracker.project(now_s, lookup)
        # tf2 has many exceptions; the robot must not drive on a goal that is not known.
        except Exception as error:
            self._controller.report(Fault("stale_goal", f"{type(error).__name__}: {error}"))
        command = self._controller.step(now_s, self._image, self._depth, self._odometry, goal)
        self._watchdog.deliver(ticket, command, publish)
        self.last_command = command
        return command

    def watch(self, publish: Publish) -> bool:
        """Publish zero and return True if no control step was finished in time."""
        return self._watchdog.check(publish)

    def reset_stop(self) -> bool:
        """Open the latched stop and drop the goal; return whether it was latched."""
        was_latched = self._controller.is_latched
        self._controller.reset_latch()
        self._tracker.drop()
        return was_latched

    def status(self) -> Dict[str, str]:
        """Return what a person needs to see in /diagnostics."""
        command = self.last_command
        return {
            "state": command.state,
            "fault": command.fault,
            "detail": command.detail,
            **self._controller.status(),
        }

    def _report_cameras(self) -> None:
        for name, expected in self._cameras.items():
            if self._camera_now[name] != expected:
                detail = (
                    f"CameraInfo of {name!r} was {expected} at configure and is "
                    f"{self._camera_now[name]}; configure the node again"
                )
                self._controller.report(Fault("camera_changed", detail))
