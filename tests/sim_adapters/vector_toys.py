"""A tiny environment whose action chooses how it misbehaves; runs under any Python a worker may have."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from typing import Any, Dict, Optional, Tuple

import gymnasium
import numpy as np
from gymnasium import spaces

FINE, RAISE, EXIT, KILL, SEGFAULT, HANG, CHATTER, END = range(8)


class Toy(gymnasium.Env):
    """Random observations; every number follows from the seed of `reset` and the actions.

    Args:
        size: edge of the image.
        fragile_once: a file; the first reset after it was created removes it and ends the process.
        closed_file: a file that `close` creates.
        bad_seed: a seed whose reset raises.
    """

    def __init__(
        self,
        size: int = 8,
        fragile_once: Optional[str] = None,
        closed_file: Optional[str] = None,
        bad_seed: Optional[int] = None,
        float64_state: bool = False,
    ) -> None:
        self.observation_space = spaces.Dict(
            {
                "depth": spaces.Box(0.0, 1.0, (size, size, 1), np.float32),
                "image": spaces.Box(0, 255, (size, size, 3), np.uint8),
                "state": spaces.Box(-np.inf, np.inf, (2,), np.float32),
                "switches": spaces.MultiBinary(3),
            }
        )
        self.action_space = spaces.Discrete(8)
        self._size, self._steps, self.note = size, 0, ""
        self._fragile_once, self._closed_file = fragile_once, closed_file
        self._bad_seed, self._float64_state = bad_seed, float64_state
        self.child: Optional[subprocess.Popen] = None

    def _observe(self) -> Dict[str, np.ndarray]:
        rng = self.np_random
        state = np.array([self._steps, rng.normal()])
        return {
            "depth": rng.random((self._size, self._size, 1), np.float32),
            "image": rng.integers(0, 256, (self._size, self._size, 3), np.uint8),
            "state": state if self._float64_state else state.astype(np.float32),
            "switches": rng.integers(0, 2, 3, np.int8),
        }

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        super().reset(seed=seed)
        if self._fragile_once is not None and os.path.exists(self._fragile_once):
            os.remove(self._fragile_once)
            os._exit(9)
        if seed is not None and seed == self._bad_seed:
            raise RuntimeError("this home has no door")
        self._steps = 0
        return self._observe(), {"seed": seed, "options": options}

    def step(self, action: Any) -> Tuple[Dict[str, np.ndarray], float, bool, bool, Dict[str, Any]]:
        assert self.action_space.contains(action), action
        self._steps += 1
        self._misbehave(int(action))
        info = {
            "steps": np.int64(self._steps),
            "success": np.bool_(action == END),
            "position": self.np_random.random(3),
            "time_s": np.float64(self._steps / 7),
            "seen": np.array([[True, False]]),
            "measures": {"spl": np.float32(0.1), "path": (1, 2.5), "empty": np.zeros((0, 2))},
        }
        return self._observe(), self.np_random.random() / 3, bool(action == END), False, info

    def _misbehave(self, action: int) -> None:
        if action == RAISE:
            raise ZeroDivisionError("the robot fell over")
        if action == EXIT:
            os.write(2, b"ERROR: Failed to EGL with glad.\n")
            os._exit(1)
        if action == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if action == SEGFAULT:
            os.kill(os.getpid(), signal.SIGSEGV)
        if action == HANG:
            time.sleep(600)
        if action == CHATTER:
            for _ in range(3):
                sys.stdout.write("x" * (1 << 20) + "\n")
                sys.stdout.flush()
                os.write(1, b"from C\n")

    # --- what the tests call ---

    def scale(self, values: np.ndarray, factor: float = 1.0) -> Dict[str, Any]:
        return {"values": values * factor, "dtype": str(values.dtype)}

    def environment(self, name: str) -> Optional[str]:
        return os.environ.get(name)

    def python(self) -> Tuple[int, int]:
        return sys.version_info[:2]

    def fail(self) -> None:
        raise KeyError("no such scene")

    def exit(self) -> None:
        os._exit(7)

    def opaque(self) -> object:
        return object()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def spawn(self) -> int:
        """Start a process that outlives a careless worker; return its number."""
        self.child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        return self.child.pid

    def close(self) -> None:
        if self._closed_file is not None:
            with open(self._closed_file, "w", encoding="utf-8") as file:
                file.write("closed")


class SlowToy(Toy):
    """A Toy that takes its time."""

    def __init__(self, step_s: float = 0.0, reset_s: float = 0.0) -> None:
        super().__init__()
        self._step_s, self._reset_s = step_s, reset_s

    def reset(self, **kwargs: Any) -> Any:
        time.sleep(self._reset_s)
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        time.sleep(self._step_s)
        return super().step(action)


class Continuous(gymnasium.Env):
    """A Box observation and a Box action, which the info gives back."""

    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, **kwargs: Any) -> Any:
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> Any:
        info = {"action": action, "is_array": isinstance(action, np.ndarray)}
        return np.ones(3, np.float32), 0.0, False, True, info


def build(how: str) -> Toy:
    """Fail while the environment is built."""
    if how == "raise":
        raise FileNotFoundError("no mesh at /scenes/Rs\nlook there")
    if how == "import":
        importlib.import_module("a_simulator_nobody_has")
    if how == "exit":
        os.write(2, b"starting\nInvalid render_device choice: 3 < 1.\n")
        os._exit(1)
    if how == "hang":
        time.sleep(600)
    raise AssertionError(how)
