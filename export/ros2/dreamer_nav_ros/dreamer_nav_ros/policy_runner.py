"""Asks the policy, with its memory reset when due and its time measured."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Protocol

import numpy as np

from dreamer_nav_ros.faults import Fault


class PolicyAction(Protocol):
    """What a policy answers: see `dreamer_nav_export.runtime.Action`."""

    index: Optional[int]
    name: Optional[str]
    values: Optional[np.ndarray]
    ok: bool


class RecurrentPolicy(Protocol):
    """What the controller needs of a policy: see `dreamer_nav_export.runtime.Policy`."""

    def reset(self, seed: Optional[int] = None) -> None:
        """Forget what was seen."""

    def act(self, observations: Dict[str, np.ndarray]) -> Any:
        """Return a `PolicyAction`; remember the observation."""


class PolicyRunner:
    """One policy and the rule when it forgets."""

    def __init__(
        self,
        policy: RecurrentPolicy,
        seed: Optional[int],
        max_inference_s: float,
        timer: Callable[[], float],
    ) -> None:
        """Measure inference with `timer`, seconds of a steady clock: a simulated one may stand."""
        self._policy = policy
        self._seed = seed
        self._max_inference_s = max_inference_s
        self._timer = timer
        self._reset_reason = "start"
        self.last_reset = ""
        self.last_inference_s = 0.0

    def request_reset(self, reason: str) -> None:
        """Have the policy forget before it is asked again."""
        self._reset_reason = reason

    def act(self, observation: Dict[str, np.ndarray]) -> PolicyAction:
        """Return the policy's answer.

        Raises:
            Fault: `inference_failed`, whatever the policy raised, or `slow_inference`.
        """
        started = self._timer()
        action = self._ask(observation)
        self.last_inference_s = self._timer() - started
        if self.last_inference_s > self._max_inference_s:
            raise Fault(
                "slow_inference",
                f"inference took {self.last_inference_s:.3f} s, at most {self._max_inference_s} s "
                "are allowed; its action is of the past. Free the processor or raise "
                "max_inference_s",
            )
        if not action.ok:
            raise Fault("inference_failed", "the policy says that its numbers are not valid")
        return action

    def _ask(self, observation: Dict[str, np.ndarray]) -> PolicyAction:
        try:
            if self._reset_reason:
                self._policy.reset(self._seed)
                self.last_reset, self._reset_reason = self._reset_reason, ""
            action: PolicyAction = self._policy.act(observation)
        # Whatever a library throws, the base must stop: the fault says what it was.
        except Exception as error:
            raise Fault("inference_failed", f"{type(error).__name__}: {error}") from error
        return action
