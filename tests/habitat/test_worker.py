"""habitat-lab in worker processes under an interpreter of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sim_adapters.vector import EnvSpec, EnvStartError, VectorEnv


def test_a_worker_gives_what_the_environment_gives(
    options: Callable[..., Any], make_env: Any, other_python: str
) -> None:
    local = make_env(max_steps=6)
    settings = options(max_steps=6)
    vector = VectorEnv([EnvSpec("habitat", settings, python=other_python)])
    try:
        assert vector.single_observation_space == local.observation_space
        assert vector.single_action_space == local.action_space
        a, _ = local.reset(seed=1, options={"index": 3})
        b, infos = vector.reset(seed=1, options={"index": 3})
        assert infos["envs"][0]["scene_id"] == "apartment-val-00000"
        for action in (1, 2, 1, 3, 1, 1):
            for key in a:
                np.testing.assert_array_equal(a[key], b[key][0])
            a, reward, terminated, truncated, info = local.step(action)
            b, rewards, ends, cuts, infos = vector.step(np.array([action]))
            assert (reward, terminated, truncated) == (rewards[0], ends[0], cuts[0])
        # The end of the episode itself, not the start of the next one.
        assert truncated
        np.testing.assert_array_equal(a["depth"], b["depth"][0])
        for key in ("success", "spl", "soft_spl", "distance_to_goal", "collisions", "path_length"):
            assert infos["envs"][0][key] == info[key]
    finally:
        vector.close()


def test_a_killed_worker_costs_one_truncated_episode(options: Callable[..., Any]) -> None:
    spec = EnvSpec("habitat", options(max_steps=50, sensors=["depth"]))
    vector = VectorEnv([spec])
    try:
        before, _ = vector.reset(seed=0)
        os.kill(vector._envs[0].pid, signal.SIGKILL)
        after, rewards, ends, cuts, infos = vector.step(np.array([1]))
        assert (rewards[0], ends[0], cuts[0]) == (0.0, False, True)
        assert "killed by SIGKILL" in infos["envs"][0]["worker_failed"]
        np.testing.assert_array_equal(before["depth"], after["depth"])
        vector.reset(options={"reset_mask": np.array([True])})
        assert not vector.step(np.array([2]))[3][0]
        assert vector.restarts[0] == 1
    finally:
        vector.close()


def test_an_error_in_a_worker_is_one_line(options: Callable[..., Any]) -> None:
    with pytest.raises(EnvStartError, match="no split 'test'") as caught:
        VectorEnv([EnvSpec("habitat", options(split="test"))])
    assert "\n" not in str(caught.value)
