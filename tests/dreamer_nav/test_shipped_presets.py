"""The presets that ship: they load, and hold what their papers, the original code and navigation ask for."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from dreamer_nav.behavior import Behavior
from dreamer_nav.config import Config
from dreamer_nav.presets import (
    DEFAULT_PRESET,
    changed_settings,
    flatten_fields,
    from_dict,
    load_config,
    load_yaml,
    preset_names,
    save_yaml,
    to_dict,
)
from dreamer_nav.spaces import ActionSpec, ObsSpec
from dreamer_nav.world_model import WorldModel
from sim_adapters.atari import AtariEnv

SHIPPED = (
    "atari",
    "atari100k",
    "atari_cpu",
    "atari_head",
    "crafter",
    "debug",
    "dmc_proprio",
    "dmc_proprio_cpu",
    "dmc_vision",
    "dmc_vision_cpu",
    "habitat",
    "habitat_bullet",
    "habitat_challenge",
    "habitat_gibson",
    "habitat_gibson_0plus",
    "habitat_gibson_v2",
    "habitat_hm3d",
    "habitat_mp3d",
    "habitat_test",
    "humanoid_vision",
    "igibson",
    "igibson_gibson",
    "igibson_pointnav",
    "igibson_tiny",
    "nav",
    "pointgoal_apartment",
    "pointgoal_room",
    "v2",
)


def test_every_documented_preset_ships_and_no_other() -> None:
    assert preset_names() == list(SHIPPED)
    assert DEFAULT_PRESET in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_preset_loads_and_survives_saving_and_loading(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    save_yaml(config, tmp_path / "config.yaml")
    assert load_yaml(tmp_path / "config.yaml") == config
    assert from_dict(to_dict(config)) == config
    assert config != Config()


def _image(channels: int) -> ObsSpec:
    return ObsSpec("image", (64, 64, channels), "uint8", 0.0, 255.0)


def _vector(name: str, size: int) -> ObsSpec:
    return ObsSpec(name, (size,), "float32")


# Counted by running the original's TensorFlow modules: world model, actor, critic.
@pytest.mark.parametrize(
    ("preset", "obs", "action", "counts"),
    [
        ("atari", [_image(1)], ActionSpec(True, 18), (19_975_379, 1_138_418, 1_131_601)),
        ("atari_head", [_image(1)], ActionSpec(True, 18), (19_975_379, 1_138_418, 1_131_601)),
        ("crafter", [_image(3)], ActionSpec(True, 17), (28_459_589, 1_310_817, 1_304_401)),
        ("dmc_vision", [_image(3)], ActionSpec(False, 6), (13_656_772, 976_012, 971_601)),
        (
            "dmc_proprio",
            [_vector("orientations", 14), _vector("velocity", 9)],
            ActionSpec(False, 6),
            (3_462_872, 976_012, 971_601),
        ),
    ],
)
def test_original_presets_build_networks_of_the_originals_size(
    preset: str, obs: list[ObsSpec], action: ActionSpec, counts: tuple[int, int, int]
) -> None:
    config = load_config(preset).agent
    with torch.device("meta"):
        model = WorldModel(obs, action.size, config)
        behavior = Behavior(model.rssm.feat_size, action, config)
    parts = (model, behavior.actor, behavior.critic)
    assert tuple(sum(p.numel() for p in part.parameters()) for part in parts) == counts


# The original's configs.yaml at 07d906e, translated by hand: value in (v2, atari_head, crafter, dmc).
@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("agent.model_opt.lr", (1e-4, 2e-4, 1e-4, 3e-4)),
        ("agent.actor_opt.lr", (8e-5, 4e-5, 1e-4, 8e-5)),
        ("agent.critic_opt.lr", (2e-4, 1e-4, 1e-4, 8e-5)),
        ("agent.model_opt.eps", (1e-5,) * 4),
        ("agent.model_opt.clip_norm", (100.0,) * 4),
        ("agent.model_opt.weight_decay", (1e-6,) * 4),
        ("agent.discount", (0.99, 0.999, 0.999, 0.99)),
        ("agent.lambda_", (0.95,) * 4),
        ("agent.horizon", (15,) * 4),
        ("agent.actor_entropy", (2e-3, 1e-3, 3e-3, 1e-4)),
        ("agent.reward_transform", ("tanh", "tanh", "tanh", "identity")),
        ("agent.discount_head", (True, True, True, False)),
        ("agent.kl_balance", (0.8,) * 4),
        ("agent.kl_free_nats", (0.0, 0.0, 0.0, 1.0)),
        ("agent.truncated_normal_grad", ("original",) * 4),
        ("agent.aligned_baseline", (False,) * 4),
        ("agent.slow_critic_every_updates", (100,) * 4),
        ("replay.capacity_steps", (2_000_000,) * 4),
        ("replay.batch_size", (16,) * 4),
        ("replay.batch_length", (50,) * 4),
        ("replay.sample", ("episodes",) * 4),
        ("replay.min_episode_steps", (50,) * 4),
        ("replay.prioritize_ends", (True, True, True, False)),
        ("train.prefill_steps", (10_000, 50_000, 10_000, 1000)),
        ("train.pretrain_updates", (1, 1, 1, 100)),
        ("train.steps_per_update", (5.0, 16.0, 5.0, 5.0)),
        ("train.num_envs", (1,) * 4),
    ],
)
def test_original_presets_hold_the_originals_values(setting: str, values: tuple[Any, ...]) -> None:
    names = ("v2", "atari_head", "crafter", "dmc_vision")
    assert tuple(_value(load_config(name), setting) for name in names) == values
    assert _value(load_config("dmc_proprio"), setting) == values[-1]


def test_original_presets_hold_the_originals_loss_scales() -> None:
    for name in ("atari", "atari_head"):
        scales = load_config(name).agent.loss_scales
        assert scales == {"kl": 0.1, "reward": 1.0, "discount": 5.0}
    assert load_config("dmc_vision").agent.loss_scales == Config().agent.loss_scales


def test_the_papers_atari_differs_from_the_released_code_in_three_settings() -> None:
    changes = changed_settings(load_config("atari"), load_config("atari_head"))
    paper_and_code = {name: (paper, code) for name, paper, code in changes if name != "env"}
    assert paper_and_code == {
        "replay.batch_size": (50, 16),
        "train.steps_per_update": (4.0, 16.0),
    }
    actions = [load_config(name).env["full_actions"] for name in ("atari", "atari_head")]
    assert actions == [True, False]


def test_atari_100k_is_400_thousand_frames_without_sticky_actions() -> None:
    config = load_config("atari100k")
    assert config.train.steps == 100_000
    assert config.env["sticky"] == 0.0
    assert config.replay.batch_size == 16


@pytest.mark.parametrize("name", ["atari", "atari_head", "atari100k"])
def test_atari_presets_name_options_that_the_adapter_has(name: str) -> None:
    env = {k: v for k, v in load_config(name).env.items() if k != "name"}
    assert set(env) <= set(inspect.signature(AtariEnv).parameters)


def test_humanoid_walk_has_the_settings_of_the_papers_appendix() -> None:
    """Appendix A: rho 0 (no reinforce), eta 1e-5, beta 2; all else as dmc_vision."""
    config = load_config("humanoid_vision")
    assert config.env == {**load_config("dmc_vision").env, "task": "humanoid_walk"}
    changed = {name for name, _, _ in changed_settings(load_config("dmc_vision"), config)}
    assert changed == {
        "env",
        "agent.actor_grad",
        "agent.actor_entropy",
        "agent.loss_scales",
        "train.steps",
    }
    assert config.agent.actor_grad == "dynamics"
    assert config.agent.actor_entropy == 1e-5
    assert config.agent.loss_scales["kl"] == 2.0


@pytest.mark.parametrize("name", ["nav", "pointgoal_room", "pointgoal_apartment"])
def test_navigation_presets_keep_short_episodes_and_use_the_exact_gradient(name: str) -> None:
    config = load_config(name)
    assert config.replay.sample == "steps"
    assert config.replay.min_episode_steps == 0
    assert config.agent.truncated_normal_grad == "exact"
    assert config.agent.encoder.polar_keys == "pointgoal"


def test_the_default_evaluates_on_scenes_that_training_never_draws() -> None:
    config = load_config(DEFAULT_PRESET)
    assert config.env["split"] == "train"
    assert config.eval.env["split"] == "val"


def _value(config: Config, name: str) -> Any:
    return next(s.default for s in flatten_fields(config) if s.name == name)
