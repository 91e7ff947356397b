from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from sim_adapters.check import check_env
from sim_adapters.dummy import TASKS, DummyEnv, make_dummy


def rewards(env: DummyEnv, actions: list[Any], seed: int = 0) -> list[float]:
    """Rewards of `actions`, which must end the episode, and not before the last."""
    env.reset(seed=seed)
    steps = [env.step(action) for action in actions]
    assert [s[2] or s[3] for s in steps] == [False] * (len(steps) - 1) + [True]
    return [float(s[1]) for s in steps]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("image", "vector"), [(True, False), (False, True), (True, True)])
def test_every_task_keeps_the_contract(task: str, image: bool, vector: bool) -> None:
    check_env(lambda: make_dummy(task, image=image, vector=vector), steps=60)


def test_observations_are_what_is_asked_for() -> None:
    both = make_dummy("memory", image=True, vector=True)
    assert both.observation_space == spaces.Dict(
        {
            "image": spaces.Box(0, 255, (64, 64, 1), np.uint8),
            "state": spaces.Box(-1.0, 1.0, (2,), np.float32),
        }
    )
    assert set(make_dummy("memory").observation_space.spaces) == {"image"}  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="observe nothing"):
        make_dummy("memory", image=False, vector=False)


def test_the_image_shows_the_state_in_bands() -> None:
    env = make_dummy("point", vector=True)
    observation, _ = env.reset(seed=3)
    position, target = observation["state"]
    image = observation["image"][..., 0]
    assert np.all(image[:, :32] == round(127.5 * (float(position) + 1.0)))
    assert np.all(image[:, 32:] == round(127.5 * (float(target) + 1.0)))


def test_the_bandit_pays_by_action() -> None:
    env = make_dummy("bandit", length=5)
    assert [rewards(env, [a]) for a in range(5)] == [[0.0], [0.25], [0.5], [0.75], [1.0]]


def test_the_delayed_reward_is_for_the_first_action_only() -> None:
    env = make_dummy("delayed", length=3)
    assert rewards(env, [1, 0, 0, 0]) == [0, 0, 0, 1]
    assert rewards(env, [0, 1, 1, 1]) == [0, 0, 0, 0]


def test_the_delayed_task_hides_the_choice() -> None:
    env = make_dummy("delayed", vector=True)
    seen = []
    for first in (0, 1):
        env.reset(seed=0)
        seen.append(env.step(first)[0])
    assert np.array_equal(seen[0]["image"], seen[1]["image"])
    assert np.array_equal(seen[0]["state"], seen[1]["state"])


def test_the_memory_cue_is_seen_once_and_pays_at_the_end() -> None:
    env = make_dummy("memory", image=False, vector=True, length=4)
    cues, hidden = set(), set()
    for seed in range(10):
        cue = float(env.reset(seed=seed)[0]["state"][0])
        cues.add(cue)
        for _ in range(3):
            hidden.add(float(env.step(0)[0]["state"][0]))
        right = int(cue > 0)
        assert rewards(env, [1 - right, 1 - right, 1 - right, right], seed) == [0, 0, 0, 1]
        assert rewards(env, [right, right, right, 1 - right], seed) == [0, 0, 0, 0]
    assert (cues, hidden) == ({-1.0, 1.0}, {0.0})


def test_the_memory_task_asks_before_the_last_action() -> None:
    env = make_dummy("memory", image=False, vector=True, length=3)
    asked = [env.reset(seed=0)[0]["state"][1], *(env.step(0)[0]["state"][1] for _ in range(2))]
    assert asked == [-1.0, -1.0, 1.0]


def test_the_terminal_reward_is_for_ending_at_the_right_moment() -> None:
    env = make_dummy("terminal", image=False, vector=True, length=6)
    starts = set()
    for seed in range(40):
        remaining = round(6 * (1.0 - float(env.reset(seed=seed)[0]["state"][0])))
        starts.add(remaining)
        assert rewards(env, [0] * remaining + [1], seed)[-1] == 1.0
        assert rewards(env, [0] * (remaining - 1) + [1], seed)[-1] == 0.0
        assert rewards(env, [0] * (remaining + 1) + [1], seed)[-1] == 0.0
    assert starts == {1, 2, 3, 4, 5, 6}


def test_waiting_for_ever_in_the_terminal_task_is_truncated() -> None:
    env = make_dummy("terminal", length=2)
    env.reset(seed=0)
    ends = [env.step(0)[2:4] for _ in range(4)]
    assert ends == [(False, False)] * 3 + [(False, True)]


def test_the_point_is_paid_by_its_distance() -> None:
    env = make_dummy("point", image=False, vector=True)
    position, target = (float(v) for v in env.reset(seed=1)[0]["state"])
    observation, reward, terminated, _, _ = env.step(np.array([0.5], np.float32))
    assert float(observation["state"][0]) == pytest.approx(position + 0.1, abs=1e-6)
    assert reward == pytest.approx(-abs(position + 0.1 - target), abs=1e-6)
    assert terminated is False


@pytest.mark.parametrize("task", TASKS)
def test_an_action_outside_the_space_is_refused(task: str) -> None:
    env = make_dummy(task)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action must be in"):
        env.step(99)


def test_an_unknown_task_is_answered_with_the_list() -> None:
    with pytest.raises(ValueError, match=r"bandit, delayed, memory, terminal, point, got 'maze'"):
        make_dummy("maze")


@pytest.mark.parametrize("task", TASKS)
def test_an_impossible_length_is_refused(task: str) -> None:
    with pytest.raises(ValueError, match="got 0"):
        make_dummy(task, length=0)
