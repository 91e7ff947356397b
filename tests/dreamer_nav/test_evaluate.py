from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dreamer_nav.agent import Agent
from dreamer_nav.checkpoint import CheckpointError
from dreamer_nav.evaluate import (
    EPISODE_SEED,
    baselines_subject,
    evaluate_agent,
    evaluate_policy,
    run_subject,
)
from dreamer_nav.failures import UsageError
from dreamer_nav.rollouts import (
    EpisodeResult,
    EpisodewisePolicy,
    Policy,
    UniformPolicy,
    run_episodes,
)
from dreamer_nav.run_scores import read_score
from sim_adapters import registry
from sim_adapters.episodes import save_episodes
from sim_adapters.nav_baselines import GreedyPolicy, ShortestPathPolicy
from sim_adapters.registry import Entry, UnknownOption
from tests.dreamer_nav.flat_task import (
    BLOCKED,
    ENTRY,
    FlatTask,
    agent_for,
    flat_config,
    save_run,
    val_episodes,
)
from tests.dreamer_nav.scored_runs import DMC_ENTRY

POLICIES = ("dreamer", "shortest path", "greedy", "random")


@pytest.fixture(autouse=True)
def _flat(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registers the task, and checks that every environment that was made is closed."""
    monkeypatch.setitem(registry._ENTRIES, "flat", Entry(ENTRY, "pip install flat", "", ()))
    FlatTask.made = FlatTask.closed = 0
    yield
    assert FlatTask.made == FlatTask.closed


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._ENTRIES, "flat", Entry(ENTRY, "pip install flat", "", ()))
        yield agent_for(flat_config())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_run(flat_config(), tmp_path / "run")


def evaluate(agent: Agent, split: str = "val", **options: Any) -> list[EpisodeResult]:
    settings: dict[str, Any] = {"episodes": 7, "seed": 3, "sample_actions": True, **options}
    return evaluate_agent(agent, lambda: FlatTask(split=split), **settings)


def same(left: list[EpisodeResult], right: list[EpisodeResult]) -> bool:
    return [(r.index, r.seed, r.episode_id, r.measures) for r in left] == [
        (r.index, r.seed, r.episode_id, r.measures) for r in right
    ]


# -- episodes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_envs", [1, 2, 3, 8])
@pytest.mark.parametrize("split", ["val", "train"])
def test_every_episode_is_played_once_and_ends_the_same_with_any_number_of_environments(
    agent: Agent, split: str, num_envs: int
) -> None:
    seen: list[int] = []
    results = evaluate(
        agent, split, num_envs=num_envs, on_episode=lambda result: seen.append(result.index)
    )
    assert sorted(seen) == [r.index for r in results] == list(range(7))
    if split == "val":
        assert [r.episode_id for r in results] == [e.episode_id for e in val_episodes()]
    assert len({r.measures["steps"] for r in results}) > 3  # they end at different times
    assert same(results, evaluate(agent, split, num_envs=4))


def test_the_seed_chooses_sampled_episodes_and_what_happens_in_fixed_ones(agent: Agent) -> None:
    assert not same(evaluate(agent, "train"), evaluate(agent, "train", seed=4))
    first, second = evaluate(agent), evaluate(agent, seed=4)
    assert [r.episode_id for r in first] == [r.episode_id for r in second]
    assert [r.measures for r in first] != [r.measures for r in second]


def test_fewer_episodes_are_the_first_ones(agent: Agent) -> None:
    assert same(evaluate(agent, episodes=3), evaluate(agent)[:3])


def test_more_episodes_than_there_are_is_an_error(agent: Agent) -> None:
    with pytest.raises(ValueError, match="8 episodes were asked for, and the set holds 7"):
        evaluate(agent, episodes=8)


def test_every_step_is_shown_beginning_with_the_reset(agent: Agent) -> None:
    steps: dict[int, list[tuple[int, bool]]] = {}
    results = evaluate(
        agent,
        on_step=lambda rollout: steps.setdefault(rollout.index, []).append(
            (rollout.steps, rollout.done)
        ),
    )
    for result in results:
        length = int(result.measures["steps"])
        assert steps[result.index] == [(t, t == length) for t in range(length + 1)]


def test_measures_are_the_environment_s_last_ones(agent: Agent) -> None:
    env = FlatTask(split="val")
    (result,) = run_episodes(
        EpisodewisePolicy(ShortestPathPolicy), lambda: FlatTask(split="val"), episodes=1, seed=0
    )
    env.reset(options={"index": 0})
    policy, total, ended = ShortestPathPolicy(env), 0.0, False
    while not ended:
        _, reward, terminated, truncated, info = env.step(policy.act({}))
        total, ended = total + reward, terminated or truncated
    env.close()
    assert result.measures == {
        "success": 1.0,
        "spl": info["spl"],
        "soft_spl": info["soft_spl"],
        "distance_to_goal_m": info["distance_to_goal"],
        "collisions": 0.0,
        "path_length_m": info["path_length"],
        "steps": float(info["steps"]),
        "return": pytest.approx(total),
    }


# -- the agent -----------------------------------------------------------------------------------


def snapshot(agent: Agent) -> dict[str, torch.Tensor]:
    weights = {k: v.clone() for k, v in agent.state_dict().items()}
    return {**weights, "generator": agent.generator.get_state()}


@pytest.mark.parametrize("sample_actions", [False, True])
def test_an_evaluation_leaves_the_agent_as_it_was(agent: Agent, sample_actions: bool) -> None:
    agent.train()
    before, attributes = snapshot(agent), set(vars(agent))
    trained = [p.requires_grad for p in agent.parameters()]
    evaluate(agent, sample_actions=sample_actions)
    after = snapshot(agent)
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert set(vars(agent)) == attributes
    assert agent.training
    assert trained == [p.requires_grad for p in agent.parameters()]


def test_training_goes_on_as_if_there_had_been_no_evaluation() -> None:
    config = flat_config(continuous=True)
    config = replace(config, agent=replace(config.agent, expl_noise=0.3))
    plain, evaluated = agent_for(config), agent_for(config)
    make = partial(FlatTask, split="val", continuous=True)
    evaluate_agent(evaluated, make, episodes=7, seed=0, sample_actions=True)
    generator = torch.Generator().manual_seed(0)
    batch = {
        "pointgoal": torch.rand(2, 4, 2, generator=generator),
        "action": torch.rand(2, 4, 2, generator=generator),
        "reward": torch.rand(2, 4, generator=generator),
        "is_first": torch.zeros(2, 4, dtype=torch.bool),
        "is_terminal": torch.zeros(2, 4, dtype=torch.bool),
    }
    for trained in (plain, evaluated):
        trained.train_step(batch)
    left, right = snapshot(plain), snapshot(evaluated)
    assert all(torch.equal(left[k], right[k]) for k in left)


def test_an_environment_that_fails_leaves_the_agent_as_it_was_and_no_environment_open(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(agent)
    reset = FlatTask.reset

    def fail(self: FlatTask, **options: Any) -> Any:
        if (options.get("options") or {}).get("index") == 5:
            raise RuntimeError("the simulator died")
        return reset(self, **options)

    monkeypatch.setattr(FlatTask, "reset", fail)
    with pytest.raises(RuntimeError, match="the simulator died"):
        evaluate(agent, num_envs=2)
    after = snapshot(agent)
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert FlatTask.closed == 2


@pytest.mark.parametrize("mode", ["sample", "mode"])
def test_an_episode_is_what_the_agent_s_policy_does_step_by_step(agent: Agent, mode: Any) -> None:
    actions: list[int] = []

    class Watched(FlatTask):
        def step(self, action: Any) -> Any:
            actions.append(int(action))
            return super().step(action)

    (result,) = evaluate_agent(
        agent,
        lambda: Watched(split="val"),
        episodes=1,
        seed=5,
        sample_actions=mode == "sample",
    )
    by_hand: list[int] = []
    env, state, ended = FlatTask(split="val"), agent.initial(1), False
    before = agent.generator.get_state()
    agent.generator.manual_seed(result.seed)
    obs, _ = env.reset(seed=result.seed, options={"index": 0})
    while not ended:
        is_first = torch.tensor([not by_hand])
        batch = {"pointgoal": torch.from_numpy(obs["pointgoal"])[None], "is_first": is_first}
        action, state = agent.policy(batch, state, mode)
        by_hand.append(int(action.argmax()))
        obs, _, terminated, truncated, _ = env.step(by_hand[-1])
        ended = terminated or truncated
    env.close()
    agent.generator.set_state(before)
    assert actions == by_hand


@pytest.mark.parametrize(("sample_actions", "expected"), [(False, {3}), (True, {0, 1, 2, 3})])
def test_the_likeliest_action_is_taken_unless_actions_are_sampled(
    sample_actions: bool, expected: set[int]
) -> None:
    leaning = agent_for(flat_config())
    bias = list(leaning.behavior.actor.parameters())[-1]
    with torch.no_grad():
        bias.add_(torch.tensor([-0.5, 0.0, 0.0, 1.5]))  # about 70% for action 3
    chosen = set()

    class Watched(FlatTask):
        def step(self, action: Any) -> Any:
            chosen.add(int(action))
            return super().step(action)

    options = {"episodes": 7, "seed": 0, "sample_actions": sample_actions}
    evaluate_agent(leaning, lambda: Watched(split="val"), **options)  # type: ignore[arg-type]
    assert chosen == expected


# -- baselines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_envs", [1, 4])
def test_the_random_baseline_draws_from_its_episode_s_seed(num_envs: int) -> None:
    def play(count: int) -> list[EpisodeResult]:
        policy = UniformPolicy()
        return run_episodes(policy, lambda: FlatTask(), episodes=9, seed=1, num_envs=count)

    assert same(play(num_envs), play(3))


def test_an_environment_that_must_be_alone_in_its_process_is() -> None:
    made: list[Any] = []

    class Alone(FlatTask):
        one_per_process = True

    def make() -> Any:
        made.append(Alone())
        return made[-1]

    results = run_episodes(UniformPolicy(), make, episodes=5, seed=1, num_envs=4)
    assert len(made) == 1
    assert same(results, run_episodes(UniformPolicy(), FlatTask, episodes=5, seed=1, num_envs=4))


def test_random_actions_know_nothing_of_the_episode_s_own_draws() -> None:
    # A countdown from k, uniform in 1..6, is met by k waits and one end: mean of 2^-(k + 1) is 0.0820, standard
    # error 0.006. Actions drawn from the very stream that drew k scored 0.142.
    results = run_episodes(
        UniformPolicy(),
        lambda: registry.make("dummy", task="terminal", image=False, vector=True),
        episodes=2000,
        seed=0,
    )
    assert np.mean([r.measures["return"] for r in results]) == pytest.approx(0.082, abs=0.024)


def test_greedy_fails_where_the_wall_is_in_the_way_and_the_shortest_path_does_not() -> None:
    def successes(make: Callable[[Any], Any]) -> list[float]:
        results = run_episodes(
            EpisodewisePolicy(make), lambda: FlatTask(split="val"), episodes=7, seed=0, num_envs=3
        )
        return [r.measures["success"] for r in results]

    assert successes(ShortestPathPolicy) == [1.0] * 7
    assert successes(GreedyPolicy) == [float(i not in BLOCKED) for i in range(7)]


# -- the verb ------------------------------------------------------------------------------------


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
