"""A checker is worth what it catches: every promise is broken once, on purpose."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from sim_adapters.check import ContractError, check_env
from sim_adapters.pointgoal import PointGoalEnv
from tests.sim_adapters.flatland import Flatland, SampledEpisodes


class Sound(gymnasium.Env):
    """A sound environment of six steps at most; action 1 ends it. Each test breaks one thing."""

    metadata = {"render_modes": []}  # noqa: RUF012
    max_steps = 6

    def __init__(self) -> None:
        self.observation_space = spaces.Dict({"state": spaces.Box(0.0, 1.0, (2,), np.float32)})
        self.action_space = spaces.Discrete(3)
        self.t = 0

    def observe(self) -> Any:
        return {"state": self.np_random.uniform(0.0, 1.0, 2).astype(np.float32)}

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        terminated = bool(action == 1)
        truncated = self.t == self.max_steps and not terminated
        return self.observe(), float(action), terminated, truncated, {}


class Point(PointGoalEnv):
    def __init__(self, **settings: Any) -> None:
        super().__init__(Flatland(), SampledEpisodes(), **{"max_steps": 30, **settings})


@pytest.mark.parametrize(
    "settings",
    [{}, {"require_stop": False}, {"actions": "continuous"}, {"max_steps": 500}],
)
def test_pointgoal_environments_keep_the_contract(settings: Any) -> None:
    check_env(lambda: Point(**settings))


def test_a_sound_environment_passes() -> None:
    check_env(Sound)


def test_a_time_limit_wrapper_passes() -> None:
    check_env(lambda: gymnasium.wrappers.TimeLimit(Sound(), 4), steps=30)


def broken(broken_class: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_env(broken_class, steps=60)


def test_a_time_limit_that_terminates_is_caught() -> None:
    class Broken(Sound):
        def step(self, action: Any) -> Any:
            observation, reward, terminated, truncated, info = super().step(action)
            return observation, reward, terminated or truncated, False, info

    class BrokenPoint(Point):
        def step(self, action: Any) -> Any:
            observation, reward, terminated, truncated, info = super().step(action)
            return observation, reward, terminated or truncated, False, info

    broken(Broken, "time limit of 6 steps terminates")
    broken(BrokenPoint, "time limit of 30 steps terminates")


def test_terminated_together_with_truncated_is_caught() -> None:
    class Broken(Sound):
        def step(self, action: Any) -> Any:
            observation, reward, terminated, _, info = super().step(action)
            return observation, reward, terminated, terminated, info

    broken(Broken, "both terminated and truncated")


def test_a_time_limit_that_does_not_come_is_caught() -> None:
    class Broken(Sound):
        def step(self, action: Any) -> Any:
            return (*super().step(action)[:3], False, {})

    broken(Broken, "goes on after its time limit of 6")


def test_a_time_limit_that_comes_early_is_caught() -> None:
    class Broken(Sound):
        def step(self, action: Any) -> Any:
            observation, reward, terminated, _, info = super().step(action)
            return observation, reward, terminated, self.t == 5 and not terminated, info

    broken(Broken, "truncated after 5 steps, before the time limit of 6")


def test_a_generator_that_ignores_the_seed_is_caught() -> None:
    class Broken(Sound):
        def observe(self) -> Any:
            return {"state": np.random.default_rng().uniform(0.0, 1.0, 2).astype(np.float32)}

    broken(Broken, "seed|equal|equivalent|determin")


def test_a_seed_that_does_not_reach_the_rewards_is_caught() -> None:
    class Broken(Sound):
        def step(self, action: Any) -> Any:
            observation, _, terminated, truncated, info = super().step(action)
            reward = float(np.random.default_rng().uniform())
            return observation, reward, terminated, truncated, info

    broken(Broken, "another .reward|rewards are not equivalent")


def test_state_that_outlives_an_episode_is_caught() -> None:
    class Broken(Sound):
        count = 0

        def step(self, action: Any) -> Any:
            self.count += 1
            observation, _, terminated, truncated, info = super().step(action)
            return observation, float(self.count > 60), terminated, truncated, info

    broken(Broken, "a second time in the same environment")


def test_state_shared_between_environments_is_caught() -> None:
    built = itertools.count()

    class Broken(Sound):
        def __init__(self) -> None:
            super().__init__()
            self.number = next(built)

        def step(self, action: Any) -> Any:
            observation, _, terminated, truncated, info = super().step(action)
            return observation, float(self.number), terminated, truncated, info

    broken(Broken, "in another environment")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (np.array([0.5, 1.5], np.float32), "outside|contained|within"),
        (np.array([0.5, np.nan], np.float32), "NaN|nan|outside|contained|within"),
        (np.array([0.5, 0.5], np.float16), "float16"),
        (np.array([0.5, 0.5], np.float64), "float64|contained|within"),
        (np.array([0.5], np.float32), "shape|contained|within"),
        ([0.5, 0.5], "array|contained|within"),
    ],
)
def test_an_observation_outside_its_space_is_caught(state: Any, message: str) -> None:
    class Broken(Sound):
        def observe(self) -> Any:
            return {"state": np.copy(state) if isinstance(state, np.ndarray) else list(state)}

    broken(Broken, message)


def test_a_rare_observation_outside_its_space_is_caught() -> None:
    class Broken(Sound):
        def observe(self) -> Any:
            observation = super().observe()
            if self.t == 5:
                observation["state"][0] = 1.01
            return observation

    broken(Broken, "'state' is outside its space")


def test_a_rare_extra_key_is_caught() -> None:
    class Broken(Sound):
        def observe(self) -> Any:
            extra = {"more": np.zeros(1, np.float32)} if self.t == 5 else {}
            return {**super().observe(), **extra}

    broken(Broken, r"keys \['state'\], got \['more', 'state'\]")


@pytest.mark.parametrize("reward", [np.nan, np.inf, np.zeros(1)])
def test_a_rare_reward_that_is_no_finite_number_is_caught(reward: Any) -> None:
    class Broken(Sound):
        def step(self, action: Any) -> Any:
            observation, usual, terminated, truncated, info = super().step(action)
            return observation, reward if self.t == 5 else usual, terminated, truncated, info

    broken(Broken, "one finite number")


def test_a_reset_that_fails_after_an_end_is_caught() -> None:
    class Broken(Sound):
        ended = False

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            if self.ended and seed is None:
                return {"state": np.full(2, 2.0, np.float32)}, {}
            return super().reset(seed=seed)

        def step(self, action: Any) -> Any:
            step = super().step(action)
            self.ended = step[2] or step[3]
            return step

    broken(Broken, "'state' is outside its space")


@pytest.mark.parametrize("key", ["spl", "collisions"])
def test_a_missing_measure_is_caught(key: str) -> None:
    class Broken(Point):
        def step(self, action: Any) -> Any:
            step = super().step(action)
            del step[4][key]
            return step

    broken(Broken, f"last step lacks {key}")


def test_a_measure_out_of_range_is_caught() -> None:
    class Broken(Point):
        def step(self, action: Any) -> Any:
            step = super().step(action)
            step[4]["spl"] = 1.2
            return step

    broken(Broken, r"'spl' must be in \[0, 1\], got 1.2")


def test_an_environment_that_cannot_be_closed_twice_is_caught() -> None:
    class Broken(Sound):
        closed = False

        def close(self) -> None:
            if self.closed:
                raise RuntimeError("not connected")
            self.closed = True

    broken(Broken, "closing an environment twice failed: .*not connected")


def test_an_observation_space_that_is_no_dictionary_is_caught() -> None:
    class Broken(Sound):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Box(0.0, 1.0, (2,), np.float32)

        def observe(self) -> Any:
            return super().observe()["state"]

    broken(Broken, "must be a Dict")


def test_float64_observations_are_caught() -> None:
    class Broken(Sound):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Dict({"state": spaces.Box(0.0, 1.0, (2,), np.float64)})

        def observe(self) -> Any:
            return {"state": super().observe()["state"].astype(np.float64)}

    broken(Broken, "Box of uint8 or float32")


def test_other_action_spaces_are_caught() -> None:
    class Broken(Sound):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = spaces.MultiDiscrete([2, 2])

        def step(self, action: Any) -> Any:
            return super().step(0)

    broken(Broken, "must be Discrete or Box")


def test_no_two_environments_are_open_at_once() -> None:
    open_now: list[int] = []

    class Lonely(Sound):
        def __init__(self) -> None:
            super().__init__()
            open_now.append(id(self))
            assert len(open_now) == 1

        def close(self) -> None:
            if id(self) in open_now:
                open_now.remove(id(self))

    check_env(Lonely, steps=10)
    assert open_now == []
