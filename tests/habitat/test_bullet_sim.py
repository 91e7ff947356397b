"""Bullet-v0 as habitat-lab sees it: its own `Env`, sensors, measures and generator on our scenes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import quaternion
from habitat.config import read_write
from habitat.config.default import get_config
from habitat.core.simulator import AgentState
from habitat.sims import make_sim
from habitat.utils.geometry_utils import quaternion_rotate_vector

SCENE = "apartment-val-00003"
STOP, FORWARD, LEFT, RIGHT = range(4)


def make(scene: str = SCENE, *overrides: str, **camera: Any) -> Any:
    """The simulator on `scene`, cameras of 32 pixels with the settings `camera`."""
    words = [
        "habitat.simulator.type=Bullet-v0",
        f"habitat.simulator.scene='{scene}'",
        "habitat.simulator.agents.main_agent.radius=0.18",
        *overrides,
    ]
    config = get_config("benchmark/nav/pointnav/pointnav_base.yaml", words).habitat.simulator
    with read_write(config):
        for sensor in config.agents.main_agent.sim_sensors.values():
            sensor.height = sensor.width = 32
            for key, value in camera.items():
                if key in sensor:
                    sensor[key] = value
    return make_sim(config.type, config=config)


@pytest.fixture
def sim() -> Any:
    simulator = make()
    yield simulator
    simulator.close()


def place(sim: Any, clearance_m: float = 1.0) -> np.ndarray:
    """Put the robot somewhere with room around it, facing -z; returns its position."""
    sim.seed(0)
    for _ in range(1000):
        point = sim.sample_navigable_point()
        if sim.distance_to_closest_obstacle(point) > clearance_m:
            sim.set_agent_state(point, [0.0, 0.0, 0.0, 1.0])
            return np.array(point)
    raise AssertionError(f"{SCENE} has no place with {clearance_m} m around it")


def test_forward_goes_along_minus_z_and_left_turns_counter_clockwise(sim: Any) -> None:
    start = place(sim)
    sim.step(FORWARD)
    np.testing.assert_allclose(sim.get_agent_state().position - start, [0, 0, -0.25], atol=1e-9)
    for _ in range(9):  # ten degrees each: now along -x
        sim.step(LEFT)
    sim.step(FORWARD)
    moved = sim.get_agent_state().position - start
    np.testing.assert_allclose(moved, [-0.25, 0, -0.25], atol=1e-9)
    looks = quaternion_rotate_vector(sim.get_agent_state().rotation, sim.forward_vector)
    np.testing.assert_allclose(looks, [-1, 0, 0], atol=1e-9)


def test_a_state_that_is_set_is_read_back(sim: Any) -> None:
    position = place(sim)
    turned = quaternion.quaternion(math.cos(0.6), 0.0, math.sin(0.6), 0.0)
    sim.set_agent_state(position, turned)
    state = sim.get_agent_state()
    np.testing.assert_allclose(state.position, position, atol=1e-12)
    assert quaternion.rotation_intrinsic_distance(state.rotation, turned) < 1e-9
    coefficients = [turned.x, turned.y, turned.z, turned.w]
    sim.set_agent_state(position, coefficients)
    assert quaternion.rotation_intrinsic_distance(sim.get_agent_state().rotation, turned) < 1e-9


def test_depth_is_metres_or_their_share_of_the_range() -> None:
    settings = {"min_depth": 0.5, "max_depth": 4.0}
    metres, share = (make(normalize_depth=n, **settings) for n in (False, True))
    position = place(metres)
    share.set_agent_state(position, [0.0, 0.0, 0.0, 1.0])
    a, b = metres.step(None)["depth"], share.step(None)["depth"]
    assert a.dtype == b.dtype == np.float32
    assert 0.5 <= a.min() < a.max() <= 4.0
    np.testing.assert_allclose(b, (a - 0.5) / 3.5, atol=1e-6)
    for sim in (metres, share):
        space = sim.sensor_suite.observation_spaces.spaces["depth"]
        assert space.contains(sim.step(None)["depth"])
        sim.close()


@pytest.mark.parametrize("height_m", [0.4, 1.25])
def test_a_camera_that_looks_down_measures_its_height(height_m: float) -> None:
    tilted = {"orientation": [-math.pi / 2, 0.0, 0.0], "position": [0.0, height_m, 0.0]}
    sim = make(normalize_depth=False, **tilted)
    place(sim)
    depth = sim.step(None)["depth"]
    np.testing.assert_allclose(depth[12:20, 12:20], height_m, atol=0.01)
    sim.close()


def test_a_camera_can_look_to_the_left_and_sit_aside() -> None:
    ahead, left = make(), make(orientation=[0.0, math.pi / 2, 0.0])
    aside = make(position=[0.3, 1.25, -0.2])
    position = place(left)
    half = math.sqrt(0.5)
    ahead.set_agent_state(position, [0.0, half, 0.0, half])
    np.testing.assert_array_equal(left.step(None)["rgb"], ahead.step(None)["rgb"])
    aside.set_agent_state(position, [0.0, 0.0, 0.0, 1.0])
    shifted = position + np.array([0.3, 0.0, -0.2])
    ahead.set_agent_state(shifted, [0.0, 0.0, 0.0, 1.0])
    np.testing.assert_array_equal(aside.step(None)["rgb"], ahead.step(None)["rgb"])
    for sim in (ahead, left, aside):
        sim.close()


def test_a_narrow_view_is_the_middle_of_a_wide_one() -> None:
    wide, narrow = make(hfov=90, normalize_depth=False), make(hfov=53, normalize_depth=False)
    position = place(wide)
    narrow.set_agent_state(position, [0.0, 0.0, 0.0, 1.0])
    # tan(53 / 2) is half of tan(90 / 2): the inner half of the pixels, each seen twice as wide.
    a = wide.step(None)["depth"][8:24, 8:24, 0]
    b = narrow.step(None)["depth"].reshape(16, 2, 16, 2).mean(axis=(1, 3))
    assert np.median(np.abs(a - b)) < 0.02
    wide.close()
    narrow.close()


def test_sliding_is_as_configured() -> None:
    ends = {}
    for sliding in (True, False):
        sim = make(SCENE, f"habitat.simulator.habitat_sim_v0.allow_sliding={sliding}")
        place(sim)
        sim.step(LEFT)
        touched = 0
        for _ in range(60):
            sim.step(FORWARD)
            touched += sim.previous_step_collided
        assert touched > 0
        ends[sliding] = sim.get_agent_state().position
        sim.close()
    assert np.linalg.norm(ends[True] - ends[False]) > 0.2


def test_looking_again_is_no_second_collision(sim: Any) -> None:
    place(sim)
    while not sim.previous_step_collided:
        sim.step(FORWARD)
    sim.step(None)
    assert not sim.previous_step_collided


def test_random_points_are_navigable_and_connected(sim: Any) -> None:
    points = [sim.sample_navigable_point() for _ in range(50)]
    assert all(sim.is_navigable(point) for point in points)
    assert min(sim.island_radius(point) for point in points) > 1.5
    assert len({tuple(point) for point in points}) == 50
    outside = [point + np.array([100.0, 0.0, 0.0]) for point in np.array(points)]
    assert not any(sim.is_navigable(point) for point in outside)


def test_distances_agree_with_the_corners_of_the_path(sim: Any) -> None:
    a, b, c = (sim.sample_navigable_point() for _ in range(3))
    corners = np.array(sim.get_straight_shortest_path_points(a, b))
    length = np.linalg.norm(np.diff(corners, axis=0), axis=1).sum()
    distance = sim.geodesic_distance(a, b)
    np.testing.assert_allclose([corners[0], corners[-1]], [a, b], atol=1e-9)
    assert length == pytest.approx(distance, rel=0.03)
    assert sim.geodesic_distance(a, [b, c]) == min(distance, sim.geodesic_distance(a, c))


def test_the_shortest_path_in_actions_leads_to_the_goal(sim: Any) -> None:
    start, goal = sim.sample_navigable_point(), sim.sample_navigable_point()
    rotation = quaternion.quaternion(1.0, 0.0, 0.0, 0.0)
    before = sim.get_agent_state()
    path = sim.action_space_shortest_path(AgentState(start, rotation), [AgentState(goal, rotation)])
    np.testing.assert_array_equal(sim.get_agent_state().position, before.position)
    sim.set_agent_state(start, rotation)
    for point in path[:-1]:
        np.testing.assert_allclose(sim.get_agent_state().position, point.position, atol=1e-9)
        sim.step(point.action)
    assert path[-1].action is None
    assert sim.geodesic_distance(sim.get_agent_state().position, goal) < 0.2


def test_the_map_is_free_where_the_robot_can_stand(sim: Any) -> None:
    low, high = sim.pathfinder.get_bounds()
    free = sim.pathfinder.get_topdown_view(0.05, 0.0)
    assert free.shape == pytest.approx(tuple(np.ceil((high - low)[[2, 0]] / 0.05)), abs=1)
    for _ in range(30):
        x, _, z = sim.sample_navigable_point()
        assert free[int((z - low[2]) / 0.05), int((x - low[0]) / 0.05)]
    assert 0.2 < free.mean() < 0.95


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("type=HabitatSimSemanticSensor", "no sensor of the type 'HabitatSimSemanticSensor'"),
        ("noise_model=GaussianNoiseModel", "without noise"),
    ],
)
def test_a_camera_that_there_is_not_is_refused(override: str, message: str) -> None:
    key = "habitat.simulator.agents.main_agent.sim_sensors.rgb_sensor."
    with pytest.raises(ValueError, match=message):
        make(SCENE, key + override)
