"""Observation and action descriptions: what is accepted, what is said otherwise, and the mapping to spaces."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest

from dreamer_nav.config import EncoderConfig
from dreamer_nav.spaces import ActionSpec, ObsSpec, select_observations
from tests.dreamer_nav.conftest import MakeAgent

Box, Discrete = gym.spaces.Box, gym.spaces.Discrete
SPACE = gym.spaces.Dict(
    {
        "rgb": Box(0, 255, (64, 64, 3), np.uint8),
        "depth": Box(0.1, 10.0, (64, 64, 1), np.float32),
        "goal": Box(-np.inf, np.inf, (2,), np.float32),
        "height": Box(0.0, 2.0, (), np.float32),
    }
)


def test_observations_are_described_in_name_order_with_scalars_promoted() -> None:
    specs = select_observations(SPACE, ".*", ".*")
    assert [s.name for s in specs] == ["depth", "goal", "height", "rgb"]
    depth, goal, height, rgb = specs
    assert height.shape == (1,), "a scalar becomes a vector of one number, it is not dropped"
    assert (depth.dtype, round(depth.low, 4), depth.high) == ("float32", 0.1, 10.0)
    assert (rgb.is_image, goal.is_image, rgb.dtype) == (True, False, "uint8")


def test_patterns_choose_images_and_vectors_separately_and_match_whole_names() -> None:
    chosen = select_observations(SPACE, "rgb", "goal|heigh")
    assert [s.name for s in chosen] == ["goal", "rgb"]


def test_no_observation_left_says_what_there_was() -> None:
    with pytest.raises(ValueError, match=r"'depth', 'goal', 'height', 'rgb'.*image_keys='x'"):
        select_observations(SPACE, "x", "y")


@pytest.mark.parametrize("sub", [Discrete(3), Box(0, 1, (4, 4), np.float32)], ids=str)
def test_an_unusable_observation_is_named(sub: gym.Space) -> None:
    with pytest.raises(ValueError, match=r"'odd'.*Convert it in a wrapper"):
        select_observations(gym.spaces.Dict({"odd": sub}), ".*", ".*")


def test_a_float_image_without_bounds_is_refused_where_its_scaling_would_give_nan() -> None:
    space = gym.spaces.Dict({"depth": Box(0.0, np.inf, (64, 64, 1), np.float32)})
    with pytest.raises(ValueError, match=r"'depth' needs finite bounds.*state its range"):
        select_observations(space, ".*", ".*")


def test_a_polar_key_must_be_a_pair(tiny_agent: MakeAgent) -> None:
    encoder = EncoderConfig(mlp_layers=1, mlp_units=4, polar_keys="goal")
    with pytest.raises(ValueError, match=r"'goal' of shape \(3,\).*\(rho, phi\)"):
        tiny_agent(obs=(ObsSpec("goal", (3,), "float32"),), encoder=encoder)


def test_descriptions_survive_json_with_infinite_bounds() -> None:
    for spec in select_observations(SPACE, ".*", ".*"):
        text = json.dumps(spec.to_json(), allow_nan=False)
        assert ObsSpec.from_json(json.loads(text)) == spec
    for space in (Discrete(5), Box(-2.0, 3.0, (2,), np.float32)):
        action = ActionSpec.from_space(space)
        assert ActionSpec.from_json(json.loads(json.dumps(action.to_json()))) == action


def test_agent_actions_become_environment_actions() -> None:
    choice = ActionSpec.from_space(Discrete(3))
    assert choice.to_env(np.eye(3, dtype=np.float32)[[2, 0]]).tolist() == [2, 0]
    box = ActionSpec.from_space(Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64))
    agent = np.array([[-1.0, 1.0], [0.0, 0.0], [1.0000001, -1.0]], np.float32)
    mapped = box.to_env(agent)
    np.testing.assert_allclose(mapped, [[-2.0, 10.0], [0.0, 5.0], [2.0, 0.0]])
    assert mapped.dtype == np.float32
    assert mapped.max() <= 10.0


def test_random_actions_cover_the_space() -> None:
    rng = np.random.default_rng(0)
    choices = ActionSpec(True, 4).random(rng, 4000)
    assert (choices.sum(-1) == 1).all()
    np.testing.assert_allclose(choices.mean(0), 0.25, atol=0.03)
    numbers = ActionSpec(False, 2, (0.0, 0.0), (1.0, 1.0)).random(rng, 4000)
    assert numbers.dtype == np.float32
    assert -1 <= numbers.min() < -0.99 < 0.99 < numbers.max() <= 1
    np.testing.assert_allclose(numbers.mean(0), 0, atol=0.05)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (Discrete(3, start=1), "start at 0"),
        (Box(-np.inf, np.inf, (2,), np.float32), "finite bounds"),
        (Box(-1, 1, (2, 2), np.float32), "allowed: Discrete"),
        (gym.spaces.MultiBinary(3), "allowed: Discrete"),
    ],
    ids=str,
)
def test_an_unusable_action_space_says_what_is_allowed(space: gym.Space, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ActionSpec.from_space(space)
