"""Seconds of what `python -m dreamer_nav_export.fuzz` does for minutes; FUZZ_SECONDS sets how many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamer_nav_export import fuzz
from dreamer_nav_export.runtime import Policy


def test_nothing_gets_past_the_typed_errors(policy_file: Path) -> None:
    counts = fuzz.fuzz(policy_file, float(os.environ.get("FUZZ_SECONDS", "3")), seed=1)
    assert counts["refused"] > counts["observations"] / 10
    assert counts["files refused"] > 0


def test_the_fuzzer_notices_a_state_that_changes(
    policy_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = Policy.act

    def forgetful(self: Policy, observations: Any) -> Any:
        try:
            return act(self, observations)
        except Exception:
            self._memory = {k: v + np.ones_like(v) for k, v in self._memory.items()}
            raise

    monkeypatch.setattr(Policy, "act", forgetful)
    with pytest.raises(AssertionError, match="changed the state"):
        fuzz.fuzz(policy_file, 20.0, seed=1)
