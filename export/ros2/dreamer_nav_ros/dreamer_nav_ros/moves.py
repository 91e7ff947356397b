"""A discrete action as a bounded move that odometry ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dreamer_nav_ros.contract_fields import MoveAction
from dreamer_nav_ros.faults import Fault
from dreamer_nav_ros.inputs import Pose, wrap_angle


@dataclass(frozen=True)
class MoveSettings:
    """How moves are driven. Speeds in m/s and rad/s, all > 0.

    Attributes:
        speed_mps: of a drive.
        turn_rate_rps: of a turn.
        creep_mps: the least speed before the end is reached, above the drives' friction.
        creep_rps: likewise for turns.
        braking_mps2: deceleration planned for towards the end of a drive.
        braking_rps2: likewise for turns.
        tolerance_m: a drive ends this near to its length.
        tolerance_rad: likewise for turns.
        timeout_s: a move that has not ended by then is given up.
        stall_timeout_s: likewise one that makes no progress, a tolerance's length, for so long.
    """

    speed_mps: float
    turn_rate_rps: float
    creep_mps: float
    creep_rps: float
    braking_mps2: float
    braking_rps2: float
    tolerance_m: float
    tolerance_rad: float
    timeout_s: float
    stall_timeout_s: float

    def __post_init__(self) -> None:
        """Refuse settings that are not finite and positive."""
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be finite and > 0, got {value!r}")

    def check(self, action: MoveAction) -> None:
        """Raise ValueError unless `action` is longer than its tolerance and the timeouts leave time for it."""
        size, tolerance = abs(action.forward_m), self.tolerance_m
        speed, braking, creep = self.speed_mps, self.braking_mps2, self.creep_mps
        if action.turn_rad:
            size, tolerance = abs(action.turn_rad), self.tolerance_rad
            speed, braking, creep = self.turn_rate_rps, self.braking_rps2, self.creep_rps
        least_s = size / speed + speed / braking
        if size <= 2 * tolerance or least_s > self.timeout_s:
            raise ValueError(
                f"action {action.name!r} of {size:.3f} (m or rad) with a tolerance of {tolerance:.3f} takes "
                f"at least {least_s:.2f} s; lower the tolerance to under half the action, raise "
                f"the move timeout of {self.timeout_s} s, or the speeds"
            )
        # From rest with the base's acceleration, twice what braking is planned with; and at the end.
        least = min(braking * self.stall_timeout_s**2, creep * self.stall_timeout_s)
        if least < 2 * tolerance:
            raise ValueError(
                f"action {action.name!r} makes {least:.3f} (m or rad) in the stall timeout of "
                f"{self.stall_timeout_s} s where it is slowest, and needs twice the tolerance of "
                f"{tolerance:.3f} not to be taken for blocked; raise the stall timeout, or the "
                "acceleration limit or creep speed"
            )


class Move:
    """One move under way, measured from where it began."""

    def __init__(
        self, action: MoveAction, settings: MoveSettings, start: Pose, now_s: float
    ) -> None:
        """Begin `action` (not stop) at pose `start`."""
        self.action = action
        self._settings = settings
        self._start = start
        self._deadline_s = now_s + settings.timeout_s
        self._least_left = math.inf
        self._progress_s = now_s
        self._last_yaw = start.yaw
        self._turned_rad = 0.0

    def advance(self, pose: Pose, now_s: float) -> float:
        """Return what is left, metres or radians, positive before the end whatever the direction."""
        left = self._left(pose)
        if left <= self._least_left - self._tolerance:
            self._least_left, self._progress_s = left, now_s
        return left

    def _left(self, pose: Pose) -> float:
        # Summed in small steps: a turn of nearly 180 degrees would wrap otherwise.
        self._turned_rad += wrap_angle(pose.yaw - self._last_yaw)
        self._last_yaw = pose.yaw
        if self.action.turn_rad:
            return (
                abs(self.action.turn_rad)
                - math.copysign(1, self.action.turn_rad) * self._turned_rad
            )
        dx, dy = pose.x - self._start.x, pose.y - self._start.y
        along = dx * math.cos(self._start.yaw) + dy * math.sin(self._start.yaw)
        return self.action.forward_m - along

    def is_complete(self, left: float) -> bool:
        """Whether what `advance` returned is within the tolerance."""
        return left <= self._tolerance

    @property
    def _tolerance(self) -> float:
        turning = self.action.turn_rad != 0.0
        return self._settings.tolerance_rad if turning else self._settings.tolerance_m

    def check_progress(self, now_s: float) -> None:
        """Raise the fault `move_blocked` or `move_timeout` for a move to be given up."""
        s = self._settings
        if now_s - self._progress_s > s.stall_timeout_s:
            raise Fault(
                "move_blocked",
                f"a move made no progress for {s.stall_timeout_s} s by odometry; look whether the "
                "robot is blocked and the odometry follows it",
            )
        if now_s > self._deadline_s:
            raise Fault(
                "move_timeout",
                f"a move did not end within {s.timeout_s} s by odometry; look whether something "
                "holds the robot or slows its commands",
            )

    def velocity(self, left: float) -> "tuple[float, float]":
        """Return (v m/s, w rad/s) for what is left: full speed, then braking to end at rest."""
        s = self._settings
        if self.action.turn_rad:
            w = _approach(left, s.turn_rate_rps, s.creep_rps, s.braking_rps2)
            return 0.0, math.copysign(w, self.action.turn_rad)
        return _approach(left, s.speed_mps, s.creep_mps, s.braking_mps2), 0.0


def _approach(left: float, cruise: float, creep: float, braking: float) -> float:
    # v^2 = 2 a s: the fastest from which `braking` still stops within what is left.
    return min(cruise, max(creep, math.sqrt(2.0 * braking * max(left, 0.0))))
