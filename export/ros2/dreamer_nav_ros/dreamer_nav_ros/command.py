"""What the controller answers, and the last limits on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from dreamer_nav_ros.faults import Fault

IDLE = "idle"
DRIVING = "driving"
ARRIVED = "arrived"
STOPPED_SHORT = "stopped_short"
FAULT = "fault"
LATCHED = "latched"
STATES = (IDLE, DRIVING, ARRIVED, STOPPED_SHORT, FAULT, LATCHED)


class Command(NamedTuple):
    """A velocity for the base (m/s, rad/s; left positive) and why: `state` is one of `STATES`.

    `fault` is the name of the fault and `detail` its sentence, both "" without one; `detail`
    also reports an arrival.
    """

    v_mps: float
    w_rps: float
    state: str
    fault: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Limits:
    """The base's limits: speeds (m/s, rad/s) and accelerations (m/s^2, rad/s^2), all > 0.

    `max_reverse_mps` may be 0: a robot whose camera looks ahead does not see what is behind it.
    """

    max_speed_mps: float
    max_reverse_mps: float
    max_turn_rate_rps: float
    max_acceleration_mps2: float
    max_turn_acceleration_rps2: float

    def __post_init__(self) -> None:
        """Refuse limits that are not finite and positive."""
        for name, value in vars(self).items():
            low_ok = value >= 0 if name == "max_reverse_mps" else value > 0
            if not (math.isfinite(value) and low_ok):
                raise ValueError(f"{name} must be finite and > 0 (reverse: >= 0), got {value!r}")


class VelocityLimiter:
    """Clamps speed, then acceleration, against what was last commanded.

    Nothing may scale a command after this.
    """

    def __init__(self, limits: Limits) -> None:
        """Start at rest."""
        self._limits = limits
        self.v_mps = 0.0
        self.w_rps = 0.0

    def limit(self, v_mps: float, w_rps: float, step_s: float) -> None:
        """Move `v_mps` and `w_rps` of this object towards the wished ones within `step_s` seconds.

        Raises:
            Fault: `bad_action`, if a wished velocity is not finite.
        """
        if not (math.isfinite(v_mps) and math.isfinite(w_rps)):
            raise Fault("bad_action", f"velocities must be finite, got v={v_mps}, w={w_rps}")
        limits = self._limits
        v = min(max(v_mps, -limits.max_reverse_mps), limits.max_speed_mps)
        w = min(max(w_rps, -limits.max_turn_rate_rps), limits.max_turn_rate_rps)
        self.v_mps = _towards(self.v_mps, v, limits.max_acceleration_mps2 * step_s)
        self.w_rps = _towards(self.w_rps, w, limits.max_turn_acceleration_rps2 * step_s)

    def halt(self) -> None:
        """Be at rest at once: a stop for a fault waits for no ramp."""
        self.v_mps = 0.0
        self.w_rps = 0.0

    @property
    def is_at_rest(self) -> bool:
        """Whether zero was last commanded."""
        return self.v_mps == 0.0 and self.w_rps == 0.0


def _towards(current: float, wished: float, most: float) -> float:
    return current + min(max(wished - current, -most), most)
