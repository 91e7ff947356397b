"""Runs Python code beside a small file system of its own, so that a full disk is a real one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run_on_small_disk(disk: Path, size: str, code: str) -> str:
    """What `code` prints with a tmpfs of `size` (as mount takes it) mounted at `disk`; skips without permission."""
    script = f'mount -t tmpfs -o size={size} tmpfs "$1" || exit 77; exec "$2" -c "$3"'
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script, "bash", str(disk), sys.executable, code],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode == 77:
        pytest.skip("mounting is not permitted here")
    assert done.returncode == 0, done.stderr
    return done.stdout
