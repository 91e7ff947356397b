from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from sim_adapters import registry
from sim_adapters.nav_baselines import GreedyPolicy, ShortestPathPolicy, run_episode
from sim_adapters.remote import EnvSpec, WorkerError
from sim_adapters.worker_env import WorkerEnv

ROOM = {"tier": "room", "split": "val", "image_size": 16, "max_steps": 3}


def test_a_worker_env_gives_what_the_environment_gives() -> None:
    local = registry.make("bullet", **ROOM)
    remote = WorkerEnv(EnvSpec("bullet", ROOM))
    try:
        assert remote.observation_space == local.observation_space
        assert remote.action_space == local.action_space
        assert remote.episode_count == 100
        a, names = local.reset(seed=5, options={"index": 7})
        b, again = remote.reset(seed=5, options={"index": 7})
        assert names == again
        for action in (1, 2, 1):
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])
                assert a[key].dtype == b[key].dtype
            (a, *rest), (b, *others) = local.step(action), remote.step(action)
            assert rest == others
        assert others[2]
    finally:
        local.close()
        remote.close()
        remote.close()


def test_an_environment_without_a_list_has_no_count() -> None:
    for name, options in (("dummy", {"task": "point"}), ("bullet", {**ROOM, "split": "train"})):
        env = WorkerEnv(EnvSpec(name, options))
        assert env.episode_count is None
        env.close()


def test_continuous_actions_pass() -> None:
    env = WorkerEnv(EnvSpec("dummy", {"task": "point"}))
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[0].keys() == env.observation_space.spaces.keys()
    env.close()


def test_a_dead_worker_ends_the_evaluation() -> None:
    env = WorkerEnv(EnvSpec("dummy", {"task": "point"}))
    env.reset(seed=0)
    os.kill(env._vector._envs[0].pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="failed in the evaluation: was killed by SIGKILL"):
        env.step(env.action_space.sample())
    env.close()


def test_the_baselines_play_in_the_worker_as_they_play_here() -> None:
    options = {**ROOM, "max_steps": 60}
    local = registry.make("bullet", **options)
    remote = WorkerEnv(EnvSpec("bullet", options))
    try:
        remote.stop_rendering()
        policies = remote.reference_policies()
        assert list(policies) == ["shortest path", "greedy"]
        for name, here in (("shortest path", ShortestPathPolicy), ("greedy", GreedyPolicy)):
            for index in (0, 3):
                expected = run_episode(local, here(local), options={"index": index})
                policy = policies[name](remote)
                assert run_episode(remote, policy, options={"index": index}) == expected
        assert run_episode(remote, policies["shortest path"](remote), options={"index": 1})[
            "success"
        ]
    finally:
        local.close()
        remote.close()


def test_an_environment_without_goals_has_no_baselines() -> None:
    env = WorkerEnv(EnvSpec("dummy", {"task": "point"}))
    env.stop_rendering()
    assert env.reference_policies() == {}
    env.close()
