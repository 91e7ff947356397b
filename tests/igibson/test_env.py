"""The adapter over the real simulator: iGibson's PointNavRandomTask in the tiny rooms, rendered in software."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sim_adapters.vector import EnvSpec
from tests.igibson.conftest import Build

pytestmark = pytest.mark.slow
Spec = Callable[..., EnvSpec]

PHYSICS = {
    "physics_timestep_s": 0.0125
}  # eight small steps an action: faster, and as good for the tests


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_the_adapter_keeps_its_promises(build: Build, spec: Spec, actions: str) -> None:
    vector = build(spec("probe:Checks", actions=actions, max_steps=60, **PHYSICS))
    assert vector.call_at(0, "run", 80) is True


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_the_shortest_path_arrives_with_igibsons_reward_and_spl(
    build: Build, spec: Spec, actions: str
) -> None:
    vector = build(spec("probe:ProbeEnv", actions=actions))
    played = vector.call_at(0, "play", 5)
    assert np.mean([info["success"] for info in played]) >= 0.8
    for info in played:
        assert info["terminated"] == bool(info["success"])
        assert (info["rho"] < 0.36) == info["success"]
        assert info["return"] == pytest.approx(info["expected_return"], abs=1e-9)
        assert info["path_length"] == pytest.approx(info["expected_path_length"], abs=2e-2)
        shortest, travelled = info["geodesic"], info["expected_igibson_path_length"]
        own = info["success"] * min(1.0, shortest / travelled)
        assert info["igibson_spl"] == pytest.approx(own, abs=1e-2)
        assert info["igibson_spl"] >= info["spl"] >= info["igibson_spl"] - 0.1
        assert 0.0 <= info["soft_spl"] <= 1.0


def test_distances_are_those_of_igibsons_own_search(build: Build, spec: Spec) -> None:
    vector = build(spec("probe:ProbeEnv"))
    pairs = np.array(vector.call_at(0, "distances", 25))
    assert len(pairs) == 100
    assert pairs[:, 0].max() > 3.0
    np.testing.assert_allclose(pairs[:, 0], pairs[:, 1], atol=1e-9)


def test_depth_pictures_agree_with_rays(build: Build, spec: Spec) -> None:
    vector = build(spec("probe:ProbeEnv"))
    for seed in range(3):
        vector.reset(seed=[seed])
        pixels = vector.call_at(0, "pixels")
        assert pixels["rays"] > 10
        assert pixels["median"] < 0.03


def test_what_is_observed(build: Build, spec: Spec) -> None:
    vector = build(spec())
    observation, infos = vector.reset(seed=[3])
    info = infos["envs"][0]
    assert info["scene_id"] == "tiny_train_0"
    assert "llvmpipe" in info["renderer"] or "4.50" not in info["renderer"]
    assert observation["rgb"].dtype == np.uint8
    assert observation["rgb"].std() > 5
    assert 0.0 < observation["depth"].max() <= 1.0
    rho, phi = observation["pointgoal"][0]
    assert rho <= info["geodesic_distance"] + 0.15  # from a cell's corner to a cell's corner
    for _ in range(10):  # a whole quarter turn to the left
        observation, _, _, _, _ = vector.step(np.array([[0.0, 1.0]]))
    turned = (phi - observation["pointgoal"][0, 1] + np.pi) % (2 * np.pi) - np.pi
    assert turned == pytest.approx(1.57, abs=0.1)
    assert observation["velocity"][0, 1] == pytest.approx(1.57, abs=0.2)


def test_the_time_limit_truncates(build: Build, spec: Spec) -> None:
    vector = build(spec(max_steps=4))
    vector.reset(seed=[0])
    for _ in range(4):
        _, _, terminated, truncated, infos = vector.step(np.array([[0.0, 1.0]]))
    assert truncated[0]
    assert not terminated[0]
    assert infos["envs"][0]["steps"] == 4
    assert infos["envs"][0]["success"] == 0.0


def test_too_many_collisions_terminate(build: Build, spec: Spec, tiny: dict[str, Any]) -> None:
    wheels_count = {"collision_ignore_link_a_ids": [], "max_collisions_allowed": 2}
    vector = build(spec(overrides={**tiny["overrides"], **wheels_count}))
    vector.reset(seed=[0])
    for _ in range(3):  # the wheels stand on the floor: each step is a collision
        _, reward, terminated, truncated, infos = vector.step(np.array([[0.0, 0.0]]))
        assert reward[0] == pytest.approx(-0.1, abs=0.02)
        assert infos["envs"][0]["collided"]
    assert terminated[0]
    assert not truncated[0]
    assert infos["envs"][0]["collisions"] == 3


def test_a_fixed_task_always_starts_and_ends_at_the_same_places(
    build: Build, spec: Spec, tiny: dict[str, Any]
) -> None:
    random = build(spec("probe:ProbeEnv"))
    places = {}
    random.reset(seed=[5])
    episode = random.call_at(0, "places")
    places["initial_pos"], places["target_pos"] = episode["start"], episode["goal"]
    vector = build(spec(task="point_nav_fixed", overrides={**tiny["overrides"], **places}))
    goals = []
    for seed in (1, 2):
        observation, _ = vector.reset(seed=[seed])
        goals.append(observation["pointgoal"][0])
    np.testing.assert_allclose(goals[0], goals[1], atol=0.02)
    apart = np.linalg.norm(np.subtract(episode["goal"], episode["start"])[:2])
    assert goals[0][0] == pytest.approx(apart, abs=0.02)


def test_several_scenes_are_drawn_by_the_seed(build: Build, spec: Spec) -> None:
    vector = build(spec(scene=["tiny_train_0", "tiny_train_1"]))
    seen = []
    for seed in (0, 1, 2, 3, 0, 1, 2, 3):
        observation, infos = vector.reset(seed=[seed])
        seen.append((infos["envs"][0]["scene_id"], observation["rgb"].sum()))
        vector.step(np.array([[1.0, 0.0]]))
    assert seen[:4] == seen[4:]
    assert {name for name, _ in seen} == {"tiny_train_0", "tiny_train_1"}


def test_without_pictures_the_episode_is_the_same(build: Build, spec: Spec) -> None:
    blind = build(spec("probe:Checks")).call_at(0, "blind")
    seeing = build(spec("probe:ProbeEnv")).call_at(0, "play", 1)[0]
    assert {key: seeing[key] for key in blind} == blind


def test_three_workers_of_two_kinds_and_two_pythons_play_at_once(build: Build, spec: Spec) -> None:
    here = spec().path
    room = {"tier": "room", "require_stop": False, "success_distance_m": 0.36, "max_steps": 50}
    ours = [
        EnvSpec("probe:GoalOnly", {"name": "igibson", "options": dict(options)}, one.python, here)
        for one in (spec(), spec(scene="tiny_train_1"))
        for options in ({**one.kwargs, "actions": "discrete", "max_steps": 50},)
    ]
    bullet = EnvSpec("probe:GoalOnly", {"name": "bullet", "options": room}, path=here)
    vector = build(*ours, bullet)
    pythons = [remote.pid for remote in vector._envs]
    assert len(set(pythons)) == 3
    vector.reset(seed=[1, 2, 3])
    rng = np.random.default_rng(0)
    ended = np.zeros(3, int)
    for _ in range(120):
        actions = rng.integers(3, size=3)
        observations, rewards, terminations, truncations, _ = vector.step(actions)
        assert observations["pointgoal"].shape == (3, 2)
        assert np.isfinite(rewards).all()
        over = terminations | truncations
        ended += over
        if over.any():
            vector.reset(options={"reset_mask": over})
    assert (ended >= 2).all()
    assert vector.restarts.tolist() == [0, 0, 0]
