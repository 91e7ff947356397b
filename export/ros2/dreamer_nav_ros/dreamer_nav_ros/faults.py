"""Faults, and the latch that many of them in a row close."""

from __future__ import annotations


class Fault(Exception):
    """A reason to stand still; the controller turns it into a zero command.

    `name` is stable and short (diagnostics, tests), `detail` says what was received, what is
    allowed and what to do.
    """

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name
        self.detail = detail


class FaultLatch:
    """Counts faults since the last completed decision; closes at `limit` and stays closed.

    Only `reset` opens it: a robot that stopped for good must not start again by itself because a
    cable makes contact.
    """

    def __init__(self, limit: int) -> None:
        """Raise ValueError unless `limit` >= 1."""
        if limit < 1:
            raise ValueError(f"the latch needs a limit of at least 1 fault, got {limit}")
        self._limit = limit
        self._count = 0
        self._latched_by = ""

    @property
    def count(self) -> int:
        """Faults since the last completed decision."""
        return self._count

    @property
    def is_latched(self) -> bool:
        """Whether `reset` is needed before the robot may move."""
        return bool(self._latched_by)

    @property
    def latched_by(self) -> str:
        """The fault that closed the latch, "" while it is open."""
        return self._latched_by

    def add(self, fault: Fault) -> None:
        """Count `fault`."""
        self._count += 1
        if self._count >= self._limit and not self._latched_by:
            self._latched_by = str(fault)

    def clear(self) -> None:
        """Count from zero again, after a decision that was carried out; never opens the latch."""
        self._count = 0

    def reset(self) -> None:
        """Open the latch and count from zero."""
        self._count = 0
        self._latched_by = ""
