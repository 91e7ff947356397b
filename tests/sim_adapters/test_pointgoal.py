from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from sim_adapters.nav_actions import ActuationNoise
from sim_adapters.pointgoal import Episode, FixedEpisodes, PointGoalEnv, pointgoal
from tests.sim_adapters.flatland import Flatland, NoisyFlatland, SampledEpisodes, episode

STOP, FORWARD, LEFT, RIGHT = range(4)
SQRT5 = math.sqrt(5.0)


def build(one: Episode, **settings: Any) -> PointGoalEnv:
    return PointGoalEnv(Flatland(), FixedEpisodes([one]), **settings)


def play(env: PointGoalEnv, actions: Sequence[Any]) -> tuple[list[float], Any]:
    """The rewards of `actions` from a reset, and the whole last step."""
    env.reset(seed=0)
    steps = [env.step(action) for action in actions]
    return [step[1] for step in steps], steps[-1]


# The sensor


@pytest.mark.parametrize(
    ("heading", "goal", "rho", "phi"),
    [
        (0.0, (2.0, 0.0), 2.0, 0.0),  # ahead
        (0.0, (0.0, 3.0), 3.0, math.pi / 2),  # facing +x, goal at +y: on the left
        (0.0, (0.0, -3.0), 3.0, -math.pi / 2),  # on the right
        (math.pi / 2, (0.0, 3.0), 3.0, 0.0),  # facing +y, goal ahead
        (math.pi / 2, (3.0, 0.0), 3.0, -math.pi / 2),  # facing +y, goal at +x: on the right
        (0.0, (-1.0, 0.0), 1.0, math.pi),  # behind is +pi ...
        (0.0, (-1.0, -0.0), 1.0, math.pi),  # ... also where atan2 says -pi
        (math.pi, (0.0, 1.0), 1.0, -math.pi / 2),  # facing -x, goal at +y: on the right
        (4.0 * math.pi + 0.5, (1.0, 0.0), 1.0, -0.5),  # whole turns do not count
        (-3.0, (3.0 * math.cos(3.0), 3.0 * math.sin(3.0)), 3.0, 6.0 - 2.0 * math.pi),
    ],
)
def test_pointgoal_is_polar_with_left_positive(
    heading: float, goal: tuple[float, float], rho: float, phi: float
) -> None:
    reading = pointgoal((0.0, 0.0, 0.0), heading, (*goal, 0.0))
    assert reading.dtype == np.float32
    assert reading == pytest.approx([rho, phi], abs=1e-6)


def test_pointgoal_ignores_height() -> None:
    assert pointgoal((0.0, 0.0, 1.0), 0.0, (3.0, 4.0, 9.0))[0] == 5.0


def test_a_left_turn_moves_the_goal_to_the_right() -> None:
    env = build(episode((2.0, 1.0)), turn_deg=30.0)
    env.reset(seed=0)
    observation = env.step(LEFT)[0]
    assert observation["pointgoal"] == pytest.approx([1.0, -math.pi / 6], abs=1e-6)


def test_the_observation_has_the_images_and_the_goal() -> None:
    env = build(episode((2.0, 1.0)))
    observation, info = env.reset(seed=0)
    assert set(observation) == {"depth", "pointgoal"}
    assert env.observation_space.contains(observation)
    assert info == {"episode_id": "0", "scene_id": "square", "geodesic_distance": 1.0}


# Reward and measures, with habitat's constants


def test_the_straight_way_to_the_goal_is_worth_its_length_and_the_bonus() -> None:
    # (1, 1) -> (2, 1) in four steps of 0.25 m: each 0.25 - 0.01; stop: 0 - 0.01 + 2.5.
    rewards, last = play(build(episode((2.0, 1.0))), [FORWARD] * 4 + [STOP])
    assert rewards == pytest.approx([0.24, 0.24, 0.24, 0.24, 2.49])
    _, _, terminated, truncated, info = last
    assert (terminated, truncated) == (True, False)
    assert info["success"] == 1.0
    assert info["spl"] == pytest.approx(1.0)
    assert info["soft_spl"] == pytest.approx(1.0)
    assert info["path_length"] == pytest.approx(1.0)
    assert info["distance_to_goal"] == pytest.approx(0.0)
    assert (info["steps"], info["collisions"], info["collided"]) == (5, 0, False)


def test_a_detour_halves_spl() -> None:
    # l = 0.5 to (1.5, 1). Left, forward to (1, 1.25), right, twice forward to (1.5, 1.25),
    # right, forward to (1.5, 1), stop: p = 4 * 0.25 = 1, SPL = 0.5 / 1.
    actions = [LEFT, FORWARD, RIGHT, FORWARD, FORWARD, RIGHT, FORWARD, STOP]
    rewards, last = play(build(episode((1.5, 1.0)), turn_deg=90.0), actions)
    assert last[4]["spl"] == pytest.approx(0.5)
    assert last[4]["soft_spl"] == pytest.approx(0.5)
    # Turning costs the slack; the first step away: sqrt(0.5^2 + 0.25^2) = 0.559017 m to go.
    assert rewards[0] == pytest.approx(-0.01)
    assert rewards[1] == pytest.approx(0.5 - 0.559017 - 0.01, abs=1e-6)
    # Progress telescopes: 0.5 - 8 * 0.01 + 2.5.
    assert sum(rewards) == pytest.approx(2.92)


def test_stopping_too_far_away_ends_the_episode_without_success() -> None:
    # Three steps of four: 0.25 m left, not below 0.2. SoftSPL = (1 - 0.25) * 1 / max(0.75, 1).
    rewards, last = play(build(episode((2.0, 1.0))), [FORWARD] * 3 + [STOP])
    assert rewards[-1] == pytest.approx(-0.01)
    assert (last[2], last[3]) == (True, False)
    assert last[4]["success"] == 0.0
    assert last[4]["spl"] == 0.0
    assert last[4]["soft_spl"] == pytest.approx(0.75)


def test_success_needs_less_than_the_success_distance() -> None:
    # 0.25 m left, exactly (these numbers are exact in binary).
    for limit, success in ((0.25, 0.0), (0.2500001, 1.0)):
        env = build(episode((1.5, 1.0)), success_distance_m=limit)
        assert play(env, [FORWARD, STOP])[1][4]["success"] == success


def test_passing_the_goal_without_stop_is_no_success() -> None:
    _, last = play(build(episode((1.5, 1.0))), [FORWARD, FORWARD, FORWARD])
    assert (last[2], last[4]["success"]) == (False, 0.0)


def test_progress_is_geodesic_and_not_straight() -> None:
    # From (1, 1) to (3, 1) through the end (2, 3) of the gap: 2 sqrt(1 + 4) = 4.472136 m. At
    # (1.25, 1): sqrt(0.75^2 + 4) + sqrt(5) = 2.136001 + 2.236068.
    env = build(episode((3.0, 1.0), scene="gap"))
    info = env.reset(seed=0)[1]
    assert info["geodesic_distance"] == pytest.approx(2.0 * SQRT5)
    reward = env.step(FORWARD)[1]
    assert reward == pytest.approx(2.236068 - 2.136001 - 0.01, abs=1e-6)


def test_success_is_measured_along_the_floor_and_not_through_the_wall() -> None:
    # At (1.9, 1) the goal (2.05, 1) is 0.15 m away through the wall, 4 m and more around it.
    one = episode((2.05, 1.0), start=(1.9, 1.0), scene="gap")
    assert play(build(one), [STOP])[1][4]["success"] == 0.0


def test_a_collision_is_counted_and_costs_what_it_is_set_to() -> None:
    # The wall is 0.1 m ahead of (1.9, 1). First forward: 0.1 m (less the simulator's 1e-6 m),
    # second: nothing. A turn in between touches nothing.
    one = episode((3.0, 1.0), start=(1.9, 1.0), scene="gap")
    env = build(one, collision_penalty=0.1)
    rewards, last = play(env, [FORWARD, LEFT, RIGHT, FORWARD])
    before, after = math.hypot(0.1, 2.0), 2.0  # to the end of the gap
    assert rewards[0] == pytest.approx(before - after - 0.01 - 0.1, abs=1e-5)
    assert rewards[1] == pytest.approx(-0.01, abs=1e-5)
    assert rewards[3] == pytest.approx(-0.01 - 0.1, abs=1e-5)
    assert last[4]["collisions"] == 2
    assert last[4]["collided"] is True
    assert last[4]["path_length"] == pytest.approx(0.1, abs=1e-5)


def test_collisions_cost_nothing_by_default() -> None:
    one = episode((3.0, 1.0), start=(2.0 - 1e-6, 1.0), scene="gap")
    rewards, last = play(build(one), [FORWARD])
    assert last[4]["collided"] is True
    assert rewards == pytest.approx([-0.01], abs=1e-5)


def test_a_collision_of_a_continuous_action_is_counted() -> None:
    # The arc is driven as chord and turn: what the chord touches counts, the turn touches nothing.
    one = episode((3.0, 1.0), start=(1.9, 1.0), scene="gap")
    _, last = play(build(one, actions="continuous"), [np.array([1.0, 0.1])])
    assert (last[4]["collisions"], last[4]["collided"]) == (1, True)


# Ends


def test_the_time_limit_truncates_and_does_not_terminate() -> None:
    env = build(episode((2.0, 1.0)), max_steps=3)
    env.reset(seed=0)
    assert [env.step(LEFT)[2:4] for _ in range(3)] == [
        (False, False),
        (False, False),
        (False, True),
    ]


def test_stop_at_the_last_step_terminates_and_does_not_truncate() -> None:
    _, last = play(build(episode((1.25, 1.0)), max_steps=2), [FORWARD, STOP])
    assert (last[2], last[3], last[4]["success"]) == (True, False, 1.0)


def test_the_default_time_limit_is_500_steps() -> None:
    env = build(episode((2.0, 1.0)))
    env.reset(seed=0)
    ends = [any(env.step(LEFT)[2:4]) for _ in range(500)]
    assert ends.index(True) == 499


def test_a_step_after_the_time_limit_is_refused() -> None:
    env = build(episode((2.0, 1.0)), max_steps=1)
    play(env, [LEFT])
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(LEFT)


def test_a_step_after_the_end_is_refused() -> None:
    env = build(episode((2.0, 1.0)))
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(FORWARD)
    play(env, [STOP])
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(FORWARD)


# Without stop, as in iGibson


def test_without_stop_arrival_ends_the_episode() -> None:
    # After three steps 0.25 m are left, less than 0.36; the bonus comes with that step.
    env = build(episode((2.0, 1.0)), require_stop=False, success_distance_m=0.36)
    assert env.action_space == spaces.Discrete(3)
    rewards, last = play(env, [0, 0, 0])
    assert rewards == pytest.approx([0.24, 0.24, 2.74])
    assert (last[2], last[3], last[4]["success"]) == (True, False, 1.0)
    assert last[4]["spl"] == pytest.approx(1.0)


def test_without_stop_the_straight_distance_counts() -> None:
    # Like iGibson's, it looks through walls: (1.8, 1) is 0.3 m from (2.1, 1).
    one = episode((2.1, 1.0), start=(1.7, 1.0), scene="gap")
    env = build(one, require_stop=False, success_distance_m=0.36, forward_m=0.1)
    assert play(env, [0])[1][2] is True


def test_the_constants_are_settings() -> None:
    env = build(
        episode((2.0, 1.0)),
        require_stop=False,
        success_distance_m=0.36,
        slack_reward=0.0,
        success_reward=10.0,
    )
    assert play(env, [0, 0, 0])[0] == pytest.approx([0.25, 0.25, 10.25])


# Continuous actions


def test_continuous_actions_drive_and_stop() -> None:
    env = build(episode((1.5, 1.0)), actions="continuous", max_speed_mps=0.5)
    assert env.action_space == spaces.Box(-1.0, 1.0, (2,), np.float32)
    rewards, last = play(env, [np.array([1.0, 0.0]), np.array([-1.0, 0.0])])
    assert rewards == pytest.approx([0.49, 2.49])
    assert (last[2], last[4]["success"]) == (True, 1.0)


def test_positive_angular_velocity_turns_left() -> None:
    env = build(episode((2.0, 1.0)), actions="continuous", max_turn_rate_dps=30.0)
    env.reset(seed=0)
    observation = env.step(np.array([-1.0, 1.0], np.float32))[0]
    assert observation["pointgoal"] == pytest.approx([1.0, -math.pi / 6], abs=1e-6)


def test_without_stop_a_standing_robot_goes_on() -> None:
    env = build(episode((2.0, 1.0)), actions="continuous", require_stop=False)
    assert play(env, [np.array([-1.0, 0.0])] * 2)[1][2:4] == (False, False)


# Episodes and seeds


def three() -> FixedEpisodes:
    return FixedEpisodes([episode((2.0, 1.0), name=name) for name in "abc"])


def names(env: PointGoalEnv, resets: Sequence[int | None]) -> list[str]:
    return [env.reset(seed=seed)[1]["episode_id"] for seed in resets]


def test_fixed_episodes_come_in_order_and_start_again() -> None:
    assert names(PointGoalEnv(Flatland(), three()), [None] * 4) == ["a", "b", "c", "a"]


def test_a_seed_names_a_fixed_episode() -> None:
    env = PointGoalEnv(Flatland(), three())
    assert names(env, [1, None, 1, 5, 0]) == ["b", "c", "b", "c", "a"]


def test_an_index_names_a_fixed_episode() -> None:
    env = PointGoalEnv(Flatland(), three())
    assert env.reset(seed=0, options={"index": 2})[1]["episode_id"] == "c"
    assert env.reset(options={"index": 1})[1]["episode_id"] == "b"
    assert env.reset()[1]["episode_id"] == "c"
    with pytest.raises(IndexError, match=r"\[0, 3\), got 3"):
        env.reset(options={"index": 3})


def test_wrong_reset_options_are_refused() -> None:
    env = PointGoalEnv(Flatland(), SampledEpisodes())
    with pytest.raises(ValueError, match="needs FixedEpisodes"):
        env.reset(options={"index": 0})
    with pytest.raises(ValueError, match="'idx'"):
        env.reset(options={"idx": 0})


def test_no_episodes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FixedEpisodes([])


def trace(env: PointGoalEnv, seed: int) -> list[Any]:
    observation, info = env.reset(seed=seed)
    seen: list[Any] = [observation["depth"].tolist(), observation["pointgoal"].tolist(), info]
    for action in [FORWARD, LEFT, FORWARD, RIGHT, FORWARD, FORWARD]:
        observation, reward, _, _, info = env.step(action)
        seen += [observation["depth"].tolist(), observation["pointgoal"].tolist(), reward, info]
    return seen


def noisy() -> PointGoalEnv:
    noise = ActuationNoise(forward_std_m=0.02, turn_std_deg=2.0)
    return PointGoalEnv(NoisyFlatland(), SampledEpisodes(), noise=noise)


def test_a_seed_fixes_the_whole_episode_whatever_came_before() -> None:
    env = noisy()
    first = trace(env, 7)
    env.reset()
    env.step(FORWARD)
    assert trace(env, 8) != first
    assert trace(env, 7) == first
    assert trace(noisy(), 7) == first


def test_unseeded_episodes_differ_and_follow_from_the_last_seed() -> None:
    def ids(env: PointGoalEnv) -> list[str]:
        return names(env, [3, None, None, None])

    assert len(set(ids(noisy()))) == 4
    assert ids(noisy()) == ids(noisy())


def test_actuation_noise_moves_the_robot_off_its_course() -> None:
    noise = ActuationNoise(forward_std_m=0.05, turn_std_deg=5.0)
    env = build(episode((2.0, 1.0)), noise=noise)
    env.reset(seed=0)
    env.step(FORWARD)
    x, y, _ = env.simulator.position
    assert 1e-6 < abs(x - 1.25) < 0.2
    assert abs(y - 1.0) > 1e-6


# Errors


def test_an_unreachable_goal_is_named() -> None:
    env = build(episode((3.0, 1.0), scene="sealed", name="e7"))
    with pytest.raises(ValueError, match=r"'e7' of scene 'sealed': no path .* choose another"):
        env.reset(seed=0)


def test_a_simulator_that_loses_the_robot_is_told_apart() -> None:
    env = build(episode((3.0, 1.0), scene="gap"))
    env.reset(seed=0)
    env.simulator.load_scene("sealed")
    with pytest.raises(RuntimeError, match="must be finite wherever"):
        env.step(FORWARD)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"actions": "both"}, "'discrete' or 'continuous', got 'both'"),
        ({"max_steps": 0}, "max_steps >= 1"),
        ({"success_distance_m": 0.0}, "must be > 0"),
        ({"turn_deg": -30.0}, "turn_deg"),
        ({"render_mode": "human"}, "'rgb_array'"),
    ],
)
def test_a_wrong_setting_is_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(episode((2.0, 1.0)), **settings)


# Rendering


def test_render_shows_depth_in_gray() -> None:
    env = build(episode((4.0, 1.0)), render_mode="rgb_array")
    env.reset(seed=0)
    frame = env.render()  # depth 3 m of 10 m: 0.3 * 255 = 76
    assert frame is not None
    assert frame.shape == (4, 4, 3)
    assert frame.dtype == np.uint8
    assert np.all(frame == 76)


def test_close_closes_the_simulator() -> None:
    simulator = Flatland()
    PointGoalEnv(simulator, three()).close()
    assert simulator.closed == 1
