"""Whether an observation is what the contract says: name, type, shape, range, nothing that is not finite."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Sequence

import numpy as np

from dreamer_nav_export.contract import Observation
from dreamer_nav_export.errors import ObservationError

__all__ = ["ObservationCheck"]


class ObservationCheck:
    """Checks observations against the contract; made once, since it is in every step."""

    def __init__(self, specs: Sequence[Observation]) -> None:
        self._checks = {spec.name: _Check(spec) for spec in specs}

    def __call__(self, observations: Any) -> Dict[str, np.ndarray]:
        """Copies with a batch axis of one, as the graph takes them.

        Raises:
            ObservationError: for the first one that is missing, unknown or not allowed.
        """
        if not isinstance(observations, Mapping):
            raise ObservationError(
                "", "must be a dict of arrays by name, got {}".format(type(observations).__name__)
            )
        for key in observations:
            if key not in self._checks:
                raise ObservationError(
                    str(key), "unknown; the policy takes {}".format(", ".join(sorted(self._checks)))
                )
        return {name: check(observations) for name, check in self._checks.items()}


class _Check:
    """Of one observation."""

    def __init__(self, spec: Observation) -> None:
        self._spec = spec
        self._dtype = np.dtype(spec.dtype)
        # Bounds as float32 too: pi as float32 is greater than pi. What has no bound must be finite.
        most = np.finfo(np.float32).max
        shape = () if spec.is_image else spec.shape
        low = [-most if bound is None else bound for bound in spec.low]
        high = [most if bound is None else bound for bound in spec.high]
        self._low = np.array(low, np.float32).reshape(shape)
        self._high = np.array(high, np.float32).reshape(shape)

    def __call__(self, observations: Mapping[str, Any]) -> np.ndarray:
        spec = self._spec
        if spec.name not in observations:
            raise ObservationError(
                spec.name, "missing; the policy needs {}{}".format(spec.dtype, spec.shape)
            )
        value = observations[spec.name]
        if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
            raise ObservationError(
                spec.name, "must be a numpy array, got {}".format(type(value).__name__)
            )
        if value.dtype != self._dtype:
            raise ObservationError(
                spec.name, "must be {}, got {}; convert it".format(spec.dtype, value.dtype)
            )
        if value.shape != spec.shape:
            raise ObservationError(
                spec.name, "must have shape {}, got {}".format(spec.shape, value.shape)
            )
        # A copy before the values are looked at: a camera driver may go on writing into the buffer.
        copy = np.array(value, order="C", copy=True, subok=False)
        if not self._is_within(copy):
            raise ObservationError(spec.name, self._what_is_wrong(copy))
        return copy[None]

    def _is_within(self, value: np.ndarray) -> bool:
        # NaN is within nothing, and it is the least and the greatest of any array that holds it.
        if self._spec.is_image:
            return bool(self._low <= value.min() and value.max() <= self._high)
        return bool((self._low <= value).all() and (value <= self._high).all())

    def _what_is_wrong(self, value: np.ndarray) -> str:
        spec = self._spec
        bad = int(value.size - np.isfinite(value).sum())
        if bad:
            return "{} of {} numbers are NaN or infinite; {}".format(bad, value.size, _remedy(spec))
        columns = value.reshape(1, -1) if spec.is_image else value.reshape(-1, 1)
        pairs = zip(columns, self._low.ravel(), self._high.ravel())
        place = next(i for i, (c, lo, hi) in enumerate(pairs) if c.min() < lo or c.max() > hi)
        column = columns[place]
        return "must be within [{}, {}], got [{}, {}]; {}".format(
            spec.low[place], spec.high[place], column.min(), column.max(), _remedy(spec)
        )


def _remedy(spec: Observation) -> str:
    unit = " ({})".format(", ".join(spec.units)) if spec.units else ""
    if spec.invalid is not None:
        return "check its unit{}, clip it, and set pixels without a reading to {}".format(
            unit, spec.invalid.value
        )
    return "check the sensor and its unit{}".format(unit)
