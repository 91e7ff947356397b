"""The command, run in this process or in one of its own, and stand-ins for what it calls."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreamer_nav.presets import load_config, save_yaml

ROOT = Path(__file__).parents[2]
Calls = list[dict[str, Any]]
Run = Callable[..., "Outcome"]


class Outcome:
    """Exit status and output of one command in this process."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    def complaint(self) -> str:
        """The one line on stderr of a user's mistake."""
        assert self.status == 1, (self.status, self.out, self.err)
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("dreamer-nav: error: ")
        return lines[0].removeprefix("dreamer-nav: error: ")


def replace_module(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    for key, value in members.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)


def saved_run(folder: Path, *overrides: str) -> Path:
    folder.mkdir(parents=True)
    save_yaml(load_config("debug", overrides), folder / "config.yaml")
    return folder


def run_process(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dreamer_nav", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, **options)
