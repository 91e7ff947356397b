"""Scenes in the Gibson layout, with a house of two rooms that the test builds itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pybullet")
pytest.importorskip("scipy")

from sim_adapters.bullet.env import BulletPointGoalEnv
from sim_adapters.bullet.gibson import gibson_folder, merge_cells, read_floors
from sim_adapters.bullet.scene import AGENT_RADIUS_M
from sim_adapters.bullet.simulator import BulletSimulator
from sim_adapters.bullet.topdown import TopDownMap

# x, y, z ranges of blocks: a house of 6 x 4 m whose wall at x = 3 has a door at y in [3, 4].
STOREY = [
    ((0, 6), (0, 4), (-0.1, 0.0)),  # floor
    ((-0.1, 0), (0, 4), (0, 2.5)),
    ((6, 6.1), (0, 4), (0, 2.5)),
    ((0, 6), (-0.1, 0), (0, 2.5)),
    ((0, 6), (4, 4.1), (0, 2.5)),
    ((2.95, 3.05), (0, 3), (0, 2.5)),
    ((1, 1.6), (1, 1.6), (0, 0.5)),  # a chest, which stops the robot
    ((4, 5), (1, 2), (0, 0.04)),  # a rug, which does not
    ((4.5, 5.5), (3, 3.4), (1.6, 2.0)),  # a cupboard above the robot's head
]


def _write_house(folder: Path, heights: tuple[float, ...] = (0.0,)) -> Path:
    folder.mkdir(parents=True)
    vertices: list[tuple[float, float, float]] = []
    faces: list[tuple[int, int, int]] = []
    for height in heights:
        for (x0, x1), (y0, y1), (z0, z1) in STOREY:
            base = len(vertices) + 1
            for z in (z0 + height, z1 + height):
                vertices += [(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)]
            quads = [
                (3, 2, 1, 0),
                (4, 5, 6, 7),
                (0, 1, 5, 4),
                (1, 2, 6, 5),
                (2, 3, 7, 6),
                (3, 0, 4, 7),
            ]
            for a, b, c, d in quads:
                faces += [(base + a, base + b, base + c), (base + a, base + c, base + d)]
    lines = ["v {} {} {}".format(*v) for v in vertices] + ["f {} {} {}".format(*f) for f in faces]
    (folder / "mesh_z_up.obj").write_text("\n".join(lines) + "\n")
    (folder / "floors.txt").write_text("".join(f"{h}\n" for h in heights))
    return folder


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gibson")
    _write_house(root / "House")
    _write_house(root / "Tower", (0.0, 3.0))
    return root


@pytest.fixture(scope="module")
def house(scenes: Path) -> BulletSimulator:
    sim = BulletSimulator(sensors=("depth", "rgb"), scenes_dir=str(scenes))
    sim.load_scene("House")
    return sim


def test_the_robot_fits_where_the_mesh_leaves_room(house: BulletSimulator) -> None:
    grid = house.scene.floors[0].grid
    for point, free in {
        (2.0, 2.0): True,
        (3.0, 3.5): True,  # the doorway
        (3.0, 1.5): False,  # the wall
        (1.3, 1.3): False,  # the chest
        (4.5, 1.5): True,  # the rug
        (5.0, 3.2): True,  # under the cupboard
        (0.05, 2.0): False,  # too near the wall
    }.items():
        assert grid.free[grid.index(point)] == free, point
    assert grid.main_fraction == 1.0


def test_geodesic_distance_leads_through_the_door(house: BulletSimulator) -> None:
    house.set_goal((4.5, 1.0, 0.0))
    corner = 3.0 + AGENT_RADIUS_M
    left = math.hypot(2.0 - (2.95 - 0.02), 1.0 - corner)
    right = math.hypot(4.5 - (3.05 + 0.02), 1.0 - corner)
    assert house.distance_to_goal((2.0, 1.0, 0.0)) == pytest.approx(left + 0.14 + right, rel=0.04)


def test_moves_stop_at_the_mesh(house: BulletSimulator) -> None:
    house.set_goal((4.5, 1.0, 0.0))
    house.set_pose((2.0, 2.0, 0.0), 0.0)
    touched = [house.move(0.25, 0.0) for _ in range(5)]
    assert touched[-1]
    assert house.position[0] == pytest.approx(2.95 - AGENT_RADIUS_M, abs=0.06)
    assert math.isfinite(house.distance_to_goal(house.position))


def test_the_camera_sees_the_mesh(house: BulletSimulator) -> None:
    house.set_pose((4.0, 0.5, 0.0), 0.0)
    picture = house.observe()
    assert house.observation_space.contains(picture)
    # The wall at x = 6 is 2 m ahead.
    assert np.median(picture["depth"][30:34, 20:44]) == pytest.approx(2.0, abs=5e-3)
    house.set_pose((4.0, 0.5, 0.0), math.pi)
    assert np.median(house.observe()["depth"][30:34, 20:44]) == pytest.approx(0.95, abs=5e-3)


def test_floors_are_kept_apart(scenes: Path) -> None:
    sim = BulletSimulator(image_size=16, scenes_dir=str(scenes))
    sim.load_scene("Tower")
    assert [floor.height for floor in sim.scene.floors] == [0.0, 3.0]
    sim.set_pose((2.0, 2.5, 2.9), 0.0)
    assert sim.position == pytest.approx([2.0, 2.5, 3.0])
    sim.set_goal((4.5, 1.0, 3.0))
    assert math.isfinite(sim.distance_to_goal(sim.position))
    assert sim.distance_to_goal((2.0, 2.5, 0.0)) == math.inf
    assert sim.shortest_path((2.0, 2.5, 3.0))[:, 2] == pytest.approx(3.0)
    assert len(sim.shortest_path((2.0, 2.5, 0.0))) == 0
    sim.close()


def test_the_environment_runs_in_a_mesh(scenes: Path) -> None:
    env = BulletPointGoalEnv(scene="House", scenes_dir=str(scenes), image_size=32)
    for seed in range(2):
        _, info = env.reset(seed=seed)
        assert info["scene_id"] == "House"
        rng = np.random.default_rng(seed)
        for _ in range(30):
            observation, reward, *_ = env.step(int(rng.integers(1, 4)))
            assert math.isfinite(reward)
            assert env.observation_space.contains(observation)
    env.close()


def test_scenes_are_found_by_name_by_path_and_as_habitat_names_them(scenes: Path) -> None:
    folder = scenes / "House"
    for name in ("House", "gibson/House.glb", str(folder), str(folder / "mesh_z_up.obj")):
        assert gibson_folder(name, str(scenes)) == folder


def test_missing_scenes_and_files_are_named(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Castle"):
        gibson_folder("Castle", str(scenes))
    with pytest.raises(FileNotFoundError, match="scenes_dir"):
        gibson_folder("House", "")
    (tmp_path / "Half").mkdir()
    with pytest.raises(FileNotFoundError, match=r"mesh_z_up\.obj"):
        gibson_folder("Half", str(tmp_path))
    floors = tmp_path / "floors.txt"
    for content in ("", "ground floor\n"):
        floors.write_text(content)
        with pytest.raises(ValueError, match=r"floors\.txt"):
            read_floors(floors)


def test_a_floor_height_where_there_is_no_floor_is_refused(scenes: Path, tmp_path: Path) -> None:
    folder = _write_house(tmp_path / "Wrong")
    (folder / "floors.txt").write_text("7.5\n")
    sim = BulletSimulator(image_size=16, scenes_dir=str(tmp_path))
    with pytest.raises(ValueError, match="fits nowhere"):
        sim.load_scene("Wrong")
    sim.close()


def test_merged_cells_cover_what_is_occupied_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    occupied = rng.random((20, 30)) < 0.4
    covered = np.zeros(occupied.shape, dtype=int)
    for x0, y0, x1, y1 in merge_cells(occupied, (0.0, 0.0), 1.0).astype(int):
        covered[x0:x1, y0:y1] += 1
    assert np.array_equal(covered, occupied.astype(int))
    assert merge_cells(np.zeros((3, 3), dtype=bool), (0.0, 0.0), 1.0).shape == (0, 4)


def test_the_map_of_a_mesh_shows_walls_and_the_way(house: BulletSimulator) -> None:
    house.set_goal((4.5, 1.0, 0.0))
    plan = TopDownMap(house.scene, 0.0, 300)
    wall, floor = plan.image[_pixel(plan, 3.0, 1.5)], plan.image[_pixel(plan, 2.0, 2.0)]
    assert wall.mean() < 120 < floor.mean()
    drawn = plan.draw(
        start=(2.0, 1.0), goal=(4.5, 1.0), shortest=house.shortest_path((2.0, 1.0, 0.0))
    )
    assert (drawn != plan.image).any(axis=2).sum() > 200
    assert tuple(drawn[_pixel(plan, 4.5, 1.0)]) == (220, 30, 40)


def _pixel(plan: TopDownMap, x: float, y: float) -> tuple[int, int]:
    column, row = (np.array([x, y]) - plan.low) * plan.pixels_per_m
    return int(plan.image.shape[0] - row), int(column)


def test_the_map_of_a_room_is_a_picture_with_a_known_scale() -> None:
    sim = BulletSimulator(image_size=8)
    sim.load_scene("room-val-00001")
    image, low, scale = sim.top_down(200)
    assert image.dtype == np.uint8
    assert max(image.shape[:2]) == 200
    bounds = sim.scene.layout.bounds  # type: ignore[union-attr]
    assert np.array(image.shape[1::-1]) / scale == pytest.approx(
        [bounds[2] + 0.4, bounds[3] + 0.4], abs=0.1
    )
    assert low == pytest.approx([-0.2, -0.2])
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 5
    sim.close()
