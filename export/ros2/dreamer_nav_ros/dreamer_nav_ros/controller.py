"""The control step: messages in, one command out. No ROS, no clock and no thread of its own."""

from __future__ import annotations

import math
import time
from typing import Callable, Dict, Mapping, Optional

from dreamer_nav_ros.command import (
    ARRIVED,
    DRIVING,
    FAULT,
    IDLE,
    LATCHED,
    STOPPED_SHORT,
    Command,
    VelocityLimiter,
)
from dreamer_nav_ros.contract_fields import PolicyFields
from dreamer_nav_ros.drives import Moment, Wish, make_drive
from dreamer_nav_ros.faults import Fault, FaultLatch
from dreamer_nav_ros.freshness import ClockGuard
from dreamer_nav_ros.inputs import Goal, Odometry, Picture
from dreamer_nav_ros.pictures import Window
from dreamer_nav_ros.policy_runner import PolicyRunner, RecurrentPolicy
from dreamer_nav_ros.senses import Senses
from dreamer_nav_ros.settings import Settings


class Controller:
    """Drives one robot to one goal at a time.

    Every reason to doubt gives a zero command at once, without a ramp. Used by one thread.
    """

    def __init__(
        self,
        policy: RecurrentPolicy,
        fields: PolicyFields,
        windows: Mapping[str, Window],
        settings: Settings,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look through the cameras of `windows`, by the observation's name.

        `timer` gives seconds of a steady clock, for the time that inference takes.

        Raises:
            ValueError: a discrete action that the settings cannot carry out.
        """
        self._fields = fields
        self._settings = settings
        seed = settings.policy_seed if settings.policy_seed >= 0 else None
        self._runner = PolicyRunner(policy, seed, settings.max_inference_s, timer)
        self._senses = Senses(fields, windows, settings)
        self._drive = make_drive(fields, settings)
        self._limiter = VelocityLimiter(settings.limits())
        self._latch = FaultLatch(settings.max_consecutive_faults)
        self._given_up = FaultLatch(settings.max_moves_given_up)
        self._clock = ClockGuard(settings.max_clock_step_s)
        self._reported: Optional[Fault] = None
        self._goal_number: Optional[int] = None
        self._outcome = ""
        self._outcome_detail = ""
        self._last_fault = ""

    @property
    def has_ended(self) -> bool:
        """Whether the goal was arrived at, given up, or dropped by a reset of the latch."""
        return bool(self._outcome)

    @property
    def is_latched(self) -> bool:
        """Whether `reset_latch` is needed before the robot moves again."""
        return self._latch.is_latched or self._given_up.is_latched

    def report(self, fault: Fault) -> None:
        """Have the next step stand still for a fault that was noticed elsewhere."""
        self._reported = fault

    def reset_latch(self) -> None:
        """Allow motion again, for the next goal: nobody expects a robot to drive off on a reset."""
        self._latch.reset()
        self._given_up.reset()
        self._end(IDLE, "")

    def restart(self) -> None:
        """Forget time, messages and goal, as on deactivation. A latched stop stays latched."""
        self._clock = ClockGuard(self._settings.max_clock_step_s)
        self._senses.forget()
        self._halt("restart")
        self._reported = None
        self._goal_number = None
        self._outcome = self._outcome_detail = ""

    def step(
        self,
        now_s: float,
        image: Optional[Picture],
        depth: Optional[Picture],
        odometry: Optional[Odometry],
        goal: Optional[Goal],
    ) -> Command:
        """Return the command of this moment; never raises.

        Args:
            now_s: the node's clock, of which the stamps of all messages are.
            image: the newest colour picture, None without one.
            depth: the newest depth picture, None without one.
            odometry: the newest odometry, None without one.
            goal: where to go, None for nowhere.
        """
        try:
            elapsed_s = self._clock.advance(now_s)
            return self._decide(now_s, elapsed_s, image, depth, odometry, goal)
        except Fault as fault:
            return self._stand(fault, has_goal=goal is not None)
        # Also our own mistakes must end in a standing robot.
        except Exception as error:
            mistake = Fault("internal_error", f"{type(error).__name__}: {error}")
            return self._stand(mistake, has_goal=goal is not None)

    def status(self) -> Dict[str, str]:
        """Return what a person needs to see in /diagnostics."""
        return {
            "action": self._drive.action_name,
            "faults in a row": str(self._latch.count),
            "moves given up since a drive": str(self._given_up.count),
            "latched by": self._latch.latched_by or self._given_up.latched_by,
            "last fault": self._last_fault,
            "last policy reset": self._runner.last_reset,
            "last inference (ms)": f"{1e3 * self._runner.last_inference_s:.1f}",
        }

    def _decide(
        self,
        now_s: float,
        elapsed_s: float,
        image: Optional[Picture],
        depth: Optional[Picture],
        odometry: Optional[Odometry],
        goal: Optional[Goal],
    ) -> Command:
        reported, self._reported = self._reported, None
        if reported is not None:
            raise reported
        if self.is_latched:
            # Seen while latched: resetting the latch will not start towards it.
            self._goal_number = goal.number if goal is not None else None
            return self._latched()
        if goal is None:
            self._halt("no goal")
            self._goal_number = None
            return Command(0.0, 0.0, IDLE)
        if goal.number != self._goal_number:
            self._begin(goal)
        if self._outcome:
            return Command(0.0, 0.0, self._outcome, detail=self._outcome_detail)
        odometry = self._senses.check_odometry(now_s, odometry)
        self._senses.check_pictures(now_s, image, depth)
        self._senses.check_goal(now_s, goal)
        picture_s = self._senses.oldest_stamp(now_s, image, depth)
        if self._senses.is_gap(picture_s):
            self._runner.request_reset("frame gap")
        if not self._fields.has_stop and self._distance(odometry, goal) <= self._tolerance_m:
            return self._finish(odometry, goal)
        pose = odometry.pose
        wish = self._drive.wish(
            Moment(now_s, odometry, picture_s, self._limiter.is_at_rest),
            lambda: self._runner.act(self._senses.observe(image, depth, pose, goal)),
        )
        if wish.is_stop:
            return self._finish(odometry, goal)
        return self._drive_on(wish, elapsed_s)

    @property
    def _tolerance_m(self) -> float:
        return self._settings.goal_tolerance_m

    @staticmethod
    def _distance(odometry: Odometry, goal: Goal) -> float:
        return math.hypot(goal.x - odometry.pose.x, goal.y - odometry.pose.y)

    def _begin(self, goal: Goal) -> None:
        self._goal_number = goal.number
        self._outcome = self._outcome_detail = ""
        self._drive.abort()
        self._runner.request_reset("new goal")

    def _finish(self, odometry: Odometry, goal: Goal) -> Command:
        distance = self._distance(odometry, goal)
        arrived = distance <= self._tolerance_m
        detail = f"stopped {distance:.2f} m from the goal by odometry"
        self._latch.clear()
        self._given_up.clear()
        self._end(ARRIVED if arrived else STOPPED_SHORT, detail)
        return Command(0.0, 0.0, self._outcome, detail=detail)

    def _end(self, outcome: str, detail: str) -> None:
        self._outcome, self._outcome_detail = outcome, detail
        self._halt("end of the episode")

    def _drive_on(self, wish: Wish, elapsed_s: float) -> Command:
        if wish.is_completed:
            self._latch.clear()
        # A turn does not show that the robot is free: on the spot it succeeds before any wall.
        if wish.has_driven:
            self._given_up.clear()
        if wish.given_up is not None:
            self._give_up_move(wish.given_up)
            if self.is_latched:
                return self._latched()
        # A late step must not allow a leap of speed: the base would see it within one period.
        step_s = min(elapsed_s, 1.0 / self._settings.control_rate_hz)
        self._limiter.limit(wish.v_mps, wish.w_rps, step_s)
        return Command(self._limiter.v_mps, self._limiter.w_rps, DRIVING)

    def _give_up_move(self, fault: Fault) -> None:
        # Neither a fault nor a reset of the policy: in training too a blocked robot stays where it
        # is, sees that, and goes on, often with the same action some times before it turns away.
        # What must not last is the pushing. So a move ends soon after it stops making progress,
        # and the latch counts such moves until a drive succeeds: 10 of 1 s push less than 3 of the
        # 5 s that a move may take otherwise, and let a policy find its way out more often.
        self._last_fault = str(fault)
        self._limiter.halt()
        self._given_up.add(fault)

    def _latched(self) -> Command:
        self._halt("latched stop")
        cause = self._latch.latched_by or self._given_up.latched_by
        return Command(0.0, 0.0, LATCHED, cause.partition(":")[0], cause)

    def _stand(self, fault: Fault, has_goal: bool) -> Command:
        self._halt(fault.name)
        if fault.name == "clock_jump":
            self._senses.forget()
        self._last_fault = str(fault)
        if has_goal:
            self._latch.add(fault)
        if self.is_latched:
            return self._latched()
        return Command(0.0, 0.0, FAULT, fault.name, fault.detail)

    def _halt(self, reason: str) -> None:
        self._limiter.halt()
        self._drive.abort()
        self._runner.request_reset(reason)
