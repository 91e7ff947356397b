"""Whether an observation is what the contract says: name, type, shape, range, nothing that is not finite."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Tuple

import numpy as np

from dreamer_nav_export.contract import Observation
from dreamer_nav_export.errors import ObservationError

__all__ = ["check_observations"]


def check_observations(specs: Tuple[Observation, ...], observations: Any) -> Dict[str, np.ndarray]:
    """Copies with a batch axis of one, as the graph takes them.

    Raises:
        ObservationError: for the first one that is missing, unknown or not allowed.
    """
    if not isinstance(observations, Mapping):
        raise ObservationError(
            "", "must be a dict of arrays by name, got {}".format(type(observations).__name__)
        )
    known = {s.name for s in specs}
    for key in observations:
        if key not in known:
            raise ObservationError(
                str(key), "unknown; the policy takes {}".format(", ".join(sorted(known)))
            )
    return {spec.name: _check(spec, observations) for spec in specs}


def _check(spec: Observation, observations: Mapping[str, Any]) -> np.ndarray:
    if spec.name not in observations:
        raise ObservationError(
            spec.name, "missing; the policy needs {}{}".format(spec.dtype, spec.shape)
        )
    value = observations[spec.name]
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise ObservationError(
            spec.name, "must be a numpy array, got {}".format(type(value).__name__)
        )
    if value.dtype != np.dtype(spec.dtype):
        raise ObservationError(
            spec.name, "must be {}, got {}; convert it".format(spec.dtype, value.dtype)
        )
    if value.shape != spec.shape:
        raise ObservationError(
            spec.name, "must have shape {}, got {}".format(spec.shape, value.shape)
        )
    # A copy before the values are looked at: a camera driver may go on writing into the buffer.
    copy = np.array(value, order="C", copy=True, subok=False)
    _check_values(spec, copy)
    return copy[None]


def _check_values(spec: Observation, value: np.ndarray) -> None:
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        bad = int(value.size - np.isfinite(value).sum())
        raise ObservationError(
            spec.name,
            "{} of {} numbers are NaN or infinite; {}".format(bad, value.size, _remedy(spec)),
        )
    columns = value.reshape(1, -1) if spec.is_image else value.reshape(-1, 1)
    for row, low, high in zip(columns, spec.low, spec.high):
        smallest, largest = np.float32(row.min()), np.float32(row.max())
        # Bounds as float32 too: pi as float32 is greater than pi.
        if (low is not None and smallest < np.float32(low)) or (
            high is not None and largest > np.float32(high)
        ):
            raise ObservationError(
                spec.name,
                "must be within [{}, {}], got [{}, {}]; {}".format(
                    low, high, smallest, largest, _remedy(spec)
                ),
            )


def _remedy(spec: Observation) -> str:
    unit = " ({})".format(", ".join(spec.units)) if spec.units else ""
    if spec.invalid is not None:
        return "check its unit{}, clip it, and set pixels without a reading to {}".format(
            unit, spec.invalid.value
        )
    return "check the sensor and its unit{}".format(unit)
