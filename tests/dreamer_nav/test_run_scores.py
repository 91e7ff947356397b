from __future__ import annotations

from pathlib import Path

import pytest

from dreamer_nav.failures import UsageError
from dreamer_nav.presets import load_config
from dreamer_nav.published import SUITES
from dreamer_nav.run_scores import PublishedTask, published_task, read_score, read_task
from sim_adapters import registry
from tests.dreamer_nav.scored_runs import write_evaluation, write_run

PONG = load_config("atari")
TRAINING = {250_000: -20.0, 500_000: -12.0}


def test_an_agent_step_is_four_frames_of_atari_and_two_of_dmc_or_what_the_run_says() -> None:
    pong = {"name": "atari", "game": "pong"}
    assert published_task(pong) == PublishedTask("atari", "pong", 4)
    assert published_task({**pong, "action_repeat": 1}).action_repeat == 1
    walk = {"name": "dmc", "task": "walker_walk"}
    assert published_task(walk) == PublishedTask("dmc", "walker_walk", 2)
    assert published_task({**walk, "action_repeat": 8}).action_repeat == 8


def test_settings_that_may_make_it_another_task_are_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", training=TRAINING, env__sticky=0.0, env__full_actions=False)
    assert read_score(run).changes == "full_actions=False, sticky=0.0"


@pytest.mark.parametrize("preset", ["atari", "dmc_vision"])
def test_the_published_settings_are_not_named(tmp_path: Path, preset: str) -> None:
    assert read_task(write_run(tmp_path / "a", preset))[1].changes == ""


@pytest.mark.parametrize(("suite", "module"), [("atari", "ale_py"), ("dmc", "dm_control")])
def test_the_adapters_defaults_are_the_published_settings(suite: str, module: str) -> None:
    pytest.importorskip(module)
    published = {**SUITES[suite].settings, "action_repeat": SUITES[suite].action_repeat}
    defaults = {key: registry.options(suite)[key] for key in published}
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()} == published


def test_the_last_evaluation_during_training_is_a_score(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", training=TRAINING, seed=5, train__eval_episodes=3)
    score = read_score(run)
    assert (score.task, score.seed, score.step, score.frames) == ("pong", 5, 500_000, 2_000_000)
    assert (score.mean, score.low, score.high, score.episodes) == (-12.0, None, None, 3)
    assert score.source == "evaluation during training"


@pytest.mark.parametrize("step", [500_000, 750_000])
def test_an_evaluation_of_the_same_step_or_later_comes_first(tmp_path: Path, step: int) -> None:
    run = write_run(tmp_path / "a", training=TRAINING)
    write_evaluation(run, PONG, 250_000, 3.0)
    write_evaluation(run, PONG, step, 5.0)
    score = read_score(run)
    assert (score.step, score.frames, score.source) == (step, 4 * step, "dreamer-nav eval")
    assert (score.mean, score.low, score.high, score.episodes) == (5.0, 4.0, 6.0, 50)


def test_an_older_evaluation_gives_way_to_later_training(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", training=TRAINING)
    write_evaluation(run, PONG, 250_000, 3.0)
    assert (read_score(run).step, read_score(run).mean) == (500_000, -12.0)


def test_evaluations_in_other_environments_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", training=TRAINING)
    write_evaluation(run, PONG, 750_000, 9.0, sticky=0.0)
    write_evaluation(run, PONG, 500_000, 1.0)
    assert (read_score(run).step, read_score(run).mean) == (500_000, 1.0)


def test_the_task_is_the_one_of_the_evaluations(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", training=TRAINING, eval__env={"game": "breakout"})
    assert read_score(run).task == "breakout"


def test_a_run_of_dmc_counts_its_own_frames(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", "dmc_vision", {10_000: 300.0}, env__action_repeat=3)
    score = read_score(run)
    assert (score.suite, score.task, score.frames) == ("dmc", "walker_walk", 30_000)


@pytest.mark.parametrize(
    ("preset", "settings", "message"),
    [
        ("debug", {}, "a is a run of dummy; published scores are of atari and dmc only"),
        ("atari", {"env__game": "pongg"}, "a plays pongg, of which .* did you mean pong?"),
        ("atari", {"env__game": "air_raid"}, "of which no score is published; .*Known: alien"),
        ("atari", {}, "a has no evaluation yet; make one: dreamer-nav eval .*a$"),
    ],
)
def test_a_run_without_a_score_is_one_sentence(
    tmp_path: Path, preset: str, settings: dict[str, object], message: str
) -> None:
    run = write_run(tmp_path / "a", preset, **settings)
    with pytest.raises(UsageError, match=message):
        read_score(run)
