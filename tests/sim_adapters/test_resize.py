from __future__ import annotations

import numpy as np
import pytest

from sim_adapters.resize import AreaResize


def exact_area_means(image: np.ndarray, size: int) -> np.ndarray:
    """Area means in whole numbers: cut every pixel so small that areas hold whole pieces."""
    total = image.astype(np.int64)
    for axis in (0, 1):
        old = total.shape[axis]
        pieces = np.moveaxis(total.repeat(size, axis), axis, 0)
        sums = pieces.reshape(size, old, *pieces.shape[1:]).sum(1)
        total = np.moveaxis(sums, 0, axis)
    means: np.ndarray = total / (image.shape[0] * image.shape[1])
    return means


def assert_rounded(image: np.ndarray, exact: np.ndarray) -> None:
    """Rounded to the nearest; a mean that ends in one half may go either way (float32)."""
    assert image.dtype == np.uint8
    assert np.abs(image - exact).max() <= 0.5 + 1e-4


@pytest.mark.parametrize(
    ("shape", "size"),
    [((210, 160, 1), 64), ((210, 160, 3), 64), ((250, 160, 1), 80), ((64, 96, 3), 64)],
)
def test_a_pixel_is_the_exact_mean_of_its_area(shape: tuple[int, int, int], size: int) -> None:
    image = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    resized = AreaResize(shape, size)(image)
    assert resized.shape == (size, size, shape[2])
    assert_rounded(resized, exact_area_means(image, size))


def test_pixels_on_a_border_count_by_their_share() -> None:
    row = np.array([0.0, 3.0, 9.0], np.float32)
    image = np.broadcast_to(row[None, :, None], (3, 3, 1))
    resized = AreaResize((3, 3, 1), 2)(image)
    assert resized.dtype == np.float32
    # (2 * 0 + 3) / 3 and (3 + 2 * 9) / 3
    assert resized[..., 0] == pytest.approx(np.array([[1.0, 7.0], [1.0, 7.0]]), abs=1e-5)


def test_larger_pictures_are_blocks() -> None:
    image = np.arange(4, dtype=np.uint8).reshape(2, 2, 1)
    resized = AreaResize((2, 2, 1), 4)(image)
    assert np.array_equal(resized, image.repeat(2, 0).repeat(2, 1))


def test_white_stays_white_and_black_black() -> None:
    for value in (0, 255):
        image = np.full((210, 160, 1), value, np.uint8)
        assert np.all(AreaResize((210, 160, 1), 64)(image) == value)
