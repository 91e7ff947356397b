from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import sim_adapters
from sim_adapters.check import check_env
from sim_adapters.gymnasium_env import FlatSpaces, make_gymnasium
from tests.sim_adapters.test_resize import assert_rounded, exact_area_means


class Fixed(gymnasium.Env):
    """Observes always the same and remembers its actions."""

    def __init__(
        self, space: spaces.Space[Any], value: Any, action_space: Any = None, ends: Any = None
    ) -> None:
        self.observation_space = space
        self.action_space = action_space or spaces.Discrete(2)
        self.value = value
        self.ends = ends or (False, False)
        self.acted: list[Any] = []

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.value, {"options": options, "seed": seed}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.acted.append(action)
        return self.value, 0.5, *self.ends, {"k": 1}


def flat(space: spaces.Space[Any], value: Any, **options: Any) -> dict[str, np.ndarray]:
    """The converted observation, which must lie in the converted space."""
    env = FlatSpaces(Fixed(space, value), **options)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    again = env.step(0)[0]
    for key, entry in observation.items():
        assert np.array_equal(entry, again[key])
        assert entry.dtype == env.observation_space[key].dtype  # type: ignore[index]
    return observation


def acting(space: spaces.Space[Any]) -> tuple[FlatSpaces, Fixed]:
    inner = Fixed(spaces.Box(0.0, 1.0, (1,)), np.zeros(1, np.float32), space)
    return FlatSpaces(inner), inner


# -- registered environments ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "id",
    ["CartPole-v1", "Pendulum-v1", "MountainCarContinuous-v0", "FrozenLake-v1", "Acrobot-v1"],
)
def test_registered_environments_keep_the_contract(id: str) -> None:
    check_env(lambda: sim_adapters.make("gymnasium", id=id), steps=60)


def test_an_environment_is_built_by_its_id_with_its_own_arguments() -> None:
    env = make_gymnasium("FrozenLake-v1", kwargs={"map_name": "8x8", "is_slippery": False})
    observation, _ = env.reset(seed=0)
    assert observation["vector"].shape == (64,)
    assert np.flatnonzero(observation["vector"]).tolist() == [0]
    env.step(2)  # right
    observation, *_ = env.step(1)  # down
    assert np.flatnonzero(observation["vector"]).tolist() == [9]


def test_a_module_before_the_id_is_imported_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_robots.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('MyRobot-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    env = make_gymnasium("my_robots:MyRobot-v0")
    assert env.reset(seed=0)[0]["vector"].shape == (4,)


def test_the_registered_limit_truncates_unless_another_is_given() -> None:
    action = np.zeros(1, np.float32)
    for limit, expected in ((0, 200), (7, 7)):
        env = make_gymnasium("Pendulum-v1", max_episode_steps=limit)
        env.reset(seed=0)
        ends = [env.step(action)[2:4] for _ in range(expected)]
        assert ends == [(False, False)] * (expected - 1) + [(False, True)]


@pytest.mark.parametrize("ends", [(False, True), (True, False), (True, True)])
def test_ends_rewards_and_infos_pass_through(ends: tuple[bool, bool]) -> None:
    env = FlatSpaces(Fixed(spaces.Discrete(2), 1, ends=ends))
    assert env.reset(seed=3, options={"a": 1})[1] == {"options": {"a": 1}, "seed": 3}
    assert env.step(0)[1:] == (0.5, *ends, {"k": 1})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id": "CartPol-v1"}, r"'CartPol-v1' cannot be made: .*CartPole.*registered id"),
        ({"id": "no_such_module:A-v0"}, r"cannot be made: .*no_such_module.*import first"),
        ({"id": "CartPole-v1", "kwargs": {"wheels": 4}}, r"cannot be made: .*wheels.*own argum"),
        ({"id": "CartPole-v1", "image_size": -1}, "at least 0, got -1 and 0"),
        ({"id": "CartPole-v1", "max_episode_steps": -5}, "at least 0, got 0 and -5"),
        ({"id": "Blackjack-v1"}, r"'vector' is Tuple.*allowed are Box, Discrete and Dict"),
    ],
)
def test_what_cannot_be_made_is_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make_gymnasium(**options)
    assert "\n" not in str(caught.value)


# -- observations --------------------------------------------------------------------------------


def test_a_picture_is_an_image() -> None:
    picture = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    observation = flat(spaces.Box(0, 255, (64, 64, 3), np.uint8), picture)
    assert set(observation) == {"image"}
    assert np.array_equal(observation["image"], picture)


def test_a_picture_without_channels_gets_one() -> None:
    picture = np.arange(64 * 64).reshape(64, 64).astype(np.uint8)
    observation = flat(spaces.Box(0, 255, (64, 64), np.uint8), picture)
    assert np.array_equal(observation["image"], picture[..., None])


def test_a_bounded_picture_of_floats_is_an_image_too() -> None:
    depth = np.random.default_rng(0).uniform(0.0, 5.0, (64, 64, 1))
    observation = flat(spaces.Box(0.0, 5.0, (64, 64, 1), np.float64), depth)
    assert observation["image"] == pytest.approx(depth)


@pytest.mark.parametrize("shape", [(90, 120, 3), (90, 120)])
def test_a_picture_is_resized_on_request(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    observation = flat(spaces.Box(0, 255, shape, np.uint8), picture, image_size=64)
    whole = picture if len(shape) == 3 else picture[..., None]
    assert_rounded(observation["image"], exact_area_means(whole, 64))


def test_channels_first_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'image' has shape \(3, 64, 64\), channels first"):
        FlatSpaces(Fixed(spaces.Box(0, 255, (3, 64, 64), np.uint8), None))


@pytest.mark.parametrize(
    ("space", "value", "expected"),
    [
        (spaces.Box(-1.0, 1.0, (2,), np.float32), np.array([0.5, -0.5], np.float32), [0.5, -0.5]),
        (spaces.Box(-np.inf, np.inf, (2,), np.float64), np.array([3.0, 4.0]), [3.0, 4.0]),
        (spaces.Box(0.0, 2.0, (), np.float32), np.float32(1.5), [1.5]),
        (spaces.Box(0, 9, (3,), np.int64), np.array([1, 2, 9]), [1, 2, 9]),
        (spaces.Box(0.0, 9.0, (2, 2)), np.arange(4, dtype=np.float32).reshape(2, 2), [0, 1, 2, 3]),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([7, 255], np.uint8), [7, 255]),
        (spaces.Discrete(4), np.int64(2), [0, 0, 1, 0]),
        (spaces.Discrete(3, start=-1), -1, [1, 0, 0]),
    ],
)
def test_everything_else_is_a_vector(space: Any, value: Any, expected: list[float]) -> None:
    observation = flat(space, value)
    assert set(observation) == {"vector"}
    assert observation["vector"].tolist() == expected


def test_a_bound_beyond_float32_becomes_no_bound() -> None:
    env = FlatSpaces(Fixed(spaces.Box(-1e300, 1e300, (1,), np.float64), np.zeros(1)))
    box = env.observation_space["vector"]  # type: ignore[index]
    assert (box.low[0], box.high[0]) == (-np.inf, np.inf)


NESTED = spaces.Dict(
    {
        "camera": spaces.Box(0, 255, (64, 64, 3), np.uint8),
        "arm": spaces.Dict({"angle": spaces.Box(-3.0, 3.0, (2,)), "gripper": spaces.Discrete(2)}),
        "words": spaces.Text(5),
    }
)
VALUE = {
    "camera": np.full((64, 64, 3), 9, np.uint8),
    "arm": {"angle": np.array([1.0, 2.0], np.float32), "gripper": 1},
    "words": "go",
}


def test_nested_dictionaries_become_one_and_what_is_ignored_is_left_out() -> None:
    observation = flat(NESTED, VALUE, ignore=["words"])
    assert set(observation) == {"camera", "arm_angle", "arm_gripper"}
    assert observation["arm_angle"].tolist() == [1.0, 2.0]
    assert observation["arm_gripper"].tolist() == [0.0, 1.0]
    assert np.all(observation["camera"] == 9)


def test_what_cannot_be_observed_is_refused_with_the_way_to_leave_it_out() -> None:
    with pytest.raises(ValueError, match=r"'words' is Text.*ignore: \[words\]"):
        FlatSpaces(Fixed(NESTED, VALUE))


def test_ignoring_what_is_not_there_or_everything_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ignore names 'arm'; .*arm_angle, arm_gripper, camera"):
        FlatSpaces(Fixed(NESTED, VALUE), ignore=["arm", "words"])
    with pytest.raises(ValueError, match="nothing is left to observe; the observations are vector"):
        FlatSpaces(Fixed(spaces.Discrete(2), 0), ignore=["vector"])


def test_two_observations_of_one_name_are_refused() -> None:
    box = spaces.Box(0.0, 1.0, (1,))
    clash = spaces.Dict({"a_b": box, "a": spaces.Dict({"b": box})})
    with pytest.raises(ValueError, match="two observations would be called 'a_b'"):
        FlatSpaces(Fixed(clash, None))


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Box(0, 255, (64, 64, 1), np.uint8), np.zeros((64, 64, 1), np.uint8)),
        (spaces.Box(0.0, 1.0, (2,), np.float32), np.zeros(2, np.float32)),
        (spaces.Discrete(2), 0),
    ],
)
def test_an_observation_handed_out_is_the_callers_own(space: Any, value: Any) -> None:
    env = FlatSpaces(Fixed(space, value))
    (first,) = env.reset()[0].values()
    before = first.copy()
    first += 1
    (second,) = env.step(0)[0].values()
    assert np.array_equal(second, before)


# -- actions -------------------------------------------------------------------------------------


def test_discrete_actions_count_from_zero() -> None:
    env, inner = acting(spaces.Discrete(3, start=5))
    assert env.action_space == spaces.Discrete(3)
    for action in (0, np.int64(2)):
        env.step(action)
    assert inner.acted == [5, 7]


def test_actions_of_several_ranks_become_a_vector() -> None:
    box = spaces.Box(np.array([[-1.0], [0.0]]), np.array([[1.0], [4.0]]), (2, 1), np.float64)
    env, inner = acting(box)
    low, high = np.array([-1, 0], np.float32), np.array([1, 4], np.float32)
    assert env.action_space == spaces.Box(low, high, (2,), np.float32)
    env.step(np.array([0.5, 3.0], np.float32))
    assert box.contains(inner.acted[0])
    assert inner.acted[0].tolist() == [[0.5], [3.0]]


def test_rounding_of_the_bounds_never_leaves_the_environments_own() -> None:
    box = spaces.Box(-0.1, 0.1, (1,), np.float64)
    env, inner = acting(box)
    assert float(env.action_space.high[0]) > 0.1  # type: ignore[attr-defined]
    env.step(env.action_space.high)  # type: ignore[attr-defined]
    assert box.contains(inner.acted[0])


@pytest.mark.parametrize(
    "space",
    [
        spaces.MultiDiscrete([2, 2]),
        spaces.Tuple([spaces.Discrete(2)]),
        spaces.Box(-np.inf, 1.0, (1,)),
        spaces.Box(0, 5, (1,), np.int64),
    ],
)
def test_other_actions_are_refused(space: Any) -> None:
    with pytest.raises(ValueError, match="allowed are Discrete and a Box of floats with finite"):
        acting(space)
