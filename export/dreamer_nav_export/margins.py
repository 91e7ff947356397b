"""Whether a changed choice is rounding: how near two candidates were, against how far the numbers differ."""

from __future__ import annotations

import numpy as np

__all__ = ["FACTOR", "argmax_is_tie", "argmax_margin", "sample_is_tie", "sample_margin"]

FACTOR = 10.0
"""A choice may change where its margin is below this many times the largest difference of the numbers behind it."""

# Rounding of a cumulative sum of float32 probabilities, where the logits happen to agree to the last bit.
_CDF_FLOOR = 1e-6
_LOGIT_FLOOR = 1e-6


def _cdf(logits: np.ndarray) -> np.ndarray:
    """Cumulative probabilities (..., C) in float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    weights = np.exp(shifted)
    total: np.ndarray = (weights / weights.sum(-1, keepdims=True)).cumsum(-1)
    return total


def sample_margin(logits: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Distance (...) of uniform noise (...) from the nearest boundary between classes of logits (..., C)."""
    return np.abs(_cdf(logits)[..., :-1] - noise[..., None]).min(-1)


def argmax_margin(logits: np.ndarray) -> np.ndarray:
    """How far (...) the largest of logits (..., C) is above the second."""
    if logits.shape[-1] < 2:
        return np.full(logits.shape[:-1], np.inf)
    top = np.partition(logits, -2, axis=-1)
    margin: np.ndarray = top[..., -1] - top[..., -2]
    return margin


def sample_is_tie(expected: np.ndarray, found: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Where (...) two sets of logits (..., C) may give different samples for the same noise (...)."""
    error = np.abs(_cdf(expected) - _cdf(found)).max(-1)
    tie: np.ndarray = sample_margin(expected, noise) <= FACTOR * np.maximum(error, _CDF_FLOOR)
    return tie


def argmax_is_tie(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Where (...) two sets of logits (..., C) may have different largest entries."""
    error = np.abs(expected - found).max(-1)
    tie: np.ndarray = argmax_margin(expected) <= FACTOR * np.maximum(error, _LOGIT_FLOOR)
    return tie
