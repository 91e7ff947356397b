"""The adapter on real habitat-sim (`Sim-v0`): a self-made scene and episodes that habitat-lab generates in it.

Run where habitat-sim is installed beside habitat-lab, with software rendering: docs/habitat.md says how.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.habitat_sim
if importlib.util.find_spec("habitat_sim") is None:
    pytest.skip("habitat-sim is not installed", allow_module_level=True)

from habitat.config.default import get_config
from habitat.datasets.pointnav.pointnav_generator import generate_pointnav_episode
from habitat.sims import make_sim

from sim_adapters.check import check_env
from sim_adapters.habitat.episodes import _write
from sim_adapters.habitat.follower import ShortestPathFollowerPolicy
from sim_adapters.nav_baselines import ShortestPathPolicy, run_episode
from sim_adapters.nav_measures import Measures
from sim_adapters.pointgoal import pointgoal
from sim_adapters.registry import make
from tests.habitat.glb import write_glb

GPU = os.environ.get("HABITAT_GPU", "-1")  # software rendering
# A room of 8 by 6 metres with a wall across that leaves a way on one side, and two pieces of furniture.
BOXES = [
    ((-0.1, -0.1, -0.1), (8.1, 6.1, 0.0)),
    ((-0.1, -0.1, 0.0), (8.1, 0.0, 2.5)),
    ((-0.1, 6.0, 0.0), (8.1, 6.1, 2.5)),
    ((-0.1, 0.0, 0.0), (0.0, 6.0, 2.5)),
    ((8.0, 0.0, 0.0), (8.1, 6.0, 2.5)),
    ((3.9, 0.0, 0.0), (4.1, 4.2, 2.5)),
    ((1.5, 2.0, 0.0), (2.5, 2.8, 0.8)),
    ((5.5, 1.0, 0.0), (6.3, 3.0, 0.9)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scene.glb and val/val.json.gz."""
    folder = tmp_path_factory.mktemp("made")
    write_glb(folder / "scene.glb", BOXES)
    words = [
        f"habitat.simulator.scene={folder}/scene.glb",
        f"habitat.simulator.habitat_sim_v0.gpu_device_id={GPU}",
    ]
    config = get_config("benchmark/nav/pointnav/pointnav_base.yaml", words).habitat.simulator
    sim = make_sim(config.type, config=config)
    sim.seed(0)
    np.random.seed(0)
    episodes = list(generate_pointnav_episode(sim, 20, is_gen_shortest_path=False))
    for episode in episodes:
        episode.scene_id = "scene.glb"
    sim.close()
    _write(folder / "val" / "val.json.gz", episodes)
    return folder


@pytest.fixture
def settings(folder: Path) -> dict[str, Any]:
    return {
        "config": "pointnav_gibson",
        "split": "val",
        "image_size": 64,
        "overrides": [
            f"habitat.dataset.data_path='{folder}/{{split}}/{{split}}.json.gz'",
            f"habitat.dataset.scenes_dir={folder}",
            f"habitat.simulator.habitat_sim_v0.gpu_device_id={GPU}",
        ],
    }


@pytest.fixture
def env(settings: dict[str, Any]) -> Any:
    made = make("habitat", **settings)
    yield made
    made.close()


def test_the_adapter_keeps_its_promises(settings: dict[str, Any]) -> None:
    check_env(lambda: make("habitat", **{**settings, "max_steps": 25}), steps=40)


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
