"""Sends zero when the control step does not come back."""

from __future__ import annotations

import threading
import time
from typing import Callable

from dreamer_nav_ros.command import FAULT, Command

Publish = Callable[[Command], None]
ZERO = Command(0.0, 0.0, FAULT, "watchdog", "no control step was finished in time")


class Watchdog:
    """Stands between the control step and the publisher; used by two threads.

    The control thread calls `begin` before a step and `deliver` after it. Another thread calls
    `check`, more often than the timeout. A command that comes back late is replaced by zero: it
    was decided of pictures of before.
    """

    def __init__(self, timeout_s: float, timer: Callable[[], float] = time.monotonic) -> None:
        """Bark after `timeout_s` of the steady clock `timer`: a simulated clock may stand still."""
        self._timeout_s = timeout_s
        self._timer = timer
        self._lock = threading.Lock()
        self._is_armed = False
        self._ticket = 0
        self._fed_s = 0.0
        self._begun_s = 0.0
        self._trips = 0

    def arm(self) -> None:
        """Begin to watch."""
        with self._lock:
            self._is_armed = True
            self._fed_s = self._timer()

    def disarm(self, publish: Publish) -> None:
        """Send zero, and nothing after it until `arm`."""
        with self._lock:
            self._is_armed = False
            self._ticket += 1
            publish(ZERO)

    def begin(self) -> int:
        """Return the ticket of the step that begins."""
        with self._lock:
            self._begun_s = self._timer()
            return self._ticket

    def deliver(self, ticket: int, command: Command, publish: Publish) -> None:
        """Publish `command`, or zero if it is late; nothing while disarmed."""
        with self._lock:
            if not self._is_armed:
                return
            now_s = self._timer()
            is_overdue = now_s - self._begun_s > self._timeout_s
            is_late = ticket != self._ticket or is_overdue
            if is_late and ticket == self._ticket:
                self._trips += 1
            self._fed_s = now_s
            publish(ZERO if is_late else command)

    def check(self, publish: Publish) -> bool:
        """Publish zero and return True if no step was delivered in time."""
        with self._lock:
            if not self._is_armed or self._timer() - self._fed_s <= self._timeout_s:
                return False
            self._ticket += 1
            self._trips += 1
            publish(ZERO)
            return True

    def take_trip(self) -> bool:
        """Whether it barked since the last call."""
        with self._lock:
            trips, self._trips = self._trips, 0
            return trips > 0
