from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamer_nav.checkpoint import CheckpointError
from dreamer_nav.evaluate import EPISODE_SEED, baselines_subject, evaluate_policy, run_subject
from dreamer_nav.failures import UsageError
from dreamer_nav.rollouts import EpisodewisePolicy, Policy, UniformPolicy, run_episodes
from dreamer_nav.run_scores import read_score
from sim_adapters import registry
from sim_adapters.episodes import save_episodes
from sim_adapters.nav_baselines import GreedyPolicy, ShortestPathPolicy
from sim_adapters.registry import Entry, UnknownOption
from tests.dreamer_nav.flat_task import FlatTask, flat_config, save_run, val_episodes
from tests.dreamer_nav.scored_runs import DMC_ENTRY

pytestmark = pytest.mark.usefixtures("flat_task")
POLICIES = ("dreamer", "shortest path", "greedy", "random")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_run(flat_config(), tmp_path / "run")


def test_a_run_is_evaluated_beside_its_baselines_on_the_same_episodes(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = evaluate_policy(run_subject(run))
    assert tuple(report["policies"]) == POLICIES
    places = {
        policy: [(e["index"], e["seed"], e["episode_id"]) for e in report["episodes"][policy]]
        for policy in POLICIES
    }
    assert places["dreamer"] == places["greedy"] == places["random"] == places["shortest path"]
    assert [e[2] for e in places["dreamer"]] == [f"flat-{i}" for i in range(7)]
    best = report["policies"]["shortest path"]
    assert best["success"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 7}
    assert report["policies"]["greedy"]["success"]["mean"] == pytest.approx(5 / 7)
    printed = capsys.readouterr().out
    assert "flat val" in printed
    assert "7 episodes, mean [95% interval]" in printed
    for heading in ("success", "SPL", "SoftSPL", "distance to goal (m)", "collisions", "steps"):
        assert heading in printed


def test_baselines_fare_without_pictures_as_they_do_with_them(run: Path) -> None:
    report = evaluate_policy(run_subject(run))
    policies: dict[str, Policy] = {
        "shortest path": EpisodewisePolicy(ShortestPathPolicy),
        "greedy": EpisodewisePolicy(GreedyPolicy),
        "random": UniformPolicy(),
    }
    for name, policy in policies.items():
        results = run_episodes(
            policy, lambda: FlatTask(split="val"), episodes=7, seed=EPISODE_SEED, num_envs=2
        )
        assert [r.measures for r in results] == [e["measures"] for e in report["episodes"][name]]


def test_the_figures_are_saved_in_the_run_and_where_asked(run: Path, tmp_path: Path) -> None:
    report = evaluate_policy(run_subject(run), json_path=tmp_path / "figures.json")
    saved = json.loads((run / "eval" / "val-000000000.json").read_text())
    assert saved == json.loads((tmp_path / "figures.json").read_text()) == report
    assert saved["checkpoint"] == "checkpoints/step-000000000"
    assert saved["config"]["env"]["name"] == "flat"
    assert saved["env"] == {"name": "flat", "split": "val"}
    for measure, mean in saved["policies"]["random"].items():
        single = [e["measures"][measure] for e in saved["episodes"]["random"]]
        assert mean["mean"] == pytest.approx(np.mean(single))
        assert mean["low"] <= mean["mean"] <= mean["high"]


def test_two_evaluations_of_a_checkpoint_agree(run: Path) -> None:
    first = evaluate_policy(run_subject(run))
    second = evaluate_policy(run_subject(run / "checkpoints" / "step-000000000"))
    assert {k: v for k, v in first.items() if k != "run"} == {
        k: v for k, v in second.items() if k != "run"
    }


def test_other_environment_settings_are_another_file(run: Path) -> None:
    report = evaluate_policy(
        run_subject(run), env_overrides={"max_steps": 3}, episodes=2, baselines=False
    )
    assert list(report["policies"]) == ["dreamer"]
    assert max(e["measures"]["steps"] for e in report["episodes"]["dreamer"]) <= 3
    assert report["env"]["max_steps"] == 3
    assert [p.name for p in (run / "eval").iterdir()] == ["val-max_steps_3-000000000.json"]


def test_an_episode_file_is_evaluated_whole_unless_told_otherwise(
    run: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.json.gz"
    save_episodes(file, val_episodes()[2:6])
    report = evaluate_policy(run_subject(run), episodes_file=file)
    ids = [e["episode_id"] for e in report["episodes"]["dreamer"]]
    assert ids == ["flat-2", "flat-3", "flat-4", "flat-5"]
    assert (run / "eval" / "val-episodes_mine-000000000.json").exists()
    with pytest.raises(UsageError, match="5 episodes were asked for and the set holds 4"):
        evaluate_policy(run_subject(run), episodes_file=file, episodes=5)


def test_a_task_without_goals_has_return_and_steps_beside_random(tmp_path: Path) -> None:
    config = replace(flat_config(), env={"name": "dummy", "task": "terminal", "image": False})
    config = replace(config, env={**config.env, "vector": True}, eval=replace(config.eval, env={}))
    report = evaluate_policy(run_subject(save_run(config, tmp_path / "run")), episodes=6)
    assert list(report["policies"]) == ["dreamer", "random"]
    assert set(report["policies"]["dreamer"]) == {"steps", "return"}
    assert report["policies"]["random"]["return"]["n"] == 6
    assert (tmp_path / "run" / "eval" / "dummy-000000000.json").exists()


def test_the_heading_says_which_environment_of_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(flat_config(), env={"name": "gymnasium", "id": "FrozenLake-v1"})
    config = replace(config, eval=replace(config.eval, env={}))
    evaluate_policy(run_subject(save_run(config, tmp_path / "run")), episodes=1)
    assert "gymnasium FrozenLake-v1: " in capsys.readouterr().out


def test_a_run_of_a_published_task_is_evaluated_beside_the_published_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(registry._ENTRIES, "dmc", DMC_ENTRY)
    env = {"name": "dmc", "task": "walker_walk", "action_repeat": 2}
    config = replace(flat_config(), env=env)
    config = replace(config, eval=replace(config.eval, env={}))
    run = save_run(config, tmp_path / "run")
    report = evaluate_policy(run_subject(run), episodes=6)
    capsys.readouterr()
    figures = report["scores"]["tasks"]["dmc"]["walker_walk"]
    dreamer = report["policies"]["dreamer"]["return"]
    assert figures["return"] == {key: dreamer[key] for key in ("mean", "low", "high")}
    assert (figures["episodes"], figures["frames"]) == (6, [0, 0])
    # The file is what a report of several runs reads.
    assert read_score(run).mean == dreamer["mean"]
    # Another environment than the run's own is no score of the run.
    assert "scores" not in evaluate_policy(
        run_subject(run), episodes=2, env_overrides={"action_repeat": 4}
    )
    evaluate_policy(run_subject(run), episodes=6)
    out = capsys.readouterr().out
    assert "dmc walker_walk" in out
    assert "DreamerV2 at these frames" in out


def test_a_game_is_named_and_its_score_normalised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = Entry("tests.dreamer_nav.scored_runs:make_game", "pip install it", "", ())
    monkeypatch.setitem(registry._ENTRIES, "atari", entry)
    config = replace(flat_config(), env={"name": "atari", "game": "pong"})
    config = replace(config, eval=replace(config.eval, env={}))
    report = evaluate_policy(run_subject(save_run(config, tmp_path / "run")), episodes=4)
    out = capsys.readouterr().out
    assert out.startswith("atari pong: ")
    assert "human-normalised" in out
    pong = report["scores"]["tasks"]["atari"]["pong"]
    assert pong["human_normalized"] == pytest.approx((pong["return"]["mean"] + 20.7) / 35.3)


def test_mistakes_are_one_sentence_each(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No run or checkpoint at"):
        evaluate_policy(run_subject(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        evaluate_policy(run_subject(tmp_path / "empty"))
    with pytest.raises(UsageError, match="101 episodes were asked for and the set holds 7"):
        evaluate_policy(run_subject(run), episodes=101)
    with pytest.raises(UsageError, match="cannot be built: split must be train or val"):
        evaluate_policy(run_subject(run), env_overrides={"split": "test"})
    with pytest.raises(UnknownOption, match=r"no option 'splt'\. Did you mean 'split'"):
        evaluate_policy(run_subject(run), env_overrides={"splt": "val"})
    with pytest.raises(FileNotFoundError, match="no episode file"):
        evaluate_policy(run_subject(run), episodes_file=tmp_path / "none.json.gz")
    assert not list(run.glob("eval/*"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"name": "dummy", "image": False, "vector": True},
            "needs the observation 'pointgoal'; the environment gives state",
        ),
        ({"continuous": True}, "agent gives ActionSpec.*environment takes .*discrete=False"),
    ],
)
def test_an_environment_the_agent_was_not_trained_on_is_refused(
    run: Path, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate_policy(run_subject(run), env_overrides=overrides)


def test_the_baselines_can_be_played_alone(tmp_path: Path) -> None:
    subject = baselines_subject("flat", flat_config())
    report = evaluate_policy(subject, episodes=4, json_path=tmp_path / "b.json")
    assert set(report["policies"]) == set(POLICIES) - {"dreamer"}
    assert report["preset"] == "flat"
    assert report["policies"]["shortest path"]["success"]["mean"] == 1.0
    assert json.loads((tmp_path / "b.json").read_text()) == report


def test_a_simulators_own_baselines_are_played_too(
    monkeypatch: pytest.MonkeyPatch, run: Path
) -> None:
    own = {"its own": ShortestPathPolicy}
    monkeypatch.setattr(FlatTask, "reference_policies", lambda self: own, raising=False)
    results = evaluate_policy(run_subject(run), episodes=3)["policies"]
    assert set(results) == {*POLICIES, "its own"}
    assert results["its own"] == results["shortest path"]


class SceneTask(FlatTask):
    """A task with an option that chooses the scene: in "far" ones the episodes end too early."""

    def __init__(self, *, scene: str = "", **options: Any) -> None:
        if scene not in ("", "near", "far"):
            raise ValueError(f"there is no scene {scene!r}")
        steps = {"max_steps": 1} if scene == "far" else {}
        super().__init__(**{**options, **steps})


def test_scenes_are_played_one_by_one_and_averaged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    entry = Entry("tests.dreamer_nav.test_evaluate:SceneTask", "pip install flat", "", ())
    monkeypatch.setitem(registry._ENTRIES, "flat", entry)
    run = save_run(flat_config(), tmp_path / "run")
    report = evaluate_policy(run_subject(run), episodes=4, scenes=["near", "far"])
    own = {
        scene: {name: summary["success"]["mean"] for name, summary in policies.items()}
        for scene, policies in report["scenes"].items()
    }
    assert set(own["near"]) == set(POLICIES)
    assert own["near"]["shortest path"] == 1.0
    assert own["far"]["shortest path"] == 0.0
    pooled = report["policies"]["shortest path"]["success"]
    assert pooled["mean"] == 0.5
    assert pooled["n"] == 8
    assert 0.0 < pooled["low"] < 0.5 < pooled["high"] < 1.0
    assert [e["index"] for e in report["episodes"]["random"]] == list(range(8))
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("near ") and "1.00 [1.00, 1.00]" in line for line in lines)
    assert any(line.startswith("all scenes ") for line in lines)
    assert (run / "eval" / "val-scene_near_far-000000000.json").exists()
    with pytest.raises(UsageError, match="there is no scene 'nar'"):
        evaluate_policy(run_subject(run), episodes=4, scenes=["nar"])
