"""Procedural materials: small tiling pictures, and the colours a scene paints them with.

The pictures are drawn once from a fixed seed and loaded once per simulator; a scene chooses, by
its own seed, which picture and which tint each of its materials gets.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np

SIZE = 64
"""Pixels a side; one picture covers `TILE_M` metres of a surface."""
TILE_M = 1.0

Colour = Tuple[float, float, float]


@dataclass(frozen=True)
class Paint:
    """What a material looks like in one scene: the name of a picture and a tint in [0, 1]."""

    picture: str
    tint: Colour


def _noise(rng: np.random.Generator, cells: int, amount: float) -> np.ndarray:
    """Smooth tiling noise around 1: (SIZE, SIZE)."""
    coarse = rng.uniform(-1.0, 1.0, (cells, cells))
    at = np.arange(SIZE) * cells / SIZE
    low = at.astype(int)
    part = (at - low)[:, None]
    rows = coarse[low % cells] * (1 - part) + coarse[(low + 1) % cells] * part
    both = rows[:, low % cells] * (1 - part.T) + rows[:, (low + 1) % cells] * part.T
    return 1.0 + amount * both


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(values, 0.0, 1.0)[:, :, None], 3, axis=2)


def _grid_lines(values: np.ndarray, every_x: int, every_y: int, dark: float) -> np.ndarray:
    values = values.copy()
    if every_x:
        values[:, ::every_x] *= dark
    if every_y:
        values[::every_y, :] *= dark
    return values


def _planks(rng: np.random.Generator) -> np.ndarray:
    boards = np.repeat(rng.uniform(0.7, 1.0, 8), SIZE // 8)[:, None]
    grain = _noise(rng, 32, 0.08).mean(axis=0, keepdims=True)
    values = _grid_lines(boards * grain * _noise(rng, 8, 0.06), 0, SIZE // 8, 0.6)
    for k in range(8):
        values[k * SIZE // 8 : (k + 1) * SIZE // 8, (k * 23) % SIZE] *= 0.6
    return _grey(values)


def _bricks(rng: np.random.Generator) -> np.ndarray:
    values = 0.85 * _noise(rng, 16, 0.12)
    height = SIZE // 8
    for k in range(8):
        row = slice(k * height, (k + 1) * height)
        shift = (k % 2) * SIZE // 8
        for j in range(4):
            columns = (np.arange(SIZE // 4) + j * SIZE // 4 + shift) % SIZE
            values[row, columns] *= rng.uniform(0.75, 1.1)
            values[row, columns[0]] = 0.98
        values[k * height] = 0.98
    return _grey(values)


def _checker(rng: np.random.Generator) -> np.ndarray:
    i, j = np.indices((SIZE, SIZE)) // (SIZE // 4)
    values = np.where((i + j) % 2, 0.95, 0.62) * _noise(rng, 16, 0.05)
    return _grey(values)


def _stripes(rng: np.random.Generator) -> np.ndarray:
    wide = rng.uniform(0.7, 1.0, 8)
    wide[::2] = 0.95
    return _grey(np.repeat(wide, SIZE // 8)[None, :] * _noise(rng, 16, 0.04))


def _books(rng: np.random.Generator) -> np.ndarray:
    picture = np.zeros((SIZE, SIZE, 3))
    column = 0
    while column < SIZE:
        wide = int(rng.integers(2, 6))
        picture[:, column : column + wide] = rng.uniform(0.15, 0.95, 3)
        picture[:, min(column + wide, SIZE) - 1] *= 0.5
        column += wide
    return picture


def _leaves(rng: np.random.Generator) -> np.ndarray:
    values = _noise(rng, 16, 0.35) * _noise(rng, 32, 0.3) * 0.7
    return np.clip(values[:, :, None] * np.array([0.45, 0.95, 0.4]), 0, 1)


def _art(rng: np.random.Generator) -> np.ndarray:
    """A painting: blocks and discs of strong colours."""
    picture = np.ones((SIZE, SIZE, 3)) * rng.uniform(0.2, 1.0, 3)
    i, j = np.indices((SIZE, SIZE))
    for _ in range(7):
        colour = rng.uniform(0.0, 1.0, 3)
        a, b = rng.integers(0, SIZE, 2)
        size = int(rng.integers(6, SIZE // 3))
        if rng.random() < 0.5:
            picture[(i - a) ** 2 + (j - b) ** 2 < size**2] = colour
        else:
            picture[a : a + size, b : b + 2 * size] = colour
    return picture


def _sky(rng: np.random.Generator) -> np.ndarray:
    """The view from a window: sky over a horizon of trees, with the bars of the frame."""
    rows = np.linspace(1.0, 0.0, SIZE)[:, None, None]
    picture = rows * np.array([0.75, 0.88, 1.0]) + (1 - rows) * np.array([0.95, 0.97, 1.0])
    picture = np.repeat(picture, SIZE, axis=1)
    horizon = (SIZE * 0.7 + 4 * (_noise(rng, 8, 1.0)[0] - 1)).astype(int)
    for k in range(SIZE):
        picture[horizon[k] :, k] = (0.3, 0.5, 0.25)
    for k in (0, SIZE // 2, SIZE - 1):
        picture[k] = picture[:, k] = 0.9
    return picture


def pictures(seed: int = 0) -> Dict[str, np.ndarray]:
    """All pictures by name: uint8 (SIZE, SIZE, 3)."""
    rng = np.random.default_rng(seed)
    drawn = {
        "plain": _grey(0.95 * _noise(rng, 8, 0.03)),
        "plaster": _grey(0.92 * _noise(rng, 16, 0.05) * _noise(rng, 32, 0.05)),
        "planks": _planks(rng),
        "tiles": _grey(_grid_lines(0.9 * _noise(rng, 8, 0.06), SIZE // 4, SIZE // 4, 0.6)),
        "big_tiles": _grey(_grid_lines(0.9 * _noise(rng, 8, 0.08), SIZE // 2, SIZE // 2, 0.55)),
        "checker": _checker(rng),
        "bricks": _bricks(rng),
        "stripes": _stripes(rng),
        "carpet": _grey(0.8 * _noise(rng, 64, 0.25)),
        "wood": _grey(0.85 * _noise(rng, 32, 0.1).mean(axis=0)[None, :] * _noise(rng, 4, 0.12)),
        "fabric": _grey(_grid_lines(0.9 * _noise(rng, 32, 0.12), 4, 4, 0.9)),
        "books": _books(rng),
        "leaves": _leaves(rng),
        "sky": _sky(rng),
    }
    for k in range(8):
        drawn[f"art{k}"] = _art(rng)
    return {name: (255 * np.clip(p, 0, 1)).astype(np.uint8) for name, p in drawn.items()}


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write uint8 (H, W, 3) as a PNG file."""
    height, width, _ = picture.shape
    rows = np.hstack([np.zeros((height, 1), np.uint8), picture.reshape(height, width * 3)])

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 6)
    signature = b"\x89PNG\r\n\x1a\n"
    path.write_bytes(
        signature + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def _pick(rng: np.random.Generator, options: List[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _colour(
    rng: np.random.Generator, saturation: Tuple[float, float], value: Tuple[float, float]
) -> Colour:
    """A random hue with the given ranges of saturation and brightness."""
    hue, s, v = rng.uniform(0, 6), rng.uniform(*saturation), rng.uniform(*value)
    channels = [
        v * (1 - s * max(0.0, min(1.0, abs((hue - k) % 6 - 3) * -1 + 2))) for k in (3, 5, 1)
    ]
    return float(channels[0]), float(channels[1]), float(channels[2])


def _wooden(rng: np.random.Generator) -> Colour:
    dark = float(rng.uniform(0.45, 1.0))
    warm = float(rng.uniform(0.6, 0.85))
    return dark, dark * warm, dark * warm * float(rng.uniform(0.55, 0.8))


def palette(rng: np.random.Generator, wall_kinds: int = 1) -> Dict[str, Paint]:
    """Paint for every material of a scene; walls come as wall0, wall1, ... up to `wall_kinds`."""
    floor = _pick(rng, ["planks", "planks", "tiles", "big_tiles", "checker", "carpet"])
    wood, fabric = _wooden(rng), _colour(rng, (0.3, 0.9), (0.45, 0.95))
    floor_tint = _wooden(rng) if floor == "planks" else _colour(rng, (0, 0.35), (0.5, 0.95))
    partition = _pick(rng, ["plaster", "bricks", "planks"])
    paints = {
        "floor": Paint(floor, floor_tint),
        "ceiling": Paint("plain", (1.0, 1.0, 0.98)),
        "partition": Paint(partition, _colour(rng, (0.05, 0.5), (0.6, 1.0))),
        **_furniture_paints(rng, wood, fabric),
        "door": Paint("wood", _colour(rng, (0.0, 0.4), (0.6, 1.0))),
        "window": Paint("sky", (1.0, 1.0, 1.0)),
    }
    for k in range(wall_kinds):
        kind = _pick(rng, ["plaster", "plaster", "plain", "stripes", "bricks"])
        paints[f"wall{k}"] = Paint(kind, _colour(rng, (0.05, 0.45), (0.7, 1.0)))
    for k in range(3):
        paints[f"art{k}"] = Paint(f"art{int(rng.integers(8))}", (1.0, 1.0, 1.0))
    return paints


def _furniture_paints(rng: np.random.Generator, wood: Colour, fabric: Colour) -> Dict[str, Paint]:
    return {
        "wood": Paint("wood", wood),
        "wood_dark": Paint("wood", _darker(wood, 0.6)),
        "panel": Paint("wood", _colour(rng, (0.0, 0.5), (0.5, 1.0))),
        "fabric": Paint("fabric", fabric),
        "fabric_dark": Paint("fabric", _darker(fabric, 0.65)),
        "linen": Paint("plain", (0.97, 0.97, 0.95)),
        "books": Paint("books", (1.0, 1.0, 1.0)),
        "leaves": Paint("leaves", (0.9, 1.0, 0.9)),
        "pot": Paint("plain", _colour(rng, (0.2, 0.8), (0.4, 0.9))),
        "metal": Paint("plain", (0.55, 0.56, 0.6)),
        "screen": Paint("plain", (0.06, 0.06, 0.09)),
        "stone": Paint("carpet", _colour(rng, (0, 0.2), (0.6, 0.95))),
    }


def _darker(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor
