"""Materials: pictures that tile, PNG files that others can read, and varied palettes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sim_adapters.bullet.furniture import AGAINST_WALL, FREE_STANDING
from sim_adapters.bullet.textures import SIZE, palette, pictures, write_png


def test_pictures_are_the_same_every_time_and_all_different() -> None:
    drawn = pictures()
    for name, picture in pictures().items():
        assert np.array_equal(picture, drawn[name])
        assert picture.shape == (SIZE, SIZE, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 1.0
    assert len({picture.tobytes() for picture in drawn.values()}) == len(drawn)


def test_smooth_pictures_tile_without_a_seam() -> None:
    for name in ("plain", "plaster", "leaves"):
        picture = pictures()[name].astype(float)
        inside = np.abs(np.diff(picture, axis=1)).mean(axis=(0, 2))
        seam = np.abs(picture[:, 0] - picture[:, -1]).mean()
        assert seam <= 1.5 * inside.max()


def test_a_written_png_reads_back_unchanged(tmp_path: Path) -> None:
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (20, 31, 3)).astype(np.uint8)
    write_png(tmp_path / "a.png", picture)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), picture)


def test_a_palette_paints_everything_and_differs_between_seeds() -> None:
    drawn = pictures()
    needed = {
        box.material
        for make in (*AGAINST_WALL.values(), *FREE_STANDING.values())
        for box in make(np.random.default_rng(0)).boxes
    } | {"floor", "ceiling", "partition", "wall0", "wall1", "door", "window", "art0"}
    colours = []
    for seed in range(8):
        paints = palette(np.random.default_rng(seed), wall_kinds=2)
        assert needed <= set(paints)
        for paint in paints.values():
            assert paint.picture in drawn
            assert all(0.0 <= channel <= 1.0 for channel in paint.tint)
        colours.append(paints["wall0"].tint)
    assert len(set(colours)) == 8
