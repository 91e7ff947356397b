"""Wrappers that bring other people's environments to the observations our adapters promise."""

from __future__ import annotations

from typing import Any, Dict

import gymnasium
import numpy as np
from gymnasium import spaces


class DictObservation(gymnasium.ObservationWrapper):
    """Gives every observation as a flat dictionary of uint8 images and float32 vectors.

    An observation that is no dictionary goes under one key: "image" for uint8 (H, W, C), else
    "state". A scalar becomes a vector of one entry and float64 becomes float32. Everything else
    (nested dictionaries, discrete values, several ranks) is refused, not flattened.

    Args:
        env: the environment.

    Raises:
        TypeError: an observation that none of the above covers.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        inner = env.observation_space
        self._key = ""
        if isinstance(inner, spaces.Dict):
            parts = dict(inner.spaces)
        else:
            is_image = isinstance(inner, spaces.Box) and len(inner.shape) == 3
            self._key = "image" if is_image and inner.dtype == np.uint8 else "state"
            parts = {self._key: inner}
        promoted: Dict[str, spaces.Space[Any]] = {k: _promote(k, s) for k, s in parts.items()}
        self.observation_space = spaces.Dict(promoted)

    def observation(self, observation: Any) -> Dict[str, np.ndarray]:
        """Convert one observation."""
        parts = {self._key: observation} if self._key else observation
        converted = {}
        for key, space in self.observation_space.spaces.items():  # type: ignore[attr-defined]
            array = np.asarray(parts[key])
            if array.ndim == 0:
                array = array.reshape(1)
            converted[key] = array.astype(space.dtype, copy=False)
        return converted


def _promote(key: str, space: spaces.Space[Any]) -> spaces.Box:
    if not isinstance(space, spaces.Box) or space.dtype not in (
        np.dtype(np.uint8),
        np.dtype(np.float32),
        np.dtype(np.float64),
    ):
        raise TypeError(
            f"the observation {key!r} is {space}: only Box of uint8, float32 or float64 is "
            "supported; convert it in a wrapper of your own (a Discrete value to one-hot, a nested "
            "dictionary to flat keys)"
        )
    shape = space.shape or (1,)
    dtype: Any = np.float32 if space.dtype == np.float64 else space.dtype
    low, high = space.low.reshape(shape), space.high.reshape(shape)
    if space.dtype == np.float64:
        # A bound past float32's range would warn on the cast and mean "no bound" anyway.
        limit = float(np.finfo(np.float32).max)
        low = np.where(low < -limit, -np.inf, low)
        high = np.where(high > limit, np.inf, high)
    return spaces.Box(low.astype(dtype), high.astype(dtype), shape, dtype)
