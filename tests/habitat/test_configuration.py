"""Our presets say to habitat-lab what they promise."""

from __future__ import annotations

from typing import Any

import pytest

from dreamer_nav.presets import load_config, preset_names
from sim_adapters.habitat.configuration import Choice, compose

PRESETS = [name for name in preset_names() if name.startswith("habitat")]


def habitat_config(preset: str, **changed: Any) -> Any:
    env = {**load_config(preset).env, **changed}
    size = env.get("image_size", 0)
    choice = Choice(
        split=env.get("split", ""),
        simulator=env.get("simulator", ""),
        sensors=tuple(env.get("sensors", ())),
        image_size=(size, size) if isinstance(size, int) else tuple(size),
        max_steps=env.get("max_steps", 0),
    )
    return compose(env["config"], env.get("overrides", ()), choice).habitat


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_composes_with_the_measures_that_evaluation_needs(preset: str) -> None:
    habitat = habitat_config(preset)
    assert {"success", "spl", "soft_spl", "collisions", "distance_to_goal"} <= set(
        habitat.task.measurements
    )
    assert load_config(preset).eval.env["split"] == "val"


@pytest.mark.parametrize(
    ("preset", "path"),
    [
        ("habitat_gibson", "gibson/v1/val/val"),
        ("habitat_gibson_0plus", "gibson/v1/val/val"),
        ("habitat_gibson_v2", "gibson/v2/val/val"),
        ("habitat_mp3d", "mp3d/v1/val/val"),
        ("habitat_hm3d", "hm3d/v1/val/val"),
        ("habitat_test", "habitat-test-scenes/v1/val/val"),
        ("habitat_challenge", "gibson/v2/val/val"),
        ("habitat_bullet", "bullet_apartment/val/val"),
    ],
)
def test_a_preset_is_evaluated_on_the_validation_split_of_its_data(preset: str, path: str) -> None:
    dataset = habitat_config(preset, split="val").dataset
    found = dataset.data_path.format(split=dataset.split)
    assert found == f"data/datasets/pointnav/{path}.json.gz"


def test_gibson_0_plus_trains_on_all_scenes() -> None:
    assert habitat_config("habitat_gibson_0plus").dataset.split == "train_extra_large"


def test_the_challenge_is_as_it_was_set() -> None:
    habitat = habitat_config("habitat_challenge")
    agent = habitat.simulator.agents.main_agent
    rgb, depth = (agent.sim_sensors[f"{name}_sensor"] for name in ("rgb", "depth"))
    for camera in (rgb, depth):
        assert (camera.height, camera.width, camera.hfov) == (360, 640, 70)
        assert list(camera.position) == [0, 0.88, 0]
    assert (depth.min_depth, depth.max_depth) == (0.1, 10.0)
    assert rgb.noise_model == "GaussianNoiseModel"
    assert dict(rgb.noise_model_kwargs) == {"intensity_constant": 0.1}
    assert depth.noise_model == "RedwoodDepthNoiseModel"
    assert (agent.radius, agent.height) == (0.18, 0.88)
    assert habitat.simulator.turn_angle == 30
    assert not habitat.simulator.habitat_sim_v0.allow_sliding
    (sensor,) = habitat.task.lab_sensors.values()
    assert (sensor.type, sensor.goal_format) == ("PointGoalSensor", "POLAR")
    assert habitat.task.measurements.success.success_distance == 0.36
    assert habitat.environment.max_episode_steps == 500


def test_the_goal_of_the_start_keeps_its_name(make_env: Any) -> None:
    env = make_env(
        "habitat.task.lab_sensors.pointgoal_with_gps_compass_sensor.type=PointGoalSensor",
        "habitat.task.goal_sensor_uuid=pointgoal",
    )
    first, _ = env.reset(options={"index": 0})
    second = env.step(2)[0]
    assert (first["pointgoal"] == second["pointgoal"]).all()
    assert env.observation_space["pointgoal"].high[1] == pytest.approx(3.1415927)
