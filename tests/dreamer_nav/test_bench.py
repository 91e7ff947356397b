"""The benchmark's figures, on tiny sizes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from dreamer_nav import bench as bench_module
from dreamer_nav.bench import bench, parameter_counts, random_batch, spaces_of
from dreamer_nav.config import Config
from dreamer_nav.presets import load_config
from dreamer_nav.runs import build_agent, describe_spaces
from sim_adapters.registry import UnknownEnvironment

TINY = {
    "device": "cpu",
    "replay.batch_size": 2,
    "replay.batch_length": 3,
    "agent.horizon": 3,
    "agent.rssm.deter": 8,
    "agent.rssm.hidden": 8,
    "agent.rssm.stoch": 2,
    "agent.rssm.classes": 3,
    "agent.encoder.cnn_depth": 2,
    "agent.head.layers": 1,
    "agent.head.units": 6,
}


def _tiny(preset: str | None, **changes: Any) -> Config:
    return load_config(preset, {**TINY, **changes})


def test_an_installed_environment_gets_all_three_rates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _tiny(None, **{"env.name": "dummy", "env.task": "memory", "train.num_envs": 2})
    path = tmp_path / "bench.json"
    figures = bench(config, json_path=path, seconds=0.05)
    printed = capsys.readouterr().out
    assert json.loads(path.read_text()) == figures
    for name in ("updates_per_s", "env_steps_per_s", "training_steps_per_s"):
        rate = figures[name]
        assert 0 < rate["low"] <= rate["median"] <= rate["high"]
        assert rate["timings"] >= 3
    for shown in ("updates/s", "environment steps/s", "training steps/s", torch.__version__):
        assert shown in printed


@pytest.mark.parametrize("preset", ["atari", "atari_head", "dmc_vision", "dmc_proprio", "crafter"])
def test_a_preset_whose_simulator_is_missing_still_gets_its_updates_timed(
    preset: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(config: Config) -> None:
        raise UnknownEnvironment(f"no environment is called {config.env['name']!r}.")

    monkeypatch.setattr("dreamer_nav.bench.make_envs", missing)
    figures = bench(_tiny(preset), seconds=0.01)
    assert figures["updates_per_s"]["median"] > 0
    assert "env_steps_per_s" not in figures
    lines = [x for x in capsys.readouterr().out.splitlines() if "not measured" in x]
    assert len(lines) == 1
    assert "no environment is called" in lines[0]


def test_an_unknown_environment_without_known_spaces_is_an_error() -> None:
    with pytest.raises(UnknownEnvironment, match="nowhere"):
        bench(_tiny(None, **{"env.name": "nowhere"}), seconds=0.01)


def test_spaces_of_missing_simulators_are_those_of_the_benchmarks() -> None:
    obs, action = describe_spaces(*spaces_of("atari"), load_config("atari"))
    assert [(s.name, s.shape, s.dtype) for s in obs] == [("image", (64, 64, 1), "uint8")]
    assert (action.discrete, action.size) == (True, 18)
    obs, action = describe_spaces(*spaces_of("dmc"), load_config("dmc_vision"))
    assert [(s.name, s.shape, s.dtype) for s in obs] == [("image", (64, 64, 3), "uint8")]
    assert (action.discrete, action.size) == (False, 6)
    obs, _ = describe_spaces(*spaces_of("dmc"), load_config("dmc_proprio"))
    assert {s.name: s.shape[0] for s in obs} == {"height": 1, "orientations": 14, "velocity": 9}


def test_the_batch_has_the_configured_sizes_and_lies_in_the_spaces() -> None:
    config = _tiny("dmc_vision")
    obs, action = describe_spaces(*spaces_of("dmc"), config)
    batch = random_batch(config, obs, action, torch.device("cpu"))
    assert batch["image"].shape == (2, 3, 64, 64, 3)
    assert batch["image"].dtype == torch.uint8
    assert batch["action"].shape == (2, 3, 6)
    assert batch["action"].abs().max() <= 1
    assert all(batch[k].shape == (2, 3) for k in ("reward", "is_first", "is_terminal"))
    again = random_batch(config, obs, action, torch.device("cpu"))
    assert all(torch.equal(v, again[k]) for k, v in batch.items())


def test_parameter_counts_add_up_to_the_trained_parameters() -> None:
    config = _tiny("atari")
    agent = build_agent(config, *describe_spaces(*spaces_of("atari"), config))
    trained = [*agent.model_opt.params, *agent.actor_opt.params, *agent.critic_opt.params]
    assert sum(parameter_counts(agent).values()) == sum(p.numel() for p in trained)


def test_a_rate_is_what_was_done_in_the_time_it_took() -> None:
    def five_in_ten_milliseconds() -> int:
        time.sleep(0.01)
        return 5

    rate = bench_module._rate(five_in_ten_milliseconds, torch.device("cpu"), 0.1)
    assert 0 < rate.median <= 500  # a sleep lasts at least what was asked for
    assert rate.low <= rate.median <= rate.high


def test_a_rate_is_timed_at_least_three_times_after_the_warm_up() -> None:
    calls = []
    rate = bench_module._rate(lambda: calls.append(0) or 1, torch.device("cpu"), 0.0, warm_up=2)
    assert (rate.timings, len(calls)) == (3, 5)


def test_updates_of_the_joint_measurement_follow_the_schedule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = _tiny(
        None,
        **{
            "env.name": "dummy",
            "env.task": "bandit",
            "train.num_envs": 2,
            "train.steps_per_update": 4,
        },
    )
    envs, why_not = bench_module._make_envs(config)
    assert why_not == ""
    try:
        spaces = envs.single_observation_space, envs.single_action_space
        agent = build_agent(config, *describe_spaces(*spaces, config))
        batch = random_batch(config, agent.obs, agent.action, agent.device)
        runner = bench_module._Runner(config, agent, envs, batch)
        assert runner.train_steps(20) == 20
        assert agent.num_updates == 5
        assert runner.random_steps(7) == 8
        assert agent.num_updates == 5
    finally:
        envs.close()


def test_a_profile_names_operators(capsys: pytest.CaptureFixture[str]) -> None:
    bench(_tiny(None, **{"env.name": "dummy", "env.task": "bandit"}), seconds=0.01, profile=5)
    assert "aten::" in capsys.readouterr().out
