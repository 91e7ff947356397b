"""Presets and overrides: how they stack, what they accept and what they refuse."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dreamer_nav import presets
from dreamer_nav.config import Config
from dreamer_nav.limits import limited_settings
from dreamer_nav.presets import (
    ConfigError,
    changed_settings,
    flatten_fields,
    from_dict,
    load_config,
    load_yaml,
    override,
    preset_names,
    save_yaml,
    to_dict,
)

# -- stacking ------------------------------------------------------------------------------------


def test_layers_stack_defaults_then_base_then_preset_then_overrides(tmp_path: Path) -> None:
    _write(tmp_path / "low.yaml", "seed: 1\nthreads: 1\nagent: {horizon: 5, discount: 0.5}")
    _write(tmp_path / "high.yaml", "base: low.yaml\nthreads: 2\nagent: {horizon: 6}")
    config = load_config(str(tmp_path / "high.yaml"), ["agent.horizon=7"])
    assert (config.seed, config.threads) == (1, 2)
    assert (config.agent.horizon, config.agent.discount) == (7, 0.5)
    assert config.agent.lambda_ == Config().agent.lambda_


def test_a_base_may_be_a_preset_that_ships(tmp_path: Path) -> None:
    _write(tmp_path / "mine.yaml", "base: atari\nenv: {game: boxing}")
    config = load_config(str(tmp_path / "mine.yaml"))
    assert config.env == {"name": "atari", "game": "boxing", "full_actions": True}
    assert config.agent.rssm.deter == 600


def test_a_circle_of_bases_is_refused_by_name(tmp_path: Path) -> None:
    _write(tmp_path / "a.yaml", "base: b.yaml")
    _write(tmp_path / "b.yaml", "base: a.yaml")
    with pytest.raises(ConfigError, match=r"based on itself .*a -> b -> a"):
        load_config(str(tmp_path / "a.yaml"))


def test_mappings_merge_instead_of_replacing() -> None:
    config = load_config("atari", ["agent.loss_scales.image=2", "env.sticky=0.5"])
    assert config.agent.loss_scales == {"kl": 0.1, "reward": 1.0, "discount": 5.0, "image": 2.0}
    expected = {"name": "atari", "game": "pong", "full_actions": True, "sticky": 0.5}
    assert config.env == expected


def test_naming_another_environment_drops_the_options_of_the_one_below() -> None:
    config = load_config("pointgoal_room", ["env.name=dummy", "env.task=memory"])
    assert config.env == {"name": "dummy", "task": "memory"}
    assert config.eval.env == {}
    assert load_config("pointgoal_room", ["env.name=bullet"]) == load_config("pointgoal_room")


def test_stacking_leaves_what_it_was_given_alone() -> None:
    before = load_config("pointgoal_room")
    tree = to_dict(before)
    override(before, ["env.tier=apartment", "agent.loss_scales.kl=3", "env.sensors=[rgb]"])
    assert to_dict(before) == tree
    assert Config().agent.loss_scales["kl"] == 1.0


def test_presets_are_found_as_package_data_before_the_repositorys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "dreamer_nav"
    (tmp_path / "site" / "configs").mkdir(parents=True)
    _write(tmp_path / "site" / "configs" / "checkout.yaml", "seed: 1")
    package.mkdir()
    monkeypatch.setattr(presets, "__file__", str(package / "presets.py"))
    assert preset_names() == ["checkout"]
    (package / "configs").mkdir()
    _write(package / "configs" / "packaged.yaml", "seed: 2")
    assert preset_names() == ["packaged"]


def test_changed_settings_names_what_differs() -> None:
    config = load_config("debug")
    assert changed_settings(config, override(config, ["train.steps=400"])) == [
        ("train.steps", 300, 400)
    ]
    assert changed_settings(config, config) == []


# -- what overrides accept -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["agent.rssm.deter=200"],
        ["--agent.rssm.deter=200"],
        ["--agent.rssm.deter", "200"],
        {"agent.rssm.deter": "200"},
        {"agent.rssm.deter": 200},
    ],
)
def test_overrides_come_as_assignments_options_or_a_mapping(words: Any) -> None:
    assert load_config(None, words).agent.rssm.deter == 200


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("train.steps=1e6", 1_000_000),
        ("train.steps=1_000_000", 1_000_000),
        ("train.steps=20000", 20_000),
        ("train.steps_per_update=4", 4.0),
        ("agent.model_opt.lr=3e-4", 3e-4),
        ("compile=true", True),
        ("compile=False", False),
        ("agent.grad_heads=decoder,reward", ("decoder", "reward")),
        ("agent.grad_heads=[decoder, reward]", ("decoder", "reward")),
        ("agent.grad_heads=", ()),
        ("agent.precision=bfloat16", "bfloat16"),
        ("device=cuda:1", "cuda:1"),
    ],
)
def test_values_become_the_schemas_types(word: str, value: Any) -> None:
    found = _value(load_config(None, [word]), word.partition("=")[0])
    assert found == value
    assert type(found) is type(value)


def test_a_switch_needs_no_value() -> None:
    assert load_config(None, ["--compile", "--seed", "3"]).compile is True


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64", 64),
        ("1e-3", 1e-3),
        ("0.5", 0.5),
        ("-2.", -2.0),
        ("true", True),
        ("null", None),
        ("room", "room"),
        ("00017", "00017"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("[depth, rgb]", ["depth", "rgb"]),
        ("{std: 0.1}", {"std": 0.1}),
    ],
)
def test_free_values_are_read_as_yaml_and_saved_unchanged(
    text: str, value: Any, tmp_path: Path
) -> None:
    config = load_config(None, [f"env.option={text}"])
    assert config.env["option"] == value
    assert type(config.env["option"]) is type(value)
    save_yaml(config, tmp_path / "config.yaml")
    assert load_yaml(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("text", ["1e-3", "010", "off", "yes", "1:30", "~", "", " x", "a: b", "é"])
def test_text_that_looks_like_something_else_is_saved_as_text(text: str, tmp_path: Path) -> None:
    config = from_dict({"env": {"name": "dummy", "option": text}})
    save_yaml(config, tmp_path / "config.yaml")
    assert load_yaml(tmp_path / "config.yaml").env["option"] == text
    with_other_reader = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert with_other_reader["env"]["option"] == text


def test_a_section_of_comments_changes_nothing(tmp_path: Path) -> None:
    _write(tmp_path / "p.yaml", "agent:\n  # horizon: 3\ntrain:\n")
    assert load_config(str(tmp_path / "p.yaml")) == Config()


# -- what they refuse ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("agent.rsm.deter=1", r"^Unknown setting 'agent.rsm.deter'. Did you mean 'agent.rssm.dete"),
        ("steps=1", r"Unknown setting 'steps'. Did you mean 'train.steps'\?"),
        ("lr=1", "'agent.model_opt.lr', 'agent.actor_opt.lr' or 'agent.critic_opt.lr'"),
        ("sead=1", r"Did you mean 'seed'\?"),
        ("agent.horizn=3", r"Did you mean 'agent.horizon'\?"),
        ("zzz.qqq=3", "`dreamer-nav train --help` lists them all"),
        ("agent=3", r"'agent' is a section, set one of its settings \(agent.rssm.deter"),
        ("agent.rssm=3", r"section, set one of its settings \(agent.rssm.deter"),
        ("seed.x=3", "'seed' must be an integer"),
        ("train.steps=1.5", r"'train.steps' must be an integer .*got 1.5"),
        ("train.steps=many", "'train.steps' must be an integer .*got 'many'"),
        ("train.steps=true", "must be an integer"),
        ("agent.discount=high", "'agent.discount' must be a finite number, got 'high'"),
        ("agent.discount=nan", "must be a finite number"),
        ("agent.discount=inf", "must be a finite number"),
        ("compile=yes", "'compile' must be true or false, got 'yes'"),
        (
            "agent.actor_grad=dynamic",
            r"must be one of auto, reinforce, dynamics, both; got 'dynamic'. Did you mean 'dynam",
        ),
        ("agent.grad_heads=rewards", "may hold decoder, reward, discount; got 'rewards'"),
        ("agent.loss_scales.kl=big", "'agent.loss_scales.kl' must be a finite number, got 'big'"),
        ("agent.loss_scales=3", "'agent.loss_scales' must be a mapping"),
        ("env=3", "'env' must be a mapping"),
        ("env.sensors=[depth", "'env.sensors': .* is not YAML"),
        ("env.name=7", "'env.name' must name an environment"),
        ("device=gpu", "'device' must be auto, cpu, cuda, cuda:N or mps, got 'gpu'"),
        ("agent.encoder.image_keys=(", "must be a regular expression"),
        ("--seed", "'--seed' needs a value: --seed VALUE"),
        ("seed", "needs a value"),
    ],
)
def test_a_wrong_override_says_what_was_received_and_what_is_allowed(
    word: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("pointgoal_room", [word])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("replay.batch_length=1", "at least 2, got 1"),
        ("agent.horizon=2", "at least 3, got 2"),
        ("agent.discount=1.01", "between 0 and 1, got 1.01"),
        ("agent.lambda_=-0.1", "between 0 and 1"),
        ("agent.rssm.classes=1", "at least 2"),
        ("train.steps=0", "at least 1"),
        ("train.num_envs=0", "at least 1"),
        ("train.steps_per_update=0", "greater than 0"),
        ("agent.model_opt.lr=0", "greater than 0"),
        ("agent.loss_scales.kl=-1", "at least 0"),
        (
            "train.steps=9",
            r"'train.prefill_steps' \(100\) must not exceed 'train.steps' \(9\)",
        ),
        ("replay.capacity_steps=7", "must hold at least 'replay.batch_length'"),
    ],
)
def test_values_that_cannot_work_are_refused(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("debug", [word])


@pytest.mark.parametrize("word", ["agent.discount=0", "agent.discount=1", "agent.horizon=3"])
def test_values_at_the_edge_are_accepted(word: str) -> None:
    name, _, value = word.partition("=")
    assert _value(load_config(None, [word]), name) == float(value)


def test_every_number_of_the_schema_has_a_limit() -> None:
    numbers = {s.name for s in flatten_fields() if s.type in (int, float)}
    assert numbers == limited_settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "agent: {rssm: {deteer: 3}}",
            r"p.yaml: Unknown setting 'agent.rssm.deteer'. Did you mean",
        ),
        ("- a\n- b", "p.yaml must hold settings as `name: value`"),
        ("agent: {horizon: [", r"p.yaml is not YAML: .*\(line 1\)"),
        ("seed: 1\nseed: 2", r"p.yaml is not YAML: the key 'seed' appears twice \(line 1\)"),
        ("base: 3", "'base' must name a preset, got 3"),
        ("base: nowhere", "Unknown preset 'nowhere'"),
        ("device: 3", r"'device' must be text, got 3 \(int\)"),
        ("replay: {sample: 3}", "must be one of steps, episodes; got 3"),
        ("seed: {a: 1}", "'seed' must be an integer"),
        ("seed:", "'seed' must be an integer .*got nothing"),
        ("env: {3: x}", "must be called by a text key"),
        ("env: !!python/object/apply:os.getcwd []", "is not YAML: could not determine"),
    ],
)
def test_a_wrong_preset_file_is_named_with_what_is_wrong(
    text: str, message: str, tmp_path: Path
) -> None:
    path = _write(tmp_path / "p.yaml", text)
    with pytest.raises(ConfigError, match=message):
        load_config(str(path))


def test_an_unknown_preset_is_answered_with_the_nearest_and_all() -> None:
    with pytest.raises(
        ConfigError, match=r"'pointgoal_rom'. Did you mean 'pointgoal_room'\?.*atari"
    ):
        load_config("pointgoal_rom")
    with pytest.raises(ConfigError, match=r"there is no preset file .*nowhere.yaml"):
        load_config("nowhere.yaml")


def test_a_missing_configuration_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file .*config.yaml"):
        load_yaml(tmp_path / "config.yaml")


# -- the schema ----------------------------------------------------------------------------------


def test_flat_fields_carry_name_type_default_and_help() -> None:
    found = {s.name: s for s in flatten_fields()}
    assert len(found) == len(flatten_fields())
    assert found["agent.rssm.deter"].type is int
    # Three optimizers share a section type and have defaults of their own.
    rates = [found[f"agent.{part}_opt.lr"].default for part in ("model", "actor", "critic")]
    assert rates == [1e-4, 8e-5, 2e-4]
    assert all(s.help for s in found.values())
    assert all(not isinstance(s.default, float) or math.isfinite(s.default) for s in found.values())


def test_presets_import_neither_torch_nor_numpy() -> None:
    code = "import sys, dreamer_nav.presets as p; p.load_config('atari'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "numpy", "gymnasium"}.isdisjoint(done.stdout.split())


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _value(config: Config, name: str) -> Any:
    return next(s.default for s in flatten_fields(config) if s.name == name)
