from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sim_adapters.dummy import make_dummy
from sim_adapters.nav_actions import ActuationNoise
from sim_adapters.nav_baselines import (
    GreedyPolicy,
    RandomPolicy,
    ShortestPathPolicy,
    run_episode,
)
from sim_adapters.pointgoal import FixedEpisodes, PointGoalEnv
from tests.sim_adapters.flatland import Flatland, SampledEpisodes, episode

IGIBSON: dict[str, Any] = {"require_stop": False, "success_distance_m": 0.36}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"turn_deg": 10.0},
    IGIBSON,
    {"actions": "continuous"},
    {"actions": "continuous", "min_speed_mps": -0.25, **IGIBSON},
]


def sampled(**settings: Any) -> PointGoalEnv:
    return PointGoalEnv(Flatland(), SampledEpisodes(), **settings)


def behind_the_wall() -> FixedEpisodes:
    """The straight way is blocked; the way through the gap is 2 sqrt(5) = 4.47 m long."""
    return FixedEpisodes([episode((3.0, 1.0), scene="gap")])


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_shortest_path_policy_reaches_every_goal_almost_on_the_geodesic(settings: Any) -> None:
    env = sampled(**settings)
    policy = ShortestPathPolicy(env)
    # Seeds 0-3 draw both scenes; planning continuous actions takes ten times as long.
    count = 4 if "actions" in settings else 8
    results = [run_episode(env, policy, seed=seed) for seed in range(count)]
    assert {r["scene_id"] for r in results} == {"square", "gap"}
    assert [r["success"] for r in results] == [1.0] * count
    # A heading grid of 30 degrees alone costs up to 1 / cos 15 degrees = 1.035.
    assert np.mean([r["spl"] for r in results]) > 0.95
    assert min(r["spl"] for r in results) > 0.85
    assert sum(r["collisions"] for r in results) == 0


def test_the_shortest_path_policy_goes_around_the_wall_and_greedy_does_not() -> None:
    env = PointGoalEnv(Flatland(), behind_the_wall())
    best = run_episode(env, ShortestPathPolicy(env))
    # An exhaustive search finds 4.75 m (19 steps) here: steps of 0.25 m at multiples of 30 degrees.
    assert best["success"] == 1.0
    assert 4.2 < best["path_length"] < 1.15 * 2.0 * math.sqrt(5.0)
    greedy = run_episode(env, GreedyPolicy(env))
    assert greedy["success"] == 0.0
    assert (greedy["steps"], greedy["collisions"]) == (500, 496)  # four free steps to the wall


def test_the_shortest_path_policy_copes_with_noise() -> None:
    noise = ActuationNoise(forward_std_m=0.02, turn_std_deg=3.0)
    env = sampled(noise=noise)
    policy = ShortestPathPolicy(env)
    results = [run_episode(env, policy, seed=seed) for seed in range(8)]
    assert [r["success"] for r in results] == [1.0] * 8
    assert np.mean([r["spl"] for r in results]) > 0.9


def test_a_robot_that_was_pushed_off_its_course_gets_a_new_plan() -> None:
    env = PointGoalEnv(Flatland(), FixedEpisodes([episode((2.5, 1.0))]))
    policy = ShortestPathPolicy(env)
    env.reset(seed=0)
    assert policy.act({}) == 1  # the goal is straight ahead
    env.simulator.set_pose((1.25, 1.0, 0.0), math.pi)  # it should look along +x there
    assert policy.act({}) in (2, 3)
    env.simulator.set_pose((2.5, 3.0, 0.0), -math.pi / 2)
    assert policy.act({}) == 1


def test_looking_ahead_leaves_the_robot_where_it_is() -> None:
    env = sampled()
    observation, _ = env.reset(seed=0)
    before = (env.simulator.position.tolist(), env.simulator.heading)
    ShortestPathPolicy(env).act(observation)
    assert (env.simulator.position.tolist(), env.simulator.heading) == before


def test_the_shortest_path_policy_plans_anew_for_every_episode() -> None:
    env = sampled()
    policy = ShortestPathPolicy(env)
    env.reset(seed=0)
    policy.act({})  # leaves the rest of a plan behind
    assert run_episode(env, policy, seed=1) == run_episode(env, ShortestPathPolicy(env), seed=1)


@pytest.mark.parametrize("settings", SETTINGS)
def test_greedy_reaches_goals_in_the_open(settings: Any) -> None:
    episodes = [
        episode((1.0 + 2.0 * math.cos(a), 1.5 + math.sin(a)), heading=4.0 * a)
        for a in np.linspace(0.0, math.pi, 7)
        if 1.0 + 2.0 * math.cos(a) > 0.3
    ]
    env = PointGoalEnv(Flatland(), FixedEpisodes(episodes), **settings)
    policy = GreedyPolicy(env)
    results = [run_episode(env, policy, options={"index": i}) for i in range(len(episodes))]
    assert [r["success"] for r in results] == [1.0] * len(episodes)
    assert min(r["spl"] for r in results) > 0.8


def test_greedy_does_not_dither_between_two_headings_equally_far_off() -> None:
    # The goal is 15 degrees to the left; after a left turn of 30 it is 15 to the right.
    for degrees in (15.0, -15.0):
        goal = (1.0 + math.cos(math.radians(degrees)), 2.0 + math.sin(math.radians(degrees)))
        env = PointGoalEnv(Flatland(), FixedEpisodes([episode(goal, start=(1.0, 2.0))]))
        assert run_episode(env, GreedyPolicy(env))["success"] == 1.0


@pytest.mark.parametrize(
    ("rho", "phi_deg", "action"),
    [(0.19, 90, 0), (0.21, 0, 1), (2, 14, 1), (2, -14, 1), (2, 16, 2), (2, -16, 3), (2, 180, 2)],
)
def test_greedy_needs_the_goal_in_the_robots_frame_only(
    rho: float, phi_deg: float, action: int
) -> None:
    policy = GreedyPolicy(sampled())
    reading = np.array([rho, math.radians(phi_deg)], np.float32)
    assert policy.act({"pointgoal": reading}) == action


def test_greedy_never_stops_by_going_slowly() -> None:
    # Actions of 10 s: to cover the last 0.21 m takes 0.021 m/s, which would be read as stop.
    env = sampled(actions="continuous", step_s=10.0)
    action = GreedyPolicy(env).act({"pointgoal": np.array([0.21, 0.0], np.float32)})
    assert env.actions.motions(action) is not None


def test_random_actions_are_uniform() -> None:
    policy = RandomPolicy(sampled(), seed=0)
    counts = np.bincount([policy.act({}) for _ in range(4000)], minlength=4)
    # 1000 expected of each, standard deviation sqrt(4000 * 0.25 * 0.75) = 27.
    assert np.all(np.abs(counts - 1000) < 110)
    continuous = RandomPolicy(sampled(actions="continuous"), seed=0)
    draws = np.array([continuous.act({}) for _ in range(4000)])
    assert draws.shape == (4000, 2)
    # Of a uniform variable on [-1, 1]: standard deviation 1 / sqrt(3) = 0.577.
    assert np.abs(draws.mean(axis=0)).max() < 0.04
    assert draws.std(axis=0) == pytest.approx([0.577, 0.577], abs=0.02)


def test_a_random_policy_follows_from_its_seed() -> None:
    env = sampled()
    a, b, c = (RandomPolicy(env, seed) for seed in (1, 1, 2))
    draws = [[p.act({}) for _ in range(30)] for p in (a, b, c)]
    assert draws[0] == draws[1] != draws[2]


def test_other_environments_are_refused() -> None:
    with pytest.raises(TypeError, match="need a NavigationTask, got Bandit"):
        GreedyPolicy(make_dummy("bandit"))


def test_run_episode_adds_the_return() -> None:
    env = PointGoalEnv(Flatland(), FixedEpisodes([episode((2.0, 1.0))]))
    result = run_episode(env, GreedyPolicy(env))
    # Four steps forward, then stop: |1 - 4 * 0.25| is within 0.2 m after the fourth.
    assert result["steps"] == 5
    assert result["return"] == pytest.approx(1.0 - 5 * 0.01 + 2.5)
