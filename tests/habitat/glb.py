"""Writes a scene of habitat-sim: boxes as one binary glTF file."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

Box = tuple[tuple[float, float, float], tuple[float, float, float]]

_CORNERS = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
# Two triangles a side, counter-clockwise seen from outside, by the number of the corner.
_TRIANGLES = np.array(
    [
        (0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1),
        (2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3),
    ],
    np.uint32,
)  # fmt: skip


def write_glb(path: Path, boxes: list[Box]) -> None:
    """Write boxes, each two opposite corners (x, y, z) in metres with z up, with a grey of their own.

    habitat-sim reads a stage without a configuration as z up, and shows what faces the camera.
    """
    low = np.array([box[0] for box in boxes], np.float32)[:, None]
    high = np.array([box[1] for box in boxes], np.float32)[:, None]
    points = (low + _CORNERS * (high - low)).reshape(-1, 3)
    indices = (np.arange(len(boxes), dtype=np.uint32)[:, None, None] * 8 + _TRIANGLES).ravel()
    greys = np.repeat(np.linspace(0.3, 0.9, len(boxes), dtype=np.float32), 8)
    colours = np.stack([greys] * 3, axis=1)
    parts = [points.tobytes(), colours.tobytes(), indices.tobytes()]
    offsets = np.cumsum([0, *map(len, parts)]).tolist()
    views = [
        {"buffer": 0, "byteOffset": offsets[k], "byteLength": len(part), "target": target}
        for k, (part, target) in enumerate(zip(parts, (34962, 34962, 34963), strict=True))
    ]
    bounds = {"min": points.min(0).tolist(), "max": points.max(0).tolist()}
    floats = {"componentType": 5126, "type": "VEC3", "count": len(points)}
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "COLOR_0": 1}, "indices": 2}]}],
        "accessors": [
            {"bufferView": 0, **floats, **bounds},
            {"bufferView": 1, **floats},
            {"bufferView": 2, "componentType": 5125, "type": "SCALAR", "count": len(indices)},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": offsets[-1]}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = b"".join(parts)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(body), 0x004E4942) + body
    path.write_bytes(struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks)
