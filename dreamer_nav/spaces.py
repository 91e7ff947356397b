"""What the agent knows of an environment: the observations it reads and the actions it may take.

Described as plain values, so that a checkpoint can rebuild its agent without the simulator.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium as gym
import numpy as np

__all__ = ["ActionSpec", "ObsSpec", "select_observations"]


@dataclass(frozen=True)
class ObsSpec:
    """One observation: an image (H, W, C), uint8 or float in [low, high], or a vector (D,)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    low: float = -float("inf")
    high: float = float("inf")

    @property
    def is_image(self) -> bool:
        """Whether it has rank 3 and goes through the convolutions."""
        return len(self.shape) == 3

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ObsSpec:
        """Inverse of `to_json`."""
        bounds = {k: float(value[k]) for k in ("low", "high")}
        return cls(value["name"], tuple(value["shape"]), value["dtype"], **bounds)

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values; infinite bounds become strings, which JSON can hold."""
        return {
            **asdict(self),
            "shape": list(self.shape),
            "low": str(self.low),
            "high": str(self.high),
        }


@dataclass(frozen=True)
class ActionSpec:
    """Actions as the agent sees them: `size` choices, or `size` numbers in [-1, 1] mapped to [low, high]."""

    discrete: bool
    size: int
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @classmethod
    def from_space(cls, space: gym.Space) -> ActionSpec:
        """From a Gymnasium action space; raises ValueError unless Discrete (from 0) or a bounded 1-D Box."""
        if isinstance(space, gym.spaces.Discrete):
            if space.start != 0:
                raise ValueError(
                    f"Discrete actions must start at 0, got {space}; shift them in a wrapper."
                )
            return cls(True, int(space.n))
        if isinstance(space, gym.spaces.Box) and len(space.shape) == 1:
            if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
                raise ValueError(
                    f"Continuous actions need finite bounds, got {space}; rescale the environment's actions."
                )
            low, high = (tuple(float(x) for x in b) for b in (space.low, space.high))
            return cls(False, space.shape[0], low, high)
        raise ValueError(
            f"Unsupported action space {space}; allowed: Discrete, or a bounded one-dimensional Box."
        )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ActionSpec:
        """Inverse of `to_json`."""
        return cls(value["discrete"], value["size"], tuple(value["low"]), tuple(value["high"]))

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    def to_env(self, action: np.ndarray) -> np.ndarray:
        """Environment actions (N,) or (N, A) for agent actions (N, A), one-hot or in [-1, 1]."""
        if self.discrete:
            return action.argmax(-1)
        low, high = np.array(self.low, np.float32), np.array(self.high, np.float32)
        return np.clip(low + (action + 1) / 2 * (high - low), low, high).astype(np.float32)

    def random(self, rng: np.random.Generator, num: int) -> np.ndarray:
        """Uniformly random agent actions (num, A), float32."""
        if self.discrete:
            return np.eye(self.size, dtype=np.float32)[rng.integers(self.size, size=num)]
        return rng.uniform(-1, 1, (num, self.size)).astype(np.float32)


def select_observations(
    space: gym.spaces.Dict, image_keys: str, vector_keys: str
) -> tuple[ObsSpec, ...]:
    """The observations whose names match, by kind; raises ValueError if none is left or one is unusable.

    Scalars are promoted to vectors of one number by the driver, never dropped.
    """
    chosen = []
    for name, sub in sorted(space.items()):
        if not isinstance(sub, gym.spaces.Box) or len(sub.shape) not in (0, 1, 3):
            raise ValueError(
                f"Observation {name!r} is {sub}; allowed: Box images (H, W, C) and Box vectors (D,). "
                "Convert it in a wrapper."
            )
        shape = sub.shape or (1,)
        pattern = image_keys if len(shape) == 3 else vector_keys
        if re.fullmatch(pattern, name):
            low, high = float(sub.low.min()), float(sub.high.max())
            if len(shape) == 3 and not math.isfinite(high - low):
                raise ValueError(
                    f"Image {name!r} needs finite bounds to be scaled by, got {sub}; state its range in the "
                    "environment's observation space."
                )
            chosen.append(ObsSpec(name, tuple(shape), str(sub.dtype), low, high))
    if not chosen:
        raise ValueError(
            f"No observation left of {sorted(space)}: image_keys={image_keys!r}, vector_keys={vector_keys!r}."
        )
    return tuple(chosen)
