"""Depth and colour off the wire, and whether the camera fits the policy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dreamer_nav_ros.camera_info import CameraMismatch, Intrinsics, fit_camera
from dreamer_nav_ros.contract_fields import CameraField
from dreamer_nav_ros.faults import Fault
from dreamer_nav_ros.inputs import Picture
from dreamer_nav_ros.pictures import (
    Window,
    colour_observation,
    decode_depth,
    depth_observation,
    resize_depth,
)

FIELD = CameraField("depth", 2, 3, 90.0, 0.88, 0.0, 0.1, 10.0, 10.0)
RGB = FIELD._replace(name="rgb")
WHOLE = Window(2, 3, 0, 2, 0, 3)
METRES = np.array([[0.5, 1.0, 1.5], [2.0, 2.5, 3.0]], np.float32)
NAN, INF = math.nan, math.inf


def wire(
    values: np.ndarray,
    encoding: str,
    *,
    big: bool = False,
    padding: int = 0,
    width: int | None = None,
) -> Picture:
    """A message of `values`, whose rows end with `padding` bytes of rubbish."""
    ordered = values.astype(values.dtype.newbyteorder(">" if big else "<"))
    rows = [row.tobytes() + b"\xab" * padding for row in ordered]
    height = values.shape[0]
    width = values.shape[1] if width is None else width
    return Picture(1.0, height, width, encoding, big, len(rows[0]), b"".join(rows))


def observe(picture: Picture, share: float = 0.9, method: str = "area") -> np.ndarray:
    return depth_observation(picture, WHOLE, FIELD, share, method)[:, :, 0]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 5])
def test_metres_in_either_byte_order_with_padded_rows(big: bool, padding: int) -> None:
    depth = observe(wire(METRES, "32FC1", big=big, padding=padding))
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, METRES)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding", ["16UC1", "mono16"])
def test_millimetres_in_either_byte_order_with_padded_rows(
    big: bool, padding: int, encoding: str
) -> None:
    millimetres = np.array([[500, 1000, 1500], [2000, 2500, 3000]], np.uint16)
    depth = observe(wire(millimetres, encoding, big=big, padding=padding))
    np.testing.assert_allclose(depth, METRES, rtol=1e-6)


def test_what_was_not_read_becomes_the_contracts_invalid_value_and_infinity_its_ends() -> None:
    metres = np.array([[NAN, INF, -INF], [0.0, 0.05, 42.0]], np.float32)
    depth = observe(wire(metres, "32FC1"))
    np.testing.assert_array_equal(depth, np.array([[10, 10, 0.1], [10, 0.1, 10]], np.float32))
    field = FIELD._replace(invalid_m=0.1)
    depth = depth_observation(wire(metres, "32FC1"), WHOLE, field, 0.9, "area")[:, :, 0]
    np.testing.assert_array_equal(depth, np.array([[0.1, 10, 0.1], [0.1, 0.1, 10]], np.float32))


def test_zero_millimetres_is_no_reading() -> None:
    depth = observe(wire(np.array([[0, 1000, 0], [1000, 1000, 65535]], np.uint16), "16UC1"))
    np.testing.assert_array_equal(depth, np.array([[10, 1, 10], [1, 1, 10]], np.float32))


def test_more_missing_readings_than_allowed_are_a_fault() -> None:
    metres = METRES.copy()
    metres[0] = NAN
    assert np.isfinite(observe(wire(metres, "32FC1"), share=0.5)).all()
    metres[1, 0] = NAN
    with pytest.raises(Fault, match=r"bad_depth: 67% .* at most 50%"):
        observe(wire(metres, "32FC1"), share=0.5)


@pytest.mark.parametrize("encoding", ["8UC1", "rgb8", "", "64FC1"])
def test_other_encodings_are_a_fault_that_lists_the_allowed(encoding: str) -> None:
    with pytest.raises(Fault, match="32FC1"):
        decode_depth(wire(METRES, encoding))


def test_a_message_whose_length_does_not_fit_is_a_fault() -> None:
    good = wire(METRES, "32FC1")
    for bad in (
        good._replace(data=good.data[:-1]),
        good._replace(data=good.data + b"\0"),
        good._replace(row_bytes=8),
        good._replace(width=4),
        good._replace(height=0, data=b""),
    ):
        with pytest.raises(Fault, match="bad_depth"):
            decode_depth(bad)


def test_a_picture_of_another_size_than_its_camera_info_is_a_fault() -> None:
    with pytest.raises(Fault, match=r"3 x 2 pixels, its CameraInfo says 6 x 4"):
        depth_observation(wire(METRES, "32FC1"), Window(4, 6, 0, 4, 0, 6), FIELD, 0.9, "area")


def test_the_policy_sees_only_its_window() -> None:
    metres = np.arange(1, 21, dtype=np.float32).reshape(4, 5) / 4
    depth = depth_observation(
        wire(metres, "32FC1"), Window(4, 5, 1, 3, 2, 5), FIELD, 0.9, "nearest"
    )
    np.testing.assert_array_equal(depth[:, :, 0], metres[1:3, 2:5])


def test_area_is_the_mean_of_what_was_read_and_nearest_the_middle_of_the_cell() -> None:
    metres = np.array([[1.0, 3.0, NAN, NAN], [NAN, 5.0, NAN, NAN]], np.float32)
    np.testing.assert_array_equal(resize_depth(metres, (1, 2), "area"), [[3.0, NAN]])
    np.testing.assert_array_equal(resize_depth(metres, (1, 2), "nearest"), [[5.0, NAN]])


def test_area_does_not_let_one_infinite_reading_hide_the_invalid_ones() -> None:
    metres = np.array([[1.0, INF]], np.float32)
    assert resize_depth(metres, (1, 1), "area")[0, 0] > 1e5  # clipped to the far end later


@pytest.mark.parametrize(
    ("shape", "size"), [((480, 640), (64, 64)), ((7, 5), (3, 2)), ((4, 4), (4, 4))]
)
@pytest.mark.parametrize("method", ["area", "nearest"])
def test_resizing_keeps_a_plane_and_the_order_of_left_and_right(
    shape: tuple[int, int], size: tuple[int, int], method: str
) -> None:
    plane = np.full(shape, 2.5, np.float32)
    np.testing.assert_array_equal(resize_depth(plane, size, method), np.full(size, 2.5))
    ramp = np.broadcast_to(np.arange(shape[1], dtype=np.float32) + 1, shape)
    small = resize_depth(ramp, size, method)
    assert small.shape == size
    assert (np.diff(small, axis=1) > 0).all()


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="nearest"):
        resize_depth(METRES, (1, 1), "cubic")


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8"])
@pytest.mark.parametrize("padding", [0, 2])
def test_colours_come_out_red_green_blue(encoding: str, padding: int) -> None:
    red_first = encoding.startswith("rgb")
    pixel = [200, 100, 50] if red_first else [50, 100, 200]
    pixel += [7] if encoding.endswith("a8") else []
    rows = np.tile(np.array(pixel, np.uint8), (2, 3))
    picture = wire(rows, encoding, padding=padding, width=3)
    seen = colour_observation(picture, WHOLE, RGB)
    assert seen.dtype == np.uint8
    np.testing.assert_array_equal(seen, np.tile(np.array([200, 100, 50]), (2, 3, 1)))


def test_colours_are_averaged_over_cells() -> None:
    rows = np.array([[0, 0, 0, 100, 50, 201]], np.uint8)
    picture = wire(rows, "rgb8", width=2)
    field = RGB._replace(height=1, width=1)
    seen = colour_observation(picture, Window(1, 2, 0, 1, 0, 2), field)
    assert seen.tolist() == [[[50, 25, 100]]]


def test_other_colour_encodings_are_a_fault() -> None:
    with pytest.raises(Fault, match="bad_rgb"):
        colour_observation(wire(METRES, "mono8"), WHOLE, RGB)


# The policy: 64 x 64 pixels of 90 degrees, so a focal length of 32 of its pixels.
SQUARE = CameraField("depth", 64, 64, 90.0, 0.88, 0.0, 0.1, 10.0, 10.0)


def camera(height: int, width: int, focal: float, **changes: object) -> Intrinsics:
    whole = Intrinsics(height, width, focal, focal, width / 2, height / 2, False)
    return whole._replace(**changes)  # type: ignore[arg-type]


def test_a_camera_of_the_policys_view_is_taken_whole() -> None:
    assert fit_camera(camera(480, 480, 240.0), SQUARE, 2.0, False) == Window(
        480, 480, 0, 480, 0, 480
    )


def test_a_slightly_narrower_camera_is_within_the_tolerance() -> None:
    # 2 atan(240 / 247) = 88.36 degrees.
    assert fit_camera(camera(480, 480, 247.0), SQUARE, 2.0, False).right == 480
    with pytest.raises(CameraMismatch, match=r"horizontal field of view is 88\.4"):
        fit_camera(camera(480, 480, 247.0), SQUARE, 1.0, False)


def test_a_wider_camera_is_refused_or_cut_down_about_its_axis() -> None:
    wide = camera(600, 640, 240.0, cx=330.0, cy=297.0)
    with pytest.raises(CameraMismatch, match="allow_crop"):
        fit_camera(wide, SQUARE, 2.0, False)
    # 2 * 240 * tan(45) = 480 pixels about (330, 297).
    assert fit_camera(wide, SQUARE, 2.0, True) == Window(600, 640, 57, 537, 90, 570)


def test_a_camera_too_narrow_upward_is_refused_even_with_crop() -> None:
    with pytest.raises(CameraMismatch, match="vertical field of view is 73"):
        fit_camera(camera(360, 640, 240.0), SQUARE, 2.0, True)


def test_pixels_that_are_not_square_are_measured_each_way() -> None:
    info = camera(480, 640, 320.0)._replace(fy=240.0)
    assert fit_camera(info, SQUARE, 0.1, False) == Window(480, 640, 0, 480, 0, 640)


def test_fewer_pixels_than_the_policys_are_refused() -> None:
    with pytest.raises(CameraMismatch, match="higher resolution"):
        fit_camera(camera(48, 48, 24.0), SQUARE, 2.0, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"fx": 0.0},
        {"fy": math.nan},
        {"is_partial": True},
        {"cx": 300.0},
        {"cy": 10.0},
        {"width": 0},
    ],
)
def test_camera_info_that_cannot_be_trusted_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(CameraMismatch, match="depth"):
        fit_camera(camera(480, 480, 240.0)._replace(**changes), SQUARE, 2.0, True)  # type: ignore[arg-type]
