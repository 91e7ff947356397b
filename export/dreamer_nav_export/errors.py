"""What can go wrong with a policy file and its runtime, as a small tree of exceptions."""

from __future__ import annotations

__all__ = [
    "ContractError",
    "InferenceError",
    "ObservationError",
    "PolicyError",
    "PolicyFileError",
    "SelfTestError",
]


class PolicyError(Exception):
    """Any failure of a policy file or of running it; a robot that catches this one catches all."""


class PolicyFileError(PolicyError):
    """The file cannot be trusted or used: absent, too big, damaged, not a policy, not as its hash says."""


class ContractError(PolicyFileError):
    """The file's contract is missing, of another schema, malformed, or contradicts the graph."""


class ObservationError(PolicyError):
    """An observation that the contract does not allow; the policy's state is as it was.

    Attributes:
        key: the observation's name.
        reason: what was received and what is allowed.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__("observation {!r}: {}".format(key, reason))
        self.key = key
        self.reason = reason


class InferenceError(PolicyError):
    """The network failed or gave something that is not finite or not an action; state as it was."""


class SelfTestError(PolicyError):
    """The golden vectors of the file do not come out on this machine."""
