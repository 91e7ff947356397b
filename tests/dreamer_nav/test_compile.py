"""The update compiles whole, once, and computes the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
KINDS = pytest.mark.parametrize("kind", ["discrete", "continuous"])


def _compare(backend: str, kind: str, timeout_s: float) -> dict[str, Any]:
    script = Path(__file__).with_name("compiled_update.py")
    run = subprocess.run(
        [sys.executable, str(script), backend, kind],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return result


@KINDS
def test_losses_and_optimizers_are_each_one_graph_and_are_captured_once(kind: str) -> None:
    result = _compare("eager", kind, 300)
    assert result["graphs"] == [5, 5, 5], "two losses and three optimizers, never captured again"
    assert result["metrics_difference"] == 0
    assert result["weights_difference"] == 0
    assert result["weights_moved"] > 1e-5


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None,
    reason="torch.compile on a CPU needs a C++ compiler (g++, or the one named by CXX)",
)
@KINDS
def test_three_compiled_updates_equal_eager_ones(kind: str) -> None:
    result = _compare("inductor", kind, 1800)
    assert result["metrics_difference"] < 1e-4
    # Adam's first moves are nearly signs of the gradient: rounding shows, but far below the moves themselves.
    assert result["weights_difference"] < 1e-5
    assert result["weights_moved"] > 1e-4
    assert result["slow_critic_difference"] < 1e-5
    assert result["graphs"][0] == result["graphs"][-1]
