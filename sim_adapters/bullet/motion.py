"""Exact motion of a disc among axis-aligned rectangles, on the floor plane."""

from __future__ import annotations

from typing import Tuple

import numpy as np

SKIN = 1e-3
"""The disc stops this far (metres) before contact, so that rounding never puts it inside."""


def clearance(point: np.ndarray, rectangles: np.ndarray) -> float:
    """Distance in metres from `point` (2,) to the nearest of `rectangles` (n, 4).

    A rectangle is (x_low, y_low, x_high, y_high). Zero inside one, infinite when there are none.
    """
    if not len(rectangles):
        return float("inf")
    gap = np.maximum(rectangles[:, :2] - point, point - rectangles[:, 2:])
    gap = np.maximum(gap, 0.0)
    return float(np.sqrt((gap**2).sum(axis=1).min()))


def sweep(
    start: np.ndarray, delta: np.ndarray, rectangles: np.ndarray, radius: float
) -> Tuple[float, int]:
    """How far a disc gets along a straight move.

    Arguments:
        start: centre of the disc (2,), metres.
        delta: wished displacement (2,), metres.
        rectangles: obstacles (n, 4) as (x_low, y_low, x_high, y_high).
        radius: of the disc, metres.

    Returns the fraction of `delta` in [0, 1] that is free, and the index of the rectangle that
    stops it (-1 if none does). The obstacle grown by the disc is the union of two rectangles and
    four circles; the move is a ray that must not enter any of them.
    """
    length = float(np.hypot(delta[0], delta[1]))
    if length == 0.0 or not len(rectangles):
        return 1.0, -1
    near = _near(start, delta, rectangles, radius)
    if not len(near):
        return 1.0, -1
    boxes = rectangles[near]
    entry = np.minimum(
        _enter_box(start, delta, boxes + np.array([-radius, 0.0, radius, 0.0])),
        _enter_box(start, delta, boxes + np.array([0.0, -radius, 0.0, radius])),
    )
    for corner in ((0, 1), (0, 3), (2, 1), (2, 3)):
        entry = np.minimum(entry, _enter_circle(start, delta, boxes[:, corner], radius))
    first = int(np.argmin(entry))
    if entry[first] > 1.0 + SKIN / length:
        return 1.0, -1
    return float(np.clip(entry[first] - SKIN / length, 0.0, 1.0)), int(near[first])


def slide(
    start: np.ndarray, delta: np.ndarray, rectangles: np.ndarray, radius: float
) -> Tuple[np.ndarray, bool]:
    """Move a disc and let it glide along what it touches.

    Returns the final centre (2,) and whether anything was touched. What is left of `delta` at a
    contact is projected on the contact's tangent, at most twice (a corner stops the disc).
    """
    position, left, touched = start, delta, False
    for _ in range(3):
        fraction, index = sweep(position, left, rectangles, radius)
        position = position + fraction * left
        if index < 0:
            break
        touched = True
        box = rectangles[index]
        normal = position - np.clip(position, box[:2], box[2:])
        normal = normal / max(float(np.hypot(normal[0], normal[1])), 1e-9)
        left = (1.0 - fraction) * left
        left = left - min(float(left @ normal), 0.0) * normal
    return position, touched


def _near(start: np.ndarray, delta: np.ndarray, boxes: np.ndarray, radius: float) -> np.ndarray:
    low = np.minimum(start, start + delta) - radius - SKIN
    high = np.maximum(start, start + delta) + radius + SKIN
    return np.flatnonzero(((boxes[:, :2] <= high) & (boxes[:, 2:] >= low)).all(axis=1))


def _enter_box(start: np.ndarray, delta: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    # A component of exactly zero would give 0/0 on a boundary.
    safe = np.where(np.abs(delta) < 1e-12, 1e-12, delta)
    a = (boxes[:, :2] - start) / safe
    b = (boxes[:, 2:] - start) / safe
    enter = np.minimum(a, b).max(axis=1)
    leave = np.maximum(a, b).min(axis=1)
    return np.where((enter < leave) & (leave > 0), np.maximum(enter, 0.0), np.inf)


def _enter_circle(
    start: np.ndarray, delta: np.ndarray, centres: np.ndarray, radius: float
) -> np.ndarray:
    offset = start - centres
    a = float(delta @ delta)
    half_b = offset @ delta
    c = (offset**2).sum(axis=1) - radius**2
    root = half_b**2 - a * c
    enter = (-half_b - np.sqrt(np.maximum(root, 0.0))) / a
    hit = (root > 0) & (half_b < 0)
    return np.where(hit, np.maximum(enter, 0.0), np.inf)
