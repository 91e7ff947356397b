"""Whether what arrives is of now: ages, jumps of the clock, gaps between frames."""

from __future__ import annotations

import math
from typing import Optional

from dreamer_nav_ros.faults import Fault

FUTURE_TOLERANCE_S = 0.05
"""How far a stamp may lie ahead of the node's clock: the error of clocks kept by NTP or PTP."""


def check_age(name: str, stamp_s: float, now_s: float, max_age_s: float) -> None:
    """Raise the fault `stale_<name>` unless the stamp is at most `max_age_s` old.

    A stamp ahead of the clock is as useless as an old one: the age of what follows is unknown.
    """
    age = now_s - stamp_s
    if not math.isfinite(age) or age > max_age_s:
        raise Fault(
            f"stale_{name}",
            f"{name} is {age:.3f} s old, at most {max_age_s:.3f} s are allowed; check that its "
            "publisher runs and that both machines' clocks agree",
        )
    if age < -FUTURE_TOLERANCE_S:
        raise Fault(
            f"stale_{name}",
            f"{name} is stamped {-age:.3f} s ahead of this node's clock, at most "
            f"{FUTURE_TOLERANCE_S} s are allowed; synchronise the clocks, or set use_sim_time alike",
        )


class ClockGuard:
    """Notices a clock that jumps between two steps, as a restarted simulation's does."""

    def __init__(self, max_step_s: float) -> None:
        """Allow at most `max_step_s` between two steps."""
        self._max_step_s = max_step_s
        self._last_s: Optional[float] = None

    def advance(self, now_s: float) -> float:
        """Return the time since the last step in seconds, 0 on the first.

        Raises:
            Fault: `clock_jump`, if time went backward, stands at no finite value, or leapt.
        """
        last, self._last_s = self._last_s, now_s
        if not math.isfinite(now_s):
            self._last_s = None
            raise Fault("clock_jump", f"the clock reads {now_s}; check the source of /clock")
        if last is None:
            return 0.0
        step = now_s - last
        if step < 0.0 or step > self._max_step_s:
            raise Fault(
                "clock_jump",
                f"{step:+.3f} s passed between two control steps, allowed are 0 to "
                f"{self._max_step_s:.3f} s; the clock was set, the simulation restarted, or the "
                "node was held up",
            )
        return step


class FrameGap:
    """Notices that pictures were missing: the policy's memory is then of another situation."""

    def __init__(self, max_gap_s: float) -> None:
        """Allow at most `max_gap_s` between the stamps of two pictures."""
        self._max_gap_s = max_gap_s
        self._last_s: Optional[float] = None

    def is_gap(self, stamp_s: float) -> bool:
        """Whether `stamp_s` follows the last picture's stamp by too much, or precedes it."""
        last, self._last_s = self._last_s, stamp_s
        return last is not None and not 0.0 <= stamp_s - last <= self._max_gap_s

    def forget(self) -> None:
        """Take the next picture as the first."""
        self._last_s = None
