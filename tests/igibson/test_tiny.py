"""The files of the tiny scene and its robot."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from PIL import Image

from sim_adapters.bullet.layout import build_layout
from sim_adapters.igibson import tinybot

ROOT = Path(__file__).parents[2]


def test_the_map_is_white_where_the_floor_is_free(data: Path) -> None:
    layout = build_layout("room-train-00000")
    with Image.open(data / "g_dataset" / "tiny_train_0" / "floor_trav_0.png") as picture:
        assert picture.mode == "L"
        free = np.array(picture) == 255
    assert free.shape[0] == free.shape[1]
    assert free.shape[0] % 20 == 0  # an even number of iGibson's cells of 10 cm
    centre = np.add(layout.bounds[:2], layout.bounds[2:]) / 2
    rng = np.random.default_rng(0)
    low, high = np.array(layout.bounds[:2]) - 0.1, np.array(layout.bounds[2:]) + 0.1
    for x, y in rng.uniform(low, high, (2000, 2)):
        gaps = [
            max(r[0] - x, x - r[2], r[1] - y, y - r[3]) for r in [*layout.obstacles, layout.bounds]
        ]
        if min(abs(gap) for gap in gaps) < 0.02:  # the edge of a pixel
            continue
        inside = gaps[-1] < 0 and min(gaps[:-1]) > 0
        column, row = (np.array([x, y]) - centre) / 0.01 + free.shape[0] / 2
        assert free[int(row), int(column)] == inside, (x, y)


def test_the_mesh_is_the_room_in_the_middle_of_the_map(data: Path) -> None:
    layout = build_layout("room-train-00000")
    scene = data / "g_dataset" / "tiny_train_0"
    lines = (scene / "mesh_z_up.obj").read_text().splitlines()
    vertices = np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)
    half = 0.5 * (np.array(layout.bounds[2:]) - layout.bounds[:2]) + 0.12
    np.testing.assert_allclose(vertices[:, :2].max(axis=0), half, atol=1e-4)
    np.testing.assert_allclose(vertices[:, :2].min(axis=0), -half, atol=1e-4)
    materials = {line.split()[1] for line in lines if line.startswith("usemtl")}
    assert materials == {box.material for box in layout.boxes}
    assert len(materials) == sum(line.startswith("o ") for line in lines)
    for name in materials:
        assert (scene / f"{name}.png").stat().st_size > 0


def test_faces_look_outwards(data: Path) -> None:
    for path in (data / "assets" / "models" / "tinybot").glob("*.obj"):
        rows = [line.split() for line in path.read_text().splitlines()]
        assert sum(row[0] == "o" for row in rows) == 1
        points = np.array([row[1:] for row in rows if row[0] == "v"], float)
        normals = np.array([row[1:] for row in rows if row[0] == "vn"], float)
        for row in rows:
            if row[0] == "f":
                corners = [int(word.partition("/")[0]) - 1 for word in row[1:]]
                a, b, c = points[corners]
                assert np.dot(np.cross(b - a, c - a), normals[corners].mean(axis=0)) > 0


def test_the_robot_has_what_igibson_looks_for(data: Path) -> None:
    path = data / "assets" / "models" / "tinybot" / "tinybot.urdf"
    robot = ElementTree.parse(path).getroot()
    joints = robot.findall("joint")
    links = [joint.find("child").attrib["link"] for joint in joints]  # type: ignore[union-attr]
    assert links == ["caster_front", "caster_rear", "wheel_left", "wheel_right", "eyes"]
    assert tuple(range(4)) == tinybot.GROUND_LINKS
    limits = [joint.find("limit") for joint in joints if joint.attrib["type"] == "continuous"]
    assert [limit.attrib["velocity"] for limit in limits] == ["10.0", "10.0"]  # type: ignore[union-attr]
    for mesh in robot.iter("mesh"):
        assert (path.parent / mesh.attrib["filename"]).is_file()


def test_the_command_writes_scenes_and_says_how_many(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sim_adapters.igibson.tiny"]
    done = subprocess.run(
        [*command, str(tmp_path / "out"), "--train", "1", "--val", "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "1 training and 0 held-out scenes in" in done.stdout
    assert [p.name for p in (tmp_path / "out" / "g_dataset").iterdir()] == ["tiny_train_0"]
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [*command, str(tmp_path / "file")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "cannot be written: Not a directory" in done.stderr.splitlines()[-1]


def test_no_scene_is_in_both_splits(data: Path) -> None:
    meshes = [(p / "mesh_z_up.obj").read_bytes() for p in (data / "g_dataset").iterdir()]
    assert len(meshes) == 3
    assert len(set(meshes)) == 3
