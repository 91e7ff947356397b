"""An interactive scene made of a tiny room: walls with furniture, and a floor, in iGibson's scene description."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

_SCENE = """<?xml version="1.0"?>
<robot name="igibson_scene">
  <link name="world"/>
  <link name="walls" category="walls" model="{name}"/>
  <joint name="j_walls" type="fixed">
    <origin rpy="0 0 0" xyz="0 0 0"/><parent link="world"/><child link="walls"/>
  </joint>
  <link name="floors" category="floors" model="{name}"/>
  <joint name="j_floors" type="fixed">
    <origin rpy="0 0 0" xyz="0 0 0"/><parent link="world"/><child link="floors"/>
  </joint>
</robot>
"""
_PART = """<?xml version="1.0"?>
<robot name="{part}">
  <link name="base_link">
    <inertial><mass value="1"/><inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial>
    <visual><geometry><mesh filename="shape/visual/{part}.obj"/></geometry></visual>
    <collision concave="yes"><geometry><mesh filename="shape/visual/{part}.obj"/></geometry></collision>
  </link>
</robot>
"""


def write_interactive(data: Path, source: str, name: str) -> None:
    """Write the static scene `source` of `data` as the interactive scene `name`."""
    static = data / "g_dataset" / source
    dataset = data / "ig_dataset"
    scene = dataset / "scenes" / name
    for folder in ("urdf", "layout", "shape/visual"):
        (scene / folder).mkdir(parents=True, exist_ok=True)
    (dataset / "metadata").mkdir(exist_ok=True)
    (dataset / "metadata" / "categories.txt").write_text("walls\nfloors\nceilings\nagent\n")
    (dataset / "VERSION").write_text("2.2.0")
    (scene / "urdf" / f"{name}_best.urdf").write_text(_SCENE.format(name=name))
    for part in ("walls", "floors"):
        (scene / "urdf" / f"{name}_{part}.urdf").write_text(_PART.format(part=part))
        is_floor = part == "floors"
        lines = _objects(static / "mesh_z_up.obj", functools.partial(_belongs, is_floor=is_floor))
        (scene / "shape" / "visual" / f"{part}.obj").write_text("\n".join(lines) + "\n")
    for path in [*static.glob("*.png"), static / "mesh_z_up.mtl"]:
        shutil.copy(path, scene / "shape" / "visual" / path.name)
    with Image.open(static / "floor_trav_0.png") as picture:
        for kind in ("floor_trav_0", "floor_trav_no_obj_0"):
            picture.save(scene / "layout" / f"{kind}.png")
        rooms = Image.fromarray(np.ones(picture.size, np.uint8))
    for kind in ("floor_insseg_0", "floor_semseg_0"):
        rooms.save(scene / "layout" / f"{kind}.png")
    _write_materials(scene, dataset)


def _belongs(name: str, is_floor: bool) -> bool:
    return (name == "floor") == is_floor


def _write_materials(scene: Path, dataset: Path) -> None:
    """Two classes of materials that walls and floor may take on, each with two pictures of plain colour."""
    folder = dataset / "materials"
    folder.mkdir(exist_ok=True)
    materials: dict[str, dict[str, dict[str, str | None]]] = {"wood": {}, "bricks": {}}
    colours = {"wood_0": (200, 30, 30), "wood_1": (30, 200, 30), "bricks_0": (30, 30, 200)}
    for name, colour in {**colours, "bricks_1": (200, 200, 30)}.items():
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
        kinds = {"metallic": None, "roughness": None, "normal": None}
        materials[name.partition("_")[0]][name] = {"diffuse": f"{name}.png", **kinds}
    (folder / "materials.json").write_text(json.dumps(materials))
    friction = {name: 0.5 for name in materials}
    (folder / "material_friction.json").write_text(json.dumps(friction))
    (scene / "misc").mkdir(exist_ok=True)
    for part in ("walls", "floors"):
        groups = [{"0": list(materials)}, {f"{part}.obj": 0}]
        (scene / "misc" / f"{part}_material_groups.json").write_text(json.dumps(groups))


def _objects(mesh: Path, wanted: Callable[[str], bool]) -> list[str]:
    """The lines of the wanted objects of an OBJ file; vertices of the others stay, unused."""
    kept, inside = [], True
    for line in mesh.read_text().splitlines():
        if line.startswith("o "):
            inside = wanted(line[2:])
        if inside or line.startswith(("v ", "vt ", "vn ")):
            kept.append(line)
    return kept
