"""The simulator: pictures against ray casts, motion, geodesics and no leak."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pybullet")
pytest.importorskip("scipy")

from sim_adapters.bullet.camera import HEIGHT_M
from sim_adapters.bullet.layout import Layout, build_layout
from sim_adapters.bullet.motion import clearance
from sim_adapters.bullet.scene import AGENT_RADIUS_M
from sim_adapters.bullet.sensor_noise import DepthNoise
from sim_adapters.bullet.simulator import BulletSimulator
from sim_adapters.bullet.stage import box_mesh

SCENE = "room-val-00003"


@pytest.fixture
def simulator() -> Iterator[BulletSimulator]:
    sim = BulletSimulator(sensors=("depth", "rgb"))
    sim.load_scene(SCENE)
    yield sim
    sim.close()


def _stand(sim: BulletSimulator, rng: np.random.Generator) -> np.ndarray:
    floor = sim.scene.floors[0]
    at = floor.grid.centre(floor.standing[int(rng.integers(len(floor.standing)))])
    sim.set_pose((float(at[0]), float(at[1]), 0.0), float(rng.uniform(-math.pi, math.pi)))
    return sim.position


def _ray_depth(layout: Layout, position: np.ndarray, heading: float, size: int) -> np.ndarray:
    """Depth (size, size) by casting a ray through the centre of every pixel."""
    import pybullet

    client = pybullet.connect(pybullet.DIRECT)
    for box in layout.boxes:
        low, high = np.array(box.low), np.array(box.high)
        shape = pybullet.createCollisionShape(
            pybullet.GEOM_BOX, halfExtents=((high - low) / 2).tolist(), physicsClientId=client
        )
        pybullet.createMultiBody(
            0.0, shape, basePosition=((high + low) / 2).tolist(), physicsClientId=client
        )
    slope = math.tan(math.radians(79.0) / 2) * ((np.arange(size) + 0.5) / size * 2 - 1)
    right, down = np.meshgrid(slope, slope)
    ahead = np.array([math.cos(heading), math.sin(heading), 0.0])
    to_right = np.array([math.sin(heading), -math.cos(heading), 0.0])
    rays = ahead + right[..., None] * to_right - down[..., None] * np.array([0.0, 0.0, 1.0])
    eye = position + np.array([0.0, 0.0, HEIGHT_M])
    ends = eye + 12.0 * rays.reshape(-1, 3)
    hits = pybullet.rayTestBatch([eye.tolist()] * len(ends), ends.tolist(), physicsClientId=client)
    pybullet.disconnect(physicsClientId=client)
    depth = np.array([12.0 * h[2] if h[0] >= 0 else 10.0 for h in hits])
    return np.clip(depth, 0.1, 10.0).reshape(size, size)


@pytest.mark.parametrize("sensors", [("depth",), ("depth", "rgb")])
def test_depth_agrees_with_ray_casts_to_a_millimetre(sensors: tuple[str, ...]) -> None:
    sim = BulletSimulator(sensors=sensors, image_size=48)
    rng = np.random.default_rng(0)
    for name in (SCENE, "apartment-val-00000"):
        sim.load_scene(name)
        _stand(sim, rng)
        seen = sim.observe()["depth"][:, :, 0]
        cast = _ray_depth(build_layout(name), sim.position, sim.heading, 48)
        error = np.abs(seen - cast)
        # On an edge, rounding decides which of two surfaces a pixel shows.
        assert np.mean(error < 1e-3) > 0.99
        assert seen.std() > 0.1
    sim.close()


def test_pictures_have_the_types_and_ranges_they_declare(simulator: BulletSimulator) -> None:
    rng = np.random.default_rng(0)
    for _ in range(3):
        _stand(simulator, rng)
        assert simulator.observation_space.contains(simulator.observe())
    small = BulletSimulator(sensors=["rgb"], image_size=(48, 96))
    small.load_scene(SCENE)
    _stand(small, rng)
    picture = small.observe()
    assert set(picture) == {"rgb"}
    assert picture["rgb"].shape == (48, 96, 3)
    assert len(np.unique(picture["rgb"].reshape(-1, 3), axis=0)) > 50
    small.close()


def test_a_mirrored_view_is_not_shifted(simulator: BulletSimulator) -> None:
    """Facing a wall squarely, left and right halves of the depth picture are alike."""
    bounds = build_layout(SCENE).bounds
    simulator.set_pose((bounds[2] - 0.5, (bounds[1] + bounds[3]) / 2, 0.0), 0.0)
    row = simulator.observe()["depth"][2, :, 0]  # the ceiling edge: nothing else up there
    assert row == pytest.approx(row[::-1], abs=2e-3)


def test_two_scenes_differ_in_colour_and_the_same_scene_comes_back(
    simulator: BulletSimulator,
) -> None:
    rng = np.random.default_rng(0)
    pose = _stand(simulator, rng), simulator.heading
    first = simulator.observe()
    simulator.load_scene("room-val-00004")
    _stand(simulator, rng)
    other = simulator.observe()
    simulator.load_scene(SCENE)
    simulator.set_pose(*pose)
    again = simulator.observe()
    assert np.array_equal(first["rgb"], again["rgb"])
    assert np.array_equal(first["depth"], again["depth"])
    mean = [picture["rgb"].mean(axis=(0, 1)) for picture in (first, other)]
    assert np.abs(mean[0] - mean[1]).max() > 10


def test_turning_left_four_times_by_a_right_angle_gives_the_same_view(
    simulator: BulletSimulator,
) -> None:
    _stand(simulator, np.random.default_rng(1))
    before, heading = simulator.observe(), simulator.heading
    views = []
    for _ in range(4):
        assert not simulator.move(0.0, math.pi / 2)
        views.append(simulator.observe())
    assert simulator.heading == pytest.approx(heading)
    assert np.abs(views[-1]["depth"] - before["depth"]).mean() < 1e-3
    assert np.abs(views[0]["depth"] - before["depth"]).mean() > 0.05


def test_driving_into_a_wall_stops_at_contact_and_depth_shows_the_wall(
    simulator: BulletSimulator,
) -> None:
    wall = build_layout(SCENE).bounds[2]
    rng = np.random.default_rng(0)
    for _ in range(50):  # a place with a free way to the wall at +x
        _stand(simulator, rng)
        simulator.set_pose(simulator.position, 0.0)
        touched = False
        while not touched:
            before = simulator.position
            touched = simulator.move(0.25, 0.0)
        if abs(simulator.position[0] + AGENT_RADIUS_M - wall) < 0.01:
            break
    else:
        pytest.fail("no free way to the wall")
    assert simulator.position[0] >= before[0]
    middle = simulator.observe()["depth"][20:44, 28:36, 0]
    assert np.median(middle) == pytest.approx(AGENT_RADIUS_M, abs=0.03)
    stuck = simulator.position
    assert simulator.move(0.25, 0.0)
    assert simulator.position == pytest.approx(stuck, abs=2e-3)
    assert not simulator.move(0.25, math.pi)  # away from it again


def _place_along_the_wall(sim: BulletSimulator) -> np.ndarray:
    """A point within a cell of the wall at +x with nothing in the way for 0.4 m towards +y."""
    floor = sim.scene.floors[0]
    cells = {tuple(cell) for cell in floor.standing.tolist()}
    last = max(i for i, _ in cells)
    row = sorted(j for i, j in cells if i == last)
    j = next(j for j in row if all((last, j + k) in cells for k in range(8)))
    return floor.grid.centre(np.array([last, j]))


def test_sliding_glides_along_the_wall_where_stopping_does_not() -> None:
    moved = {}
    for sliding in (False, True):
        sim = BulletSimulator(image_size=8, allow_sliding=sliding)
        sim.load_scene(SCENE)
        beside = _place_along_the_wall(sim)
        sim.set_pose((*beside, 0.0), 0.5)
        start = sim.position
        assert sim.move(0.25, 0.0)
        moved[sliding] = float(np.linalg.norm(sim.position - start))
        sim.close()
    # The wall is less than a cell away; along it only the part of the move that points at it is
    # lost.
    assert moved[False] < 0.06
    assert moved[True] == pytest.approx(0.25 * math.sin(0.5), abs=0.01)


@pytest.mark.parametrize("sliding", [False, True])
@pytest.mark.parametrize("tier", ["room", "apartment"])
def test_distances_stay_finite_on_a_random_walk_of_500_steps(tier: str, sliding: bool) -> None:
    sim = BulletSimulator(image_size=8, allow_sliding=sliding)
    rng = np.random.default_rng(5)
    for scene in range(2):
        sim.load_scene(f"{tier}-train-{scene:05d}")
        goal = _stand(sim, rng)
        sim.set_goal(goal)
        last = sim.distance_to_goal(_stand(sim, rng))
        touched = 0
        for _ in range(500):
            before = sim.position
            turn = float(rng.normal(0, 0.3)) if rng.random() < 0.8 else float(rng.uniform(-3, 3))
            touched += sim.move(0.25, turn)
            distance = sim.distance_to_goal(sim.position)
            assert math.isfinite(distance)
            # A step of 0.25 m changes the distance by no more, but for the grid's coarseness.
            assert abs(distance - last) <= np.linalg.norm(sim.position - before) + 0.1
            assert clearance(sim.position[:2], sim.floor.obstacles) >= AGENT_RADIUS_M - 1e-6
            last = distance
        assert touched > 10
    sim.close()


def test_the_shortest_path_leads_from_the_robot_to_the_goal(simulator: BulletSimulator) -> None:
    rng = np.random.default_rng(2)
    goal, start = _stand(simulator, rng), _stand(simulator, rng)
    simulator.set_goal(goal)
    path = simulator.shortest_path(start)
    assert path.shape[1] == 3
    assert path[0] == pytest.approx(start)
    assert path[-1] == pytest.approx(goal)
    length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
    assert length == pytest.approx(simulator.distance_to_goal(start), rel=0.03, abs=0.05)


def test_two_simulators_do_not_disturb_each_other(simulator: BulletSimulator) -> None:
    rng = np.random.default_rng(0)
    pose = _stand(simulator, rng), simulator.heading
    alone = simulator.observe()["depth"]
    other = BulletSimulator(sensors=("rgb",))
    other.load_scene("room-val-00007")
    _stand(other, rng)
    other.observe()
    simulator.set_pose(*pose)
    assert np.array_equal(simulator.observe()["depth"], alone)
    other.close()
    assert np.array_equal(simulator.observe()["depth"], alone)


def test_memory_does_not_grow_with_the_number_of_scenes() -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("reads /proc")
    sim = BulletSimulator(sensors=("rgb",), image_size=8)
    used = []
    for _ in range(6):
        for k in range(6):  # fewer than the library keeps: what grows is the renderer's
            sim.load_scene(f"room-train-{k:05d}")
            sim.observe()
        used.append(int(statm.read_text().split()[1]) * 4096)
    sim.close()
    # Leaking the meshes' lists costs 0.6 MB a scene, 18 MB here.
    assert used[-1] - used[1] < 6e6


def test_depth_noise_grows_with_distance_is_seeded_and_stays_in_range() -> None:
    depth = np.repeat(np.array([1.0, 4.0], np.float32)[:, None], 20000, axis=1)[:, :, None]
    noise = DepthNoise(std_at_1m=0.01, dropout=0.1)
    noisy = noise.apply(depth, np.random.default_rng(0), (0.1, 10.0))
    assert np.array_equal(noisy, noise.apply(depth, np.random.default_rng(0), (0.1, 10.0)))
    lost = noisy == 10.0
    assert lost.mean() == pytest.approx(0.1, abs=0.01)
    for row, std in ((0, 0.01), (1, 0.16)):
        error = (noisy - depth)[row][~lost[row]]
        assert error.std() == pytest.approx(std, rel=0.05)
        assert abs(error.mean()) < 0.05 * std
    assert noisy.dtype == np.float32
    with pytest.raises(ValueError, match="dropout"):
        DepthNoise(dropout=1.5)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="lidar"):
        BulletSimulator(sensors=("lidar",))
    with pytest.raises(ValueError, match="sensors"):
        BulletSimulator(sensors=())
    with pytest.raises(ValueError, match="image_size"):
        BulletSimulator(image_size=0)
    with pytest.raises(ValueError, match="hfov_deg"):
        BulletSimulator(hfov_deg=190)


def test_questions_before_there_is_a_scene_or_goal_are_answered_with_what_to_do() -> None:
    sim = BulletSimulator(image_size=8)
    with pytest.raises(RuntimeError, match="load_scene"):
        sim.observe()
    sim.load_scene(SCENE)
    with pytest.raises(RuntimeError, match="set_goal"):
        sim.distance_to_goal((1.0, 1.0, 0.0))
    sim.close()
    sim.close()


def test_faces_of_a_box_look_outwards_with_their_own_normals() -> None:
    box = build_layout(SCENE).boxes[0]
    vertices, normals, uvs, indices = box_mesh([box])
    assert vertices.shape == normals.shape == (24, 3)
    assert uvs.shape == (24, 2)
    assert (uvs >= 0).all()
    centre = (np.array(box.low) + np.array(box.high)) / 2
    for a, b, c in indices.reshape(-1, 3):
        across = np.cross(vertices[b] - vertices[a], vertices[c] - vertices[a])
        assert across @ normals[a] > 0
        assert (vertices[a] - centre) @ normals[a] > 0
