"""Writes furnished rooms and a robot of our own as iGibson reads them, so that it runs without a licensed download.

`python -m sim_adapters.igibson.tiny FOLDER` writes what iGibson calls assets (the robot Tinybot) and g_dataset (static
scenes in the Gibson layout: tiny_train_0, ..., tiny_val_0, ...). The rooms are those of `sim_adapters.bullet`.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from pathlib import Path
from typing import DefaultDict, List, Optional, Sequence, Tuple

import numpy as np

from sim_adapters.bullet.furniture import Box
from sim_adapters.bullet.layout import Layout, build_layout
from sim_adapters.bullet.stage import STRETCHED, box_mesh
from sim_adapters.bullet.textures import pictures, write_png
from sim_adapters.igibson.tinybot import write_robot

#: the release of the files' format, which iGibson checks
VERSION = "2.2.2"
#: metres that a pixel of a traversability map stands for
PIXEL_M = 0.01
#: free space around the outer walls in the map, metres
MARGIN_M = 0.5


def scene_name(split: str, number: int) -> str:
    """Name of a scene, such as "tiny_val_0"."""
    return f"tiny_{split}_{number}"


def write_scene(folder: Path, split: str, number: int) -> None:
    """Write room `number` of a split ("train" or "val") of the tier "room" into its folder of `folder`."""
    layout = build_layout(f"room-{split}-{number:05d}")
    scene = folder / scene_name(split, number)
    scene.mkdir(parents=True, exist_ok=True)
    low, high = np.array(layout.bounds[:2]), np.array(layout.bounds[2:])
    centre = 0.5 * (low + high)  # iGibson's maps are centred on the origin
    _write_mesh(scene, layout, centre)
    (scene / "floors.txt").write_text("0.0\n", encoding="utf-8")
    _write_map(scene / "floor_trav_0.png", layout, centre)


def _write_mesh(scene: Path, layout: Layout, centre: np.ndarray) -> None:
    """One object for each material: iGibson gives an object the material of its first face."""
    by_material: DefaultDict[str, List[Box]] = defaultdict(list)
    for box in layout.boxes:
        by_material[box.material].append(box)
    lines, materials, first = ["mtllib mesh_z_up.mtl"], [], 1
    for material, boxes in sorted(by_material.items()):
        vertices, normals, uvs, indices = box_mesh(boxes, material in STRETCHED)
        vertices = vertices - np.append(centre, 0.0)
        lines += [f"o {material}", f"usemtl {material}"]
        lines += ["v {:.5f} {:.5f} {:.5f}".format(*row) for row in vertices]
        lines += ["vt {:.5f} {:.5f}".format(*row) for row in uvs]
        lines += ["vn {:.0f} {:.0f} {:.0f}".format(*row) for row in normals]
        for triangle in indices.reshape(-1, 3) + first:
            lines.append("f " + " ".join(f"{i}/{i}/{i}" for i in triangle))
        first += len(vertices)
        paint = layout.paints[material]
        write_png(scene / f"{material}.png", _tinted(paint.picture, paint.tint))
        materials.append(f"newmtl {material}\nKd 1 1 1\nmap_Kd {material}.png\n")
    (scene / "mesh_z_up.obj").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (scene / "mesh_z_up.mtl").write_text("\n".join(materials), encoding="utf-8")


def _tinted(picture: str, tint: Sequence[float]) -> np.ndarray:
    return (pictures()[picture] * np.array(tint)).astype(np.uint8)


def _write_map(path: Path, layout: Layout, centre: np.ndarray) -> None:
    """The traversability map: a square, white where the floor is free; row is y, column x, origin in the middle."""
    from PIL import Image

    x0, y0, x1, y1 = layout.bounds
    side = round((max(x1 - x0, y1 - y0) + 2 * MARGIN_M) / PIXEL_M / 20) * 20
    free = np.zeros((side, side), np.uint8)

    def cells(rectangle: Sequence[float]) -> Tuple[slice, slice]:
        low = (np.array(rectangle[:2]) - centre) / PIXEL_M + side / 2
        high = (np.array(rectangle[2:]) - centre) / PIXEL_M + side / 2
        columns, rows = (
            slice(max(int(np.floor(a)), 0), max(int(np.ceil(b)), 0)) for a, b in zip(low, high)
        )
        return rows, columns

    free[cells(layout.bounds)] = 255
    for obstacle in layout.obstacles:
        free[cells(obstacle)] = 0
    Image.fromarray(free).save(path)


def write_data(folder: Path, train: int, val: int) -> None:
    """Write the robot, `train` training scenes and `val` scenes to be held out."""
    assets = folder / "assets"
    write_robot(assets)
    (assets / "VERSION").write_text(VERSION, encoding="utf-8")
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            write_scene(folder / "g_dataset", split, number)


def _count(word: str) -> int:
    number = int(word)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {word}")
    return number


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m sim_adapters.igibson.tiny",
        description="Write furnished rooms and a robot that iGibson can load.",
    )
    parser.add_argument("folder", type=Path, help="where to, such as data/igibson_tiny")
    parser.add_argument("--train", type=_count, default=1, help="training scenes (default: 1)")
    parser.add_argument("--val", type=_count, default=3, help="held-out scenes (default: 3)")
    options = parser.parse_args(arguments)
    try:
        write_data(options.folder, options.train, options.val)
    except OSError as error:
        parser.error(f"{options.folder} cannot be written: {os.strerror(error.errno or 0)}")
    print(f"{options.train} training and {options.val} held-out scenes in {options.folder}")


if __name__ == "__main__":
    main()
