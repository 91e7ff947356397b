"""habitat-lab's observations as an agent of ours was trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dreamer_nav.failures import UsageError
from dreamer_nav.spaces import ObsSpec
from sim_adapters.resize import AreaResize

__all__ = ["GPS_COMPASS", "Senses"]

GPS_COMPASS = "pointgoal_with_gps_compass"


class Senses:
    """Renames and checks observations, and resizes pictures where the agent was trained on resized ones.

    Args:
        specs: the agent's observations.
        resize: side of the agent's pictures, pixels; 0 takes them as they come.
    """

    def __init__(self, specs: Sequence[ObsSpec], resize: int = 0) -> None:
        self._specs, self._resize = tuple(specs), resize
        self._resizers: dict[tuple[int, ...], AreaResize] = {}

    def read(self, observations: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The agent's observations, of one environment or (N, ...) of several, among habitat-lab's.

        Raises:
            UsageError: one is missing or of another shape.
        """
        return {spec.name: self._read(spec, observations) for spec in self._specs}

    def _read(self, spec: ObsSpec, observations: Mapping[str, Any]) -> np.ndarray:
        # The adapter calls the goal in the robot's frame "pointgoal", as the whole project does.
        name = (
            GPS_COMPASS if spec.name == "pointgoal" and GPS_COMPASS in observations else spec.name
        )
        if name not in observations:
            raise UsageError(
                f"the agent needs the sensor {name}; the configuration has {', '.join(observations)}"
            )
        value = observations[name]
        value = value.cpu().numpy() if hasattr(value, "cpu") else np.asarray(value)
        value = value.astype(spec.dtype, copy=False)
        if self._resize and len(spec.shape) == 3 and value.shape[-3:] != spec.shape:
            value = self._resized(value)
        if value.shape[value.ndim - len(spec.shape) :] != spec.shape:
            raise UsageError(
                f"the agent was trained on {name} of shape {spec.shape}, got {value.shape}: set the "
                "sensor's width and height to that"
            )
        return value

    def _resized(self, value: np.ndarray) -> np.ndarray:
        shape = value.shape[-3:]
        if shape not in self._resizers:
            self._resizers[shape] = AreaResize(shape, self._resize)
        flat = value.reshape(-1, *shape)
        pictures = np.stack([self._resizers[shape](picture) for picture in flat])
        return pictures.reshape(*value.shape[:-3], *pictures.shape[1:])
