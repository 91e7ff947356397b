"""Whether the robot's camera sees what the policy was trained on."""

from __future__ import annotations

import math
from typing import NamedTuple

from dreamer_nav_ros.contract_fields import CameraField
from dreamer_nav_ros.pictures import Window

MAX_OFFSET_SHARE = 0.05
"""How far the optical axis may lie off the picture's centre, as a share of its width or height."""


class CameraMismatch(ValueError):
    """The camera is not the one of the contract."""


class Intrinsics(NamedTuple):
    """Of `sensor_msgs/CameraInfo`: pixels. `is_partial` means binning or a region of interest."""

    height: int
    width: int
    fx: float
    fy: float
    cx: float
    cy: float
    is_partial: bool


def fit_camera(
    info: Intrinsics, field: CameraField, hfov_tolerance_deg: float, allow_crop: bool
) -> Window:
    """Return the part of the camera's picture that the policy should see.

    The policy's camera has square pixels, so that its size and horizontal field of view give the
    vertical one too.

    Args:
        info: the robot's camera.
        field: the contract's camera.
        hfov_tolerance_deg: how much the fields of view may differ, either way.
        allow_crop: whether a wider or taller view is cut down to the policy's, or refused.

    Raises:
        CameraMismatch: with what differs and what to do.
    """
    _check_info(info, field)
    half = math.tan(math.radians(field.hfov_deg) / 2)
    width = 2 * info.fx * half
    height = 2 * info.fy * half * field.height / field.width
    _check_view(info.width, info.fx, width, "horizontal", field, hfov_tolerance_deg, allow_crop)
    _check_view(info.height, info.fy, height, "vertical", field, hfov_tolerance_deg, allow_crop)
    top, bottom = _span(info.cy, height, info.height)
    left, right = _span(info.cx, width, info.width)
    if bottom - top < field.height or right - left < field.width:
        raise CameraMismatch(
            f"the policy's view is {right - left} x {bottom - top} pixels of the camera's picture, "
            f"fewer than the {field.width} x {field.height} it needs: choose a higher resolution"
        )
    return Window(info.height, info.width, top, bottom, left, right)


def _check_info(info: Intrinsics, field: CameraField) -> None:
    if info.is_partial:
        raise CameraMismatch(
            f"CameraInfo of {field.name!r} has binning or a region of interest; publish the whole "
            "picture and its own CameraInfo"
        )
    numbers = (info.fx, info.fy, info.cx, info.cy)
    if not all(math.isfinite(n) and n > 0 for n in numbers) or min(info.height, info.width) < 1:
        raise CameraMismatch(
            f"CameraInfo of {field.name!r} is not calibrated: {info}; fx, fy, cx, cy and the size "
            "must be positive"
        )
    for name, centre, size in (("cx", info.cx, info.width), ("cy", info.cy, info.height)):
        if abs(centre - size / 2) > MAX_OFFSET_SHARE * size:
            raise CameraMismatch(
                f"CameraInfo of {field.name!r} has {name} = {centre:.1f} in a picture of {size} "
                f"pixels; at most {MAX_OFFSET_SHARE:.0%} off the centre is allowed: rectify the "
                "picture"
            )


def _check_view(
    pixels: int,
    focal: float,
    wanted_pixels: float,
    direction: str,
    field: CameraField,
    tolerance_deg: float,
    allow_crop: bool,
) -> None:
    view = 2 * math.degrees(math.atan(pixels / (2 * focal)))
    wanted = 2 * math.degrees(math.atan(wanted_pixels / (2 * focal)))
    if view < wanted - tolerance_deg:
        raise CameraMismatch(
            f"the camera's {direction} field of view is {view:.1f} degrees, the policy's {field.name!r} "
            f"needs {wanted:.1f} (tolerance {tolerance_deg}): use a wider camera, or train with "
            "this one's hfov_deg and image_size"
        )
    if view > wanted + tolerance_deg and not allow_crop:
        raise CameraMismatch(
            f"the camera's {direction} field of view is {view:.1f} degrees, the policy's {field.name!r} "
            f"{wanted:.1f} (tolerance {tolerance_deg}): set allow_crop to cut the picture down, "
            "or train with this camera's hfov_deg and image_size"
        )


def _span(centre: float, wanted: float, size: int) -> "tuple[int, int]":
    """First pixel and the one after the last of `wanted` pixels about `centre`."""
    if wanted >= size:
        return 0, size
    first = min(max(round(centre - wanted / 2), 0), size - 1)
    return first, min(round(centre + wanted / 2), size)
