from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from sim_adapters.check import check_env
from sim_adapters.wrappers import DictObservation


class Fixed(gymnasium.Env):
    """Observes always the same."""

    def __init__(self, space: spaces.Space[Any], value: Any) -> None:
        self.observation_space = space
        self.action_space = spaces.Discrete(2)
        self._value = value

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._copy(), 0.0, True, False, {}

    def _copy(self) -> Any:
        if isinstance(self._value, dict):
            return {k: np.copy(v) for k, v in self._value.items()}
        return np.copy(self._value)


def first(env: gymnasium.Env[Any, Any]) -> Any:
    return env.reset(seed=0)[0]


def test_a_vector_goes_under_state() -> None:
    box = spaces.Box(-1.0, 1.0, (3,), np.float32)
    env = DictObservation(Fixed(box, np.array([0.1, 0.2, 0.3], np.float32)))
    assert env.observation_space == spaces.Dict({"state": box})
    assert first(env)["state"] == pytest.approx([0.1, 0.2, 0.3])
    check_env(lambda: DictObservation(Fixed(box, np.zeros(3, np.float32))), steps=5)


def test_a_picture_goes_under_image() -> None:
    box = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    env = DictObservation(Fixed(box, np.full((64, 64, 3), 7, np.uint8)))
    assert env.observation_space == spaces.Dict({"image": box})
    assert np.all(first(env)["image"] == 7)


def test_a_dictionary_keeps_its_keys_and_a_scalar_gets_rank_one() -> None:
    inner = spaces.Dict(
        {
            "speed": spaces.Box(0.0, 2.0, (), np.float32),
            "joints": spaces.Box(-np.inf, np.inf, (2,), np.float64),
        }
    )
    value = {"speed": np.float32(1.5), "joints": np.array([1.0, 2.0])}
    env = DictObservation(Fixed(inner, value))
    assert env.observation_space == spaces.Dict(
        {
            "speed": spaces.Box(0.0, 2.0, (1,), np.float32),
            "joints": spaces.Box(-np.inf, np.inf, (2,), np.float32),
        }
    )
    observation = first(env)
    assert observation["speed"].tolist() == [1.5]
    assert observation["joints"].dtype == np.float32
    assert env.observation_space.contains(observation)
    check_env(lambda: DictObservation(Fixed(inner, value)), steps=5)


def test_a_bound_beyond_float32_becomes_no_bound() -> None:
    wide = spaces.Box(-1e300, 1e300, (1,), np.float64)
    env = DictObservation(Fixed(wide, np.zeros(1)))
    box = env.observation_space["state"]  # type: ignore[index]
    assert (box.low[0], box.high[0]) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4),
        spaces.Dict({"a": spaces.Dict({"b": spaces.Box(0.0, 1.0, (1,))})}),
        spaces.Box(0, 9, (2,), np.int64),
        spaces.Tuple([spaces.Box(0.0, 1.0, (1,))]),
    ],
)
def test_what_would_lose_its_meaning_is_refused(space: Any) -> None:
    with pytest.raises(TypeError, match="convert it in a wrapper of your own"):
        DictObservation(Fixed(space, 0))
