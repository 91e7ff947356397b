"""Random numbers that every machine can draw again, and the observations of the golden vectors made of them."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterator, Optional, Tuple

import numpy as np

from dreamer_nav_export.contract import Contract, Golden, Noise, Observation

__all__ = ["CELL", "NoiseStream", "golden_observations", "random_observation"]

CELL = 8
"""Side of the squares of one value that random images consist of: a convolution averages white noise away."""


class NoiseStream:
    """Uniform float32 noise in [0, 1) from a 32-bit Mersenne Twister.

    The same seed gives what torch.Generator().manual_seed(seed) gives torch.rand on a CPU, and std::mt19937 in C++.
    """

    def __init__(self, seed: int) -> None:
        # Seeded by the old generator, which does it as torch and C++ do, and drawn from the new one, which is faster.
        self._draws = np.random.MT19937()
        state: Any = np.random.RandomState(seed).get_state(legacy=False)
        self._draws.state = state

    def integers(self, count: int) -> np.ndarray:
        """The next `count` draws, 32 bits each, as uint64."""
        return self._draws.random_raw(count)

    def uniform(self, shape: Tuple[int, ...]) -> np.ndarray:
        """Float32 of that shape; the lower 24 bits of a draw each."""
        bits = self.integers(math.prod(shape)) & _LOW_BITS
        return (bits.astype(np.float32) * _UNIT).reshape(shape)

    def step(self, noise: Tuple[Noise, ...]) -> Dict[str, np.ndarray]:
        """The noise of one step, with a batch axis of one; what is not used is drawn and dropped."""
        sizes = [math.prod(n.shape) for n in noise]
        numbers, end, used = self.uniform((sum(sizes),)), 0, {}
        for n, size in zip(noise, sizes):
            start, end = end, end + size
            if n.used:
                used[n.name] = numbers[start:end].reshape((1, *n.shape))
        return used


_LOW_BITS, _UNIT = np.uint64(0xFFFFFF), np.float32(2.0**-24)


def _limits(low: Optional[float], high: Optional[float]) -> Tuple[float, float]:
    if low is None:
        low = 0.0 if high is not None and high >= 0 else -1.0
    return low, low + 10.0 if high is None else high


def random_observation(spec: Observation, stream: NoiseStream) -> np.ndarray:
    """A value of one observation within its bounds; see `Golden` for the rule."""
    if spec.is_image:
        height, width, channels = spec.shape
        cells = (-(-height // CELL), -(-width // CELL), channels)
        small = _values(spec, stream, cells)
        return small.repeat(CELL, 0).repeat(CELL, 1)[:height, :width].copy()
    return _values(spec, stream, spec.shape)


def _values(spec: Observation, stream: NoiseStream, shape: Tuple[int, ...]) -> np.ndarray:
    if spec.dtype == "uint8":
        draws = stream.integers(math.prod(shape))
        return (draws & np.uint64(255)).astype(np.uint8).reshape(shape)
    bounds = np.array([_limits(*b) for b in zip(spec.low, spec.high)], np.float32)
    low, high = (b if spec.is_image else b.reshape(shape) for b in (bounds[:, 0], bounds[:, 1]))
    value = low + stream.uniform(shape) * (high - low)
    return np.clip(value, low, high).astype(np.float32)


def golden_observations(contract: Contract, golden: Golden) -> Iterator[Dict[str, np.ndarray]]:
    """The observations of each step of the golden sequence."""
    stream = NoiseStream(golden.observation_seed)
    for _ in range(golden.steps):
        yield {o.name: random_observation(o, stream) for o in contract.observations}
