"""`HabitatEnv` on Bullet-v0: the contract of our adapters, and habitat-lab's measures against ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sim_adapters.check import check_env
from sim_adapters.habitat.nav_simulator import HabitatNavSimulator
from sim_adapters.nav_baselines import GreedyPolicy, ShortestPathPolicy, run_episode
from sim_adapters.nav_measures import Measures
from sim_adapters.pointgoal import NavigationTask, pointgoal
from sim_adapters.registry import make

STOP, FORWARD, LEFT, RIGHT = range(4)
VELOCITY = (
    "habitat/task/actions=[velocity_control]",
    "habitat.task.actions.velocity_control.ang_vel_range=[-30.0,30.0]",
)


@pytest.mark.parametrize("overrides", [(), VELOCITY], ids=["discrete", "velocity"])
def test_the_adapter_keeps_its_promises(options: Callable[..., Any], overrides: Any) -> None:
    settings = options(*overrides, max_steps=25)
    check_env(lambda: make("habitat", **settings), steps=40)


def test_observations_are_named_as_everywhere_here(make_env: Any) -> None:
    env = make_env(sensors=["depth"])
    assert isinstance(env, NavigationTask)
    assert list(env.observation_space.spaces) == ["depth", "pointgoal"]
    observation, info = env.reset(options={"index": 5})
    assert observation["depth"].shape == (64, 64, 1)
    assert info["scene_id"] == "apartment-val-00001"
    goal = env.episode.goal_position
    expected = pointgoal(env.simulator.position, env.simulator.heading, goal)
    np.testing.assert_allclose(observation["pointgoal"], expected, atol=1e-5)


def test_the_goal_is_left_when_phi_is_positive(make_env: Any) -> None:
    env = make_env()
    env.stop_rendering()
    env.reset(options={"index": 0})
    for _ in range(36):
        _, phi = env.step(LEFT)[0]["pointgoal"]
        if 0.3 < phi < 2.5:
            break
    assert env.step(LEFT)[0]["pointgoal"][1] == pytest.approx(phi - np.radians(10), abs=1e-5)
    assert env.step(RIGHT)[0]["pointgoal"][1] == pytest.approx(phi, abs=1e-5)


def test_time_out_truncates_and_stop_terminates(make_env: Any) -> None:
    env = make_env(max_steps=3)
    env.reset(options={"index": 0})
    assert [env.step(LEFT)[2:4] for _ in range(3)] == [(False, False)] * 2 + [(False, True)]
    env.reset(options={"index": 0})
    assert env.step(STOP)[2:4] == (True, False)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(LEFT)


def test_a_stop_at_the_time_limit_is_a_stop(make_env: Any) -> None:
    env = make_env(max_steps=2)
    env.reset(options={"index": 0})
    env.step(LEFT)
    assert env.step(STOP)[2:4] == (True, False)


def test_the_last_observation_is_of_the_last_state(make_env: Any) -> None:
    env = make_env(max_steps=4)
    env.reset(options={"index": 0})
    for _ in range(4):
        observation, _, _, truncated, _ = env.step(LEFT)
    assert truncated
    here = pointgoal(env.simulator.position, env.simulator.heading, env.episode.goal_position)
    np.testing.assert_allclose(observation["pointgoal"], here, atol=1e-5)
    np.testing.assert_array_equal(observation["rgb"], env.sim.step(None)["rgb"])


def test_an_index_plays_the_episode_of_the_files_whatever_was_played_before(make_env: Any) -> None:
    first, second = make_env(split="train"), make_env(split="train")
    second.reset(seed=3)
    second.reset()
    assert len(first.episodes) == 10
    for index in (7, 0, 9):
        (a, names), (b, again) = (e.reset(options={"index": index}) for e in (first, second))
        assert names == again
        np.testing.assert_array_equal(a["depth"], b["depth"])
    assert names["episode_id"] == "9"
    with pytest.raises(IndexError, match=r"in \[0, 10\), got 10"):
        first.reset(options={"index": 10})


def test_the_order_follows_from_the_seed(make_env: Any) -> None:
    env = make_env(split="train")
    env.stop_rendering()

    def order(seed: int) -> list[str]:
        return [env.reset(seed=seed if k == 0 else None)[1]["episode_id"] for k in range(10)]

    first = order(0)
    assert sorted(first) == sorted(str(n) for n in range(10))
    assert order(0) == first
    assert any(order(seed) != first for seed in (1, 2, 3))


def test_habitats_measures_are_ours_on_the_same_trajectories(make_env: Any) -> None:
    env = make_env(max_steps=60)
    env.stop_rendering()
    rng = np.random.default_rng(0)
    planner = ShortestPathPolicy(env)
    collided = 0
    for index in range(12):
        observation, info = env.reset(options={"index": index})
        planner.reset()
        ours = Measures(env.simulator.position, info["geodesic_distance"])
        before, ended = info["geodesic_distance"], False
        while not ended:
            wander = index % 2 == 1 and rng.random() < 0.6
            action = int(rng.integers(1, 4)) if wander else planner.act(observation)
            observation, reward, terminated, truncated, info = env.step(action)
            position = env.simulator.position
            distance = env.simulator.distance_to_goal(position)
            success = terminated and distance < 0.2
            progress = ours.update(position, distance, collided=info["collided"], success=success)
            # habitat-lab measures the distance anew only when the robot has moved 0.1 mm and more.
            assert reward == pytest.approx(progress - 0.01 + 2.5 * success, abs=5e-4)
            ended = terminated or truncated
        expected = ours.info()
        for key in Measures.KEYS:
            assert info[key] == pytest.approx(expected[key], abs=5e-4), key
        collided += info["collisions"]
        assert info["distance_to_goal"] != before
    assert collided > 0


@pytest.mark.parametrize("overrides", [(), VELOCITY], ids=["discrete", "velocity"])
def test_the_shortest_path_is_followed_to_every_goal(make_env: Any, overrides: Any) -> None:
    env = make_env(*overrides)
    env.stop_rendering()
    policy = ShortestPathPolicy(env)
    played = [run_episode(env, policy, options={"index": i}) for i in range(0, 12, 2)]
    assert [info["success"] for info in played] == [1.0] * 6
    assert np.mean([info["spl"] for info in played]) > 0.93
    assert sum(info["collisions"] for info in played) <= 2


def test_going_straight_does_not_do(make_env: Any) -> None:
    env = make_env(max_steps=200)
    env.stop_rendering()
    policy = GreedyPolicy(env)
    played = [run_episode(env, policy, options={"index": i})["success"] for i in range(12)]
    assert 0.0 < np.mean(played) < 0.9


def test_the_general_view_of_a_simulator_is_the_same_as_bullets_own(make_env: Any) -> None:
    env = make_env()
    env.stop_rendering()
    env.reset(options={"index": 2})
    general, own = HabitatNavSimulator(env.sim), env.simulator
    general.set_goal(env.episode.goal_position)
    rng = np.random.default_rng(1)
    collided = 0
    for _ in range(200):
        pose = own.position, own.heading
        np.testing.assert_allclose(general.position, pose[0], atol=1e-9)
        forward, turn = (0.25, 0.0) if rng.random() < 0.7 else (0.0, float(rng.uniform(-1, 1)))
        touched = own.move(forward, turn)
        end = own.position, own.heading
        own.set_pose(*pose)
        assert general.move(forward, turn) == touched
        collided += touched
        np.testing.assert_allclose(general.position, end[0], atol=1e-5)
        assert general.heading == pytest.approx(end[1], abs=1e-6)
        distance = own.distance_to_goal(own.position)
        assert general.distance_to_goal(general.position) == pytest.approx(distance)
    assert collided > 10
    path = own.shortest_path(own.position)
    np.testing.assert_allclose(general.shortest_path(general.position), path, atol=1e-5)


def test_the_general_map_is_free_at_the_robot_and_the_goal(make_env: Any) -> None:
    env = make_env()
    env.stop_rendering()
    env.reset(options={"index": 2})
    picture, low, pixels_per_m = HabitatNavSimulator(env.sim).top_down(200)
    assert max(picture.shape[:2]) in (200, 201)
    for point in (env.simulator.position, env.episode.goal_position):
        column, row = (np.array(point[:2]) - low) * pixels_per_m
        assert tuple(picture[int(picture.shape[0] - row), int(column)]) == (235, 235, 235)


def test_pictures_are_resized_by_area(make_env: Any) -> None:
    wide = make_env(image_size=[90, 160])
    small = make_env(image_size=[90, 160], resize=64)
    observation, _ = wide.reset(options={"index": 0})
    resized, _ = small.reset(options={"index": 0})
    assert resized["rgb"].shape == (64, 64, 3)
    assert resized["depth"].shape == (64, 64, 1)
    assert small.observation_space.contains(resized)
    assert resized["depth"].mean() == pytest.approx(observation["depth"].mean(), abs=1e-3)


def test_other_action_sets_are_played_but_not_planned(make_env: Any) -> None:
    env = make_env("habitat/task/actions=[move_forward,turn_left,turn_right,stop]")
    env.reset(options={"index": 0})
    assert env.step(3)[2:4] == (True, False)
    with pytest.raises(ValueError, match="can be planned with"):
        env.actions  # noqa: B018
