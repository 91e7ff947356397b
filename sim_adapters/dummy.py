"""Tiny tasks that show in minutes whether an agent learns at all, and in what respect.

Every observation is a short vector with entries in [-1, 1]: as it is ("state") and/or drawn as
vertical bands of gray ("image"), so that both carry the same.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Tuple

import gymnasium
import numpy as np
from gymnasium import spaces

IMAGE_SIZE = 64


class DummyEnv(gymnasium.Env):
    """What the tasks share: the observation.

    Args:
        action_space: the task's actions.
        entries: length of the state vector.
        image: whether to give "image", uint8 (64, 64, 1).
        vector: whether to give "state", float32 (entries,).
    """

    metadata: Dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self, action_space: spaces.Space[Any], entries: int, *, image: bool, vector: bool
    ) -> None:
        if not (image or vector):
            raise ValueError("image and vector are both False: the agent would observe nothing")
        parts: Dict[str, spaces.Space[Any]] = {}
        if image:
            parts["image"] = spaces.Box(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 1), np.uint8)
        if vector:
            parts["state"] = spaces.Box(-1.0, 1.0, (entries,), np.float32)
        self.observation_space = spaces.Dict(parts)
        self.action_space = action_space
        self._image = image
        self._vector = vector
        self._entries = entries
        self._t = 0

    def _observe(self, *state: float) -> Dict[str, np.ndarray]:
        vector = np.array(state, dtype=np.float32)
        observation: Dict[str, np.ndarray] = {}
        if self._image:
            columns = np.arange(IMAGE_SIZE) * self._entries // IMAGE_SIZE
            gray = np.round(127.5 * (vector + 1.0)).astype(np.uint8)[columns]
            observation["image"] = np.repeat(gray[None, :, None], IMAGE_SIZE, axis=0)
        if self._vector:
            observation["state"] = vector
        return observation

    def _check(self, action: Any) -> None:
        continuous = isinstance(self.action_space, spaces.Box)
        if not self.action_space.contains(np.asarray(action) if continuous else action):
            raise ValueError(f"the action must be in {self.action_space}, got {action!r}")


class Bandit(DummyEnv):
    """One step; action i of n pays i / (n - 1): only the last action pays in full."""

    def __init__(self, *, image: bool, vector: bool, n: int = 4) -> None:
        if n < 2:
            raise ValueError(f"a bandit needs n >= 2 actions, got {n}")
        super().__init__(spaces.Discrete(n), 1, image=image, vector=vector)
        self._n = n

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        return self._observe(-1.0), {}

    def step(self, action: Any) -> Tuple[Dict[str, np.ndarray], float, bool, bool, Dict[str, Any]]:
        """Pay for the action and end."""
        self._check(action)
        return self._observe(1.0), float(action) / (self._n - 1), True, False, {}


class Delayed(DummyEnv):
    """Reward 1, `delay` steps after a right first action (1 of 2); later actions do nothing.

    The state shows the time and nothing of the choice.
    """

    def __init__(self, *, image: bool, vector: bool, delay: int = 4) -> None:
        if delay < 1:
            raise ValueError(f"delay must be >= 1 step, got {delay}")
        super().__init__(spaces.Discrete(2), 1, image=image, vector=vector)
        self._delay = delay
        self._right = False

    def _time(self) -> Dict[str, np.ndarray]:
        return self._observe(2.0 * self._t / (self._delay + 1) - 1.0)

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        self._t = 0
        self._right = False
        return self._time(), {}

    def step(self, action: Any) -> Tuple[Dict[str, np.ndarray], float, bool, bool, Dict[str, Any]]:
        """Remember the first action; pay and end after `delay` more steps."""
        self._check(action)
        if self._t == 0:
            self._right = int(action) == 1
        self._t += 1
        ended = self._t == self._delay + 1
        return self._time(), float(ended and self._right), ended, False, {}


class Memory(DummyEnv):
    """A cue, seen at t = 0 only, says which of 2 actions pays 1 at the last of `length` steps.

    The state is (cue as -1 or 1, 0 when hidden; 1 when the next action counts).
    """

    def __init__(self, *, image: bool, vector: bool, length: int = 5) -> None:
        if length < 2:
            raise ValueError(f"length must be >= 2, or there is nothing to remember, got {length}")
        super().__init__(spaces.Discrete(2), 2, image=image, vector=vector)
        self._length = length
        self._cue = 0

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """Draw a cue and show it."""
        super().reset(seed=seed)
        self._t = 0
        self._cue = int(self.np_random.integers(2))
        return self._observe(2.0 * self._cue - 1.0, -1.0), {}

    def step(self, action: Any) -> Tuple[Dict[str, np.ndarray], float, bool, bool, Dict[str, Any]]:
        """Show nothing of the cue; pay for the last action and end."""
        self._check(action)
        self._t += 1
        ended = self._t == self._length
        asked = self._t == self._length - 1
        paid = ended and int(action) == self._cue
        return self._observe(0.0, 1.0 if asked else -1.0), float(paid), ended, False, {}


class Terminal(DummyEnv):
    """The only reward, 1, is for ending the episode (action 1) exactly when a countdown is at 0.

    The countdown starts at 1 to `length`, is in view as state 1 - remaining / length, and turns
    to -1 once 0 has passed. Without action 1 the episode is truncated after 2 `length` steps.
    """

    def __init__(self, *, image: bool, vector: bool, length: int = 6) -> None:
        if length < 1:
            raise ValueError(f"length must be >= 1, got {length}")
        super().__init__(spaces.Discrete(2), 1, image=image, vector=vector)
        self._length = length
        self._remaining = 0
        self.max_steps = 2 * length

    def _countdown(self) -> Dict[str, np.ndarray]:
        late = self._remaining < 0
        return self._observe(-1.0 if late else 1.0 - self._remaining / self._length)

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """Draw the start of the countdown."""
        super().reset(seed=seed)
        self._t = 0
        self._remaining = int(self.np_random.integers(1, self._length + 1))
        return self._countdown(), {}

    def step(self, action: Any) -> Tuple[Dict[str, np.ndarray], float, bool, bool, Dict[str, Any]]:
        """Wait (0) or end the episode (1)."""
        self._check(action)
        self._t += 1
        if int(action) == 1:
            return self._countdown(), float(self._remaining == 0), True, False, {}
        self._remaining -= 1
        return self._countdown(), 0.0, False, self._t == self.max_steps, {}


class Point(DummyEnv):
    """Drive a point on [-1, 1] to a target: a (1,) in [-1, 1] moves it by 0.2 a.

    The state is (position, target), the reward minus their distance, and every episode is
    truncated after `length` steps.
    """

    def __init__(self, *, image: bool, vector: bool, length: int = 20) -> None:
        if length < 1:
            raise ValueError(f"length must be >= 1, got {length}")
        box = spaces.Box(-1.0, 1.0, (1,), np.float32)
        super().__init__(box, 2, image=image, vector=vector)
        self._position = 0.0
        self._target = 0.0
        self.max_steps = length

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """Draw position and target."""
        super().reset(seed=seed)
        self._t = 0
        self._position, self._target = (float(v) for v in self.np_random.uniform(-1.0, 1.0, 2))
        return self._observe(self._position, self._target), {}

    def step(self, action: Any) -> Tuple[Dict[str, np.ndarray], float, bool, bool, Dict[str, Any]]:
        """Move the point."""
        self._check(action)
        self._t += 1
        self._position = float(np.clip(self._position + 0.2 * float(action[0]), -1.0, 1.0))
        reward = -abs(self._position - self._target)
        observation = self._observe(self._position, self._target)
        return observation, reward, False, self._t == self.max_steps, {}


TASKS: Dict[str, Callable[..., DummyEnv]] = {
    "bandit": Bandit,
    "delayed": Delayed,
    "memory": Memory,
    "terminal": Terminal,
    "point": Point,
}


def make_dummy(
    task: str = "bandit", image: bool = True, vector: bool = False, length: Optional[int] = None
) -> DummyEnv:
    """Build a task.

    Args:
        task: "bandit", "delayed", "memory", "terminal" or "point" (continuous).
        image: whether to observe "image", uint8 (64, 64, 1).
        vector: whether to observe "state", float32.
        length: the bandit's number of actions, the delay, the length of an episode or of the
            countdown; None for the task's own.

    Raises:
        ValueError: unknown task, or an argument out of its range.
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    if length is None:
        return TASKS[task](image=image, vector=vector)
    name = {"bandit": "n", "delayed": "delay"}.get(task, "length")
    return TASKS[task](image=image, vector=vector, **{name: length})
