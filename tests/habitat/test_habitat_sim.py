"""The adapter on real habitat-sim (`Sim-v0`): a self-made scene and episodes that habitat-lab generates in it.

Run where habitat-sim is installed beside habitat-lab, with software rendering: docs/habitat.md says how.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.habitat_sim
if importlib.util.find_spec("habitat_sim") is None:
    pytest.skip("habitat-sim is not installed", allow_module_level=True)

from dreamer_nav.rollouts import UniformPolicy, run_episodes
from sim_adapters.check import check_env
from sim_adapters.habitat.errors import HabitatError
from sim_adapters.habitat.follower import ShortestPathFollowerPolicy
from sim_adapters.nav_baselines import ShortestPathPolicy, run_episode
from sim_adapters.nav_measures import Measures
from sim_adapters.pointgoal import pointgoal
from sim_adapters.registry import make
from tests.habitat.made_scene import overrides


@pytest.fixture
def settings(made_scene: Path) -> dict[str, Any]:
    return {
        "config": "pointnav_gibson",
        "split": "val",
        "image_size": 64,
        "overrides": overrides(made_scene),
    }


@pytest.fixture
def env(settings: dict[str, Any]) -> Any:
    made = make("habitat", **settings)
    yield made
    made.close()


def test_the_adapter_keeps_its_promises(settings: dict[str, Any]) -> None:
    check_env(lambda: make("habitat", **{**settings, "max_steps": 25}), steps=40)


def test_a_second_one_beside_it_is_refused(settings: dict[str, Any], env: Any) -> None:
    with pytest.raises(HabitatError, match="close that one first"):
        make("habitat", **settings)
    env.reset(options={"index": 0})
    env.step(1)


def test_episodes_are_played_one_after_the_other(settings: dict[str, Any]) -> None:
    short = {**settings, "max_steps": 5}
    results = run_episodes(UniformPolicy(), lambda: make("habitat", **short), episodes=3, seed=0)
    assert [result.index for result in results] == [0, 1, 2]


@pytest.mark.parametrize("policy", [ShortestPathFollowerPolicy, ShortestPathPolicy])
def test_the_shortest_path_is_followed_to_nearly_every_goal(env: Any, policy: Any) -> None:
    played = [run_episode(env, policy(env), options={"index": i}) for i in range(20)]
    assert np.mean([info["success"] for info in played]) >= 0.95
    assert np.mean([info["spl"] for info in played]) > 0.9


def test_habitats_measures_are_ours_on_the_same_trajectories(env: Any) -> None:
    rng = np.random.default_rng(0)
    for index in range(5):
        observation, info = env.reset(options={"index": index})
        ours = Measures(env.simulator.position, info["geodesic_distance"])
        for step in range(60):
            action = 0 if step == 59 else int(rng.integers(1, 4))
            observation, _, terminated, _, info = env.step(action)
            position = env.simulator.position
            distance = env.simulator.distance_to_goal(position)
            ours.update(
                position,
                distance,
                collided=info["collided"],
                success=terminated and distance < 0.2,
            )
            here = pointgoal(position, env.simulator.heading, env.episode.goal_position)
            np.testing.assert_allclose(observation["pointgoal"], here, atol=1e-3)
        for key, value in ours.info().items():
            assert info[key] == pytest.approx(value, abs=2e-3), key


def test_the_map_is_free_at_the_robot_and_the_goal(env: Any) -> None:
    env.reset(options={"index": 0})
    picture, low, pixels_per_m = env.simulator.top_down(200)
    for point in (env.simulator.position, env.episode.goal_position):
        column, row = (np.array(point[:2]) - low) * pixels_per_m
        assert tuple(picture[int(picture.shape[0] - row), int(column)]) == (235, 235, 235)
