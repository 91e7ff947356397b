"""Pictures off the wire into the policy's arrays, with NumPy alone.

cv_bridge is avoided: its builds are tied to one NumPy, and a robot's Python has another.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Tuple

import numpy as np

from dreamer_nav_ros.contract_fields import CameraField
from dreamer_nav_ros.faults import Fault
from dreamer_nav_ros.inputs import Picture

DEPTH_ENCODINGS: Dict[str, np.dtype] = {
    "32FC1": np.dtype("f4"),
    "16UC1": np.dtype("u2"),
    "mono16": np.dtype("u2"),
}
COLOUR_ENCODINGS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0)}
MILLIMETRE = 1e-3
RESIZE_METHODS = ("area", "nearest")


class Window(NamedTuple):
    """Rows and columns of a camera's picture that show what the policy expects to see.

    `height` and `width` are the whole picture's, to notice one of another size.
    """

    height: int
    width: int
    top: int
    bottom: int
    left: int
    right: int


def depth_observation(
    picture: Picture, window: Window, field: CameraField, max_invalid_share: float, method: str
) -> np.ndarray:
    """Return the policy's depth, float32 (H, W, 1) in metres within the contract's range.

    Follows REP 117 and 118: 32FC1 is metres, where NaN is no reading, +inf beyond and -inf closer
    than the sensor's range; 16UC1 is millimetres, where 0 is no reading. No reading becomes the
    contract's invalid value.

    Args:
        picture: as received.
        window: what of it the policy sees.
        field: size and range that the policy wants.
        max_invalid_share: how much of the window may be without a reading, in [0, 1].
        method: "area" or "nearest", see `resize_depth`.

    Raises:
        Fault: `bad_depth`, if encoding, size or length are wrong or readings are missing.
    """
    metres = _crop(decode_depth(picture), window, "depth")
    invalid = np.isnan(metres)
    share = float(invalid.mean())
    if share > max_invalid_share:
        raise Fault(
            "bad_depth",
            f"{share:.0%} of the depth picture has no reading, at most {max_invalid_share:.0%} may "
            "lack one: look whether the camera is covered, too close to something, or unlit",
        )
    small = resize_depth(metres, (field.height, field.width), method)
    small = np.where(np.isnan(small), field.invalid_m, np.clip(small, field.near_m, field.far_m))
    return small.astype(np.float32)[:, :, None]


def colour_observation(picture: Picture, window: Window, field: CameraField) -> np.ndarray:
    """Return the policy's picture, uint8 (H, W, 3) in the order red, green, blue.

    A larger picture is reduced by averaging (see `resize_depth` for the cells).

    Raises:
        Fault: `bad_rgb`, if encoding, size or length are wrong.
    """
    order = COLOUR_ENCODINGS.get(picture.encoding)
    if order is None:
        raise Fault(
            "bad_rgb",
            f"encoding {picture.encoding!r} is none of {sorted(COLOUR_ENCODINGS)}; set it in the "
            "camera's driver",
        )
    channels = 4 if picture.encoding.endswith("a8") else 3
    pixels = _rows(picture, np.dtype("u1"), channels, "rgb")
    pixels = _crop(pixels.reshape(picture.height, picture.width, channels), window, "rgb")
    small = _area_mean(pixels[:, :, list(order)].astype(np.float64), (field.height, field.width))
    return np.asarray(np.rint(small), dtype=np.uint8)


def decode_depth(picture: Picture) -> np.ndarray:
    """Return depth in metres, float32 (height, width): NaN is no reading, +-inf out of range.

    Raises:
        Fault: `bad_depth`, if the encoding is unknown or the length does not fit.
    """
    dtype = DEPTH_ENCODINGS.get(picture.encoding)
    if dtype is None:
        raise Fault(
            "bad_depth",
            f"encoding {picture.encoding!r} is none of {sorted(DEPTH_ENCODINGS)}; subscribe to the "
            "raw depth picture, not to a coloured one",
        )
    raw = _rows(picture, dtype, 1, "depth")
    if dtype.kind == "u":
        return np.where(raw == 0, np.nan, raw * MILLIMETRE).astype(np.float32)
    # A driver that writes 0 for no reading would otherwise show a wall at the lens.
    return np.where(raw == 0, np.nan, raw).astype(np.float32)


def resize_depth(metres: np.ndarray, size: Tuple[int, int], method: str) -> np.ndarray:
    """Return `metres` (h, w) at `size` = (H, W), H <= h and W <= w; NaN where nothing was read.

    Each output pixel stands for a cell of h/H by w/W pixels. "area" is the mean of the cell's
    readings, so that a hole is filled as long as a neighbour was read; at an edge it lies between
    near and far. "nearest" takes the pixel at the cell's centre: no such mixture, but every hole
    stays.
    """
    if method == "nearest":
        rows, columns = (_centres(n, m) for n, m in zip(metres.shape, size))
        return metres[np.ix_(rows, columns)]
    if method != "area":
        raise ValueError(f"method must be one of {RESIZE_METHODS}, got {method!r}")
    # An infinite reading would make the whole cell infinite: it counts as the sensor's extreme.
    finite = np.nan_to_num(metres.astype(np.float64), nan=0.0, posinf=1e6, neginf=0.0)
    weight = _area_mean((~np.isnan(metres)).astype(np.float64), size)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 0, _area_mean(finite, size) / weight, np.nan)


def _centres(length: int, target: int) -> np.ndarray:
    return ((np.arange(target) + 0.5) * length / target).astype(np.intp)


def _area_mean(pixels: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Mean over cells of (h, w, ...) whose borders are rounded to whole pixels."""
    for axis, target in enumerate(size):
        starts = np.arange(target) * pixels.shape[axis] // target
        counts = np.diff(np.append(starts, pixels.shape[axis]))
        shape = [1] * pixels.ndim
        shape[axis] = target
        pixels = np.add.reduceat(pixels, starts, axis=axis) / counts.reshape(shape)
    return pixels


def _rows(picture: Picture, dtype: np.dtype, channels: int, name: str) -> np.ndarray:
    """The pixels without the rows' padding, (height, width * channels) in native byte order."""
    values = picture.width * channels
    needed = values * dtype.itemsize
    expected = picture.row_bytes * picture.height
    if picture.row_bytes < needed or len(picture.data) != expected or not expected:
        raise Fault(
            f"bad_{name}",
            f"{picture.width} x {picture.height} pixels of {picture.encoding!r} need rows of at "
            f"least {needed} bytes and row length times height in all, got rows of "
            f"{picture.row_bytes} and {len(picture.data)} bytes; the driver's message is broken",
        )
    table = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.row_bytes)
    wire = dtype.newbyteorder(">" if picture.is_big_endian else "<")
    return np.ascontiguousarray(table[:, :needed]).view(wire).astype(dtype)


def _crop(pixels: np.ndarray, window: Window, name: str) -> np.ndarray:
    if pixels.shape[:2] != (window.height, window.width):
        raise Fault(
            f"bad_{name}",
            f"the picture has {pixels.shape[1]} x {pixels.shape[0]} pixels, its CameraInfo says "
            f"{window.width} x {window.height}; publish both at one resolution",
        )
    return pixels[window.top : window.bottom, window.left : window.right]
