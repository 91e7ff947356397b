"""The environment: a function of its seed, passes the checks, and as hard as it is meant to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pybullet")
pytest.importorskip("scipy")

import sim_adapters
from sim_adapters import registry
from sim_adapters.bullet.env import BulletPointGoalEnv
from sim_adapters.check import check_env
from sim_adapters.episodes import save_episodes
from sim_adapters.nav_baselines import GreedyPolicy, ShortestPathPolicy, run_episode


def _rollout(env: BulletPointGoalEnv, seed: int) -> list[dict[str, np.ndarray]]:
    observation, info = env.reset(seed=seed)
    frames = [{**observation, "goal": np.array(info["geodesic_distance"])}]
    for action in (2, 1, 1, 3, 1, 1):
        observation, reward, *_ = env.step(action)
        frames.append({**observation, "reward": np.array(reward)})
    return frames


@pytest.mark.parametrize(
    "options",
    [
        {"sensors": ["depth", "rgb"]},
        {"tier": "apartment", "depth_noise_m": 0.01, "depth_dropout": 0.01},
        {"forward_noise_m": 0.02, "turn_noise_deg": 2.0},
    ],
)
def test_the_same_seed_gives_the_same_frames_whatever_came_before(options: dict) -> None:
    first, other = BulletPointGoalEnv(**options), BulletPointGoalEnv(**options)
    _rollout(other, 99)
    wanted = _rollout(first, 7)
    for a, b in zip(wanted, _rollout(other, 7), strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert np.array_equal(a[key], b[key])
    different = _rollout(other, 8)
    assert not np.array_equal(wanted[0]["depth"], different[0]["depth"])
    first.close()
    other.close()


def test_noise_options_do_what_they_say() -> None:
    clean = BulletPointGoalEnv(image_size=16)
    noisy = BulletPointGoalEnv(image_size=16, depth_noise_m=0.01)
    drifting = BulletPointGoalEnv(image_size=16, turn_noise_deg=3.0)
    frames = [_rollout(env, 3) for env in (clean, noisy, drifting)]
    error = np.abs(frames[1][0]["depth"] - frames[0][0]["depth"])
    assert 0 < error.max() < 1.0
    assert np.array_equal(frames[2][0]["depth"], frames[0][0]["depth"])
    assert not np.array_equal(frames[2][1]["pointgoal"], frames[0][1]["pointgoal"])
    for env in (clean, noisy, drifting):
        env.close()


@pytest.mark.parametrize(
    "options",
    [
        {"max_steps": 15},
        {"actions": "continuous", "sensors": ["rgb"], "split": "val", "max_steps": 15},
        {"require_stop": False, "tier": "apartment", "max_steps": 15},
    ],
)
def test_it_passes_the_environment_checks(options: dict) -> None:
    check_env(lambda: BulletPointGoalEnv(image_size=16, **options), steps=20)


def test_it_is_registered_and_takes_the_options_of_the_task() -> None:
    env = sim_adapters.make("bullet", image_size=16, max_steps=3, turn_deg=10.0)
    env.reset(seed=0)
    for _ in range(3):
        *_, truncated, _ = env.step(2)
    assert truncated
    assert env.simulator.size == (16, 16)  # type: ignore[attr-defined]
    env.close()
    with pytest.raises(registry.UnknownOption, match="image_size"):
        sim_adapters.make("bullet", image_siz=16)


def test_validation_goes_through_its_fixed_episodes() -> None:
    env = BulletPointGoalEnv(split="val", image_size=8)
    names = []
    for index in (0, 1, 2):
        _, info = env.reset(options={"index": index})
        names.append(info["scene_id"])
        assert info["scene_id"].startswith("room-val-")
    assert len(set(names)) == 3
    env.close()


def test_training_scenes_are_never_validation_scenes() -> None:
    env = BulletPointGoalEnv(image_size=8)
    seen = {env.reset(seed=k)[1]["scene_id"] for k in range(15)}
    assert len(seen) > 10
    assert all(name.startswith("room-train-") for name in seen)
    env.close()


def test_a_single_scene_and_an_episode_file_can_be_asked_for(tmp_path: Path) -> None:
    env = BulletPointGoalEnv(scene="apartment-train-00005", image_size=8)
    env.reset(seed=0)
    assert env.episode is not None
    assert env.episode.scene_id == "apartment-train-00005"
    file = tmp_path / "mine.json.gz"
    save_episodes(file, [env.episode])
    again = BulletPointGoalEnv(episodes=str(file), image_size=8)
    _, info = again.reset()
    assert info["scene_id"] == "apartment-train-00005"
    assert info["geodesic_distance"] == pytest.approx(env.episode.geodesic_distance, abs=1e-6)
    for each in (env, again):
        each.close()


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tier"):
        BulletPointGoalEnv(tier="castle")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json\.gz"):
        BulletPointGoalEnv(episodes=str(tmp_path / "nowhere.json.gz"))


def _success(tier: str, policy: type, indices: range) -> float:
    # Neither ever needs more steps: greedy drives into something and stays there, or arrives.
    max_steps = 40 if policy is GreedyPolicy and tier == "room" else 120
    env = BulletPointGoalEnv(tier=tier, split="val", image_size=4, max_steps=max_steps)
    player = policy(env)
    results = [run_episode(env, player, options={"index": k})["success"] for k in indices]
    env.close()
    return float(np.mean(results))


def test_greedy_fails_on_more_than_half_of_the_rooms() -> None:
    assert 0.3 <= _success("room", GreedyPolicy, range(100)) <= 0.45


def test_the_shortest_path_solves_some_rooms() -> None:
    assert _success("room", ShortestPathPolicy, range(0, 100, 12)) >= 0.95


@pytest.mark.slow
def test_the_shortest_path_solves_all_rooms() -> None:
    assert _success("room", ShortestPathPolicy, range(100)) >= 0.95


@pytest.mark.slow
def test_apartments_are_harder_for_greedy_and_solved_by_the_shortest_path() -> None:
    assert _success("apartment", GreedyPolicy, range(0, 100, 3)) <= 0.25
    assert _success("apartment", ShortestPathPolicy, range(0, 100, 3)) >= 0.95


def test_a_share_of_drawn_episodes_begins_near_the_goal() -> None:
    distances = {}
    for share in (0.0, 0.5, 1.0):
        env = BulletPointGoalEnv(image_size=16, near_share=share)
        env.stop_rendering()
        distances[share] = [env.reset(seed=s)[1]["geodesic_distance"] for s in range(40)]
        env.close()
    assert min(distances[0.0]) >= 1.5
    assert max(distances[1.0]) <= 0.5
    near = sum(d <= 0.5 for d in distances[0.5])
    assert 8 <= near <= 32  # 20 expected; outside this range in 1 of 10,000 draws
    with pytest.raises(ValueError, match=r"near_share must be between 0 and 1, got 1\.5"):
        BulletPointGoalEnv(near_share=1.5)


def test_fixed_episodes_know_no_near_share() -> None:
    plain, near = (BulletPointGoalEnv(split="val", near_share=s, image_size=16) for s in (0.0, 1.0))
    for env in (plain, near):
        env.stop_rendering()
    assert [plain.reset()[1] for _ in range(3)] == [near.reset()[1] for _ in range(3)]
    plain.close()
    near.close()
