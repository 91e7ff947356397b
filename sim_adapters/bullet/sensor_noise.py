"""Errors of a depth camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import numpy as np


@dataclass(frozen=True)
class DepthNoise:
    """Gaussian error that grows with the square of the distance, and missing pixels.

    Structured-light and stereo cameras err by about 1 to 3 mm at 1 m and by its square beyond
    (Khoshelham and Oude Elberink, Sensors 2012, find 1.4 mm times z squared for the Kinect).

    Arguments:
        std_at_1m: standard deviation at 1 m, metres.
        dropout: share of pixels without a reading; they read as the far end.
    """

    std_at_1m: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.std_at_1m < 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"depth noise needs std_at_1m >= 0 and 0 <= dropout < 1, got {self.std_at_1m} and {self.dropout}"
            )

    def apply(
        self, depth: np.ndarray, rng: np.random.Generator, limits: Tuple[float, float]
    ) -> np.ndarray:
        """Noisy copy of `depth`, float32 (H, W, 1) metres, within `limits`."""
        noisy = depth + self.std_at_1m * depth**2 * rng.standard_normal(depth.shape)
        noisy = np.where(rng.random(depth.shape) < self.dropout, limits[1], noisy)
        return np.clip(noisy, *limits).astype(np.float32)
