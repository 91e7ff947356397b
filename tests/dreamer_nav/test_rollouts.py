"""Episodes that a policy plays: which they are, what they leave behind, and the policies that know the task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from dreamer_nav.agent import Agent
from dreamer_nav.evaluate import evaluate_agent
from dreamer_nav.rollouts import EpisodeResult, EpisodewisePolicy, UniformPolicy, run_episodes
from sim_adapters import registry
from sim_adapters.nav_baselines import GreedyPolicy, ShortestPathPolicy
from sim_adapters.registry import Entry
from tests.dreamer_nav.flat_task import (
    BLOCKED,
    ENTRY,
    FlatTask,
    agent_for,
    flat_config,
    val_episodes,
)

pytestmark = pytest.mark.usefixtures("flat_task")


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._ENTRIES, "flat", Entry(ENTRY, "pip install flat", "", ()))
        yield agent_for(flat_config())


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
