"""The vector of environments while nothing goes wrong."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from sim_adapters.vector import EnvSpec, EnvStartError, RemoteError, VectorEnv

HERE = str(Path(__file__).parent)
FINE, END, CHATTER = 0, 7, 6
Make = Callable[..., VectorEnv]


def toy(attribute: str = "Toy", python: str | None = None, **kwargs: Any) -> EnvSpec:
    return EnvSpec(f"vector_toys:{attribute}", kwargs, python, path=(HERE,))


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.syspath_prepend(HERE)
    made: list[VectorEnv] = []

    def build(specs: int | list[EnvSpec] = 1, **kwargs: Any) -> VectorEnv:
        specs = [toy()] * specs if isinstance(specs, int) else specs
        made.append(VectorEnv(specs, **kwargs))
        return made[-1]

    yield build
    for vector in made:
        vector.close()


def assert_same(a: Any, b: Any) -> None:
    """Equal trees, types and dtypes included."""
    assert type(a) is type(b), (a, b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


def rollout(vector: VectorEnv, steps: int = 30) -> list[Any]:
    rng = np.random.default_rng(5)
    record: list[Any] = [vector.reset(seed=[3, 11], options={"light": 0.5})]
    for _ in range(steps):
        action = np.where(rng.random(2) < 0.2, END, FINE)
        record.append(vector.step(action))
        ended = record[-1][2] | record[-1][3]
        if ended.any():
            record.append(vector.reset(options={"reset_mask": ended}))
    return record


def test_processes_and_in_process_give_the_same_numbers_as_the_environment_alone(
    make: Make, other_python: str
) -> None:
    remote = rollout(make([toy(), toy(python=other_python)]))
    local = rollout(make(2, processes=False))
    assert_same(remote, local)

    alone = importlib.import_module("vector_toys").Toy()
    first, info = alone.reset(seed=3, options={"light": 0.5})
    assert remote[0][1]["envs"][0] == info
    for key, value in first.items():
        np.testing.assert_array_equal(remote[0][0][key][0], value)
    observation, reward, *_ = alone.step(FINE)
    assert remote[1][1][0] == reward
    np.testing.assert_array_equal(remote[1][0]["image"][0], observation["image"])


def test_results_have_the_shapes_and_types_of_gymnasium(make: Make) -> None:
    vector = make(3)
    assert vector.num_envs == 3
    assert vector.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    observations, infos = vector.reset(seed=0)
    assert observations in vector.observation_space
    assert [info["seed"] for info in infos["envs"]] == [0, 1, 2]
    observations, rewards, terminations, truncations, infos = vector.step(
        np.array([FINE, END, FINE])
    )
    assert observations in vector.observation_space
    assert rewards.dtype == np.float64
    assert rewards.shape == (3,)
    assert terminations.tolist() == [False, True, False]
    assert truncations.tolist() == [False] * 3
    assert truncations.dtype == bool
    info = infos["envs"][1]
    assert info["success"] is True
    assert info["measures"]["path"] == [1, 2.5]
    assert info["measures"]["empty"].shape == (0, 2)


def test_a_masked_reset_leaves_the_others_alone(make: Make) -> None:
    vector = make(2)
    vector.reset(seed=0)
    before = vector.step(np.array([END, FINE]))[0]
    options = {"reset_mask": np.array([True, False])}
    after, infos = vector.reset(seed=[0, None], options=options)
    assert infos["envs"][1] == {}
    assert list(options) == ["reset_mask"]
    np.testing.assert_array_equal(after["image"][1], before["image"][1])
    assert after["state"][0, 0] == 0
    assert vector.step(np.array([FINE, FINE]))[0]["state"][:, 0].tolist() == [1, 2]


def test_returned_observations_are_the_callers_own(make: Make) -> None:
    vector = make(1)
    first, _ = vector.reset(seed=0)
    kept = first["depth"].copy()
    second = vector.step(np.array([FINE]))[0]
    np.testing.assert_array_equal(first["depth"], kept)
    second["depth"][:] = -1
    masked, _ = vector.reset(seed=1, options={"reset_mask": np.array([False])})
    assert (masked["depth"] >= 0).all()


@pytest.mark.parametrize("processes", [True, False])
def test_an_ended_episode_must_be_reset_before_the_next_step(make: Make, processes: bool) -> None:
    vector = make(2, processes=processes)
    with pytest.raises(ResetNeeded, match=r"\[0, 1\]"):
        vector.step(np.zeros(2, int))
    vector.reset(seed=0)
    vector.step(np.array([FINE, END]))
    with pytest.raises(ResetNeeded, match=r"\[1\].*reset_mask"):
        vector.step(np.zeros(2, int))


def test_a_continuous_action_and_a_plain_box_observation_cross(make: Make) -> None:
    vector = make([toy("Continuous")] * 2)
    vector.reset()
    actions = np.array([[0.25, -0.5], [1, 0]], np.float32)
    observations, _, _, truncations, infos = vector.step(actions)
    assert observations.shape == (2, 3)
    assert truncations.all()
    assert infos["envs"][0]["is_array"]
    assert_same(infos["envs"][0]["action"], actions[0])


def test_wrong_arguments_say_what_is_right(make: Make) -> None:
    vector = make(2, processes=False)
    with pytest.raises(ValueError, match=r"reset_mask is int64 \(2,\); it must be bool \(2,\)"):
        vector.reset(options={"reset_mask": np.array([0, 1])})
    with pytest.raises(ValueError, match="3 seeds for 2 environments"):
        vector.reset(seed=[1, 2, 3])
    vector.reset(seed=0)
    with pytest.raises(ValueError, match="3 actions for 2 environments"):
        vector.step(np.zeros(3, int))
    vector.step_async(np.zeros(2, int))
    with pytest.raises(RuntimeError, match="call step_wait first"):
        vector.reset()
    vector.step_wait()
    with pytest.raises(RuntimeError, match="without step_async"):
        vector.step_wait()
    with pytest.raises(ValueError, match="specs is empty"):
        make([])
    with pytest.raises(EnvStartError, match="inside this process"):
        make([toy(python="python3")], processes=False)


def test_environments_with_other_spaces_are_refused(make: Make) -> None:
    with pytest.raises(EnvStartError, match=r"0 .* and 1 .* have different observation spaces"):
        make([toy(), toy(size=9)], processes=False)


@pytest.mark.parametrize("processes", [True, False])
def test_an_observation_outside_its_declared_type_is_an_error(make: Make, processes: bool) -> None:
    vector = make([toy(float64_state=True)], processes=processes)
    with pytest.raises(ValueError, match=r"\['state'\] is float64 \(2,\); its space says float32"):
        vector.reset(seed=0)


def test_methods_are_called_and_attributes_read_in_every_environment(make: Make) -> None:
    vector = make(2)
    values = np.arange(3, dtype=np.float16)
    result = vector.call("scale", values, factor=2.0)
    assert result[1]["dtype"] == "float16"
    np.testing.assert_array_equal(result[0]["values"], [0, 2, 4])
    assert vector.get_attr("note") == ("", "")
    with pytest.raises(RemoteError, match=r"KeyError: 'no such scene'(.|\n)*in fail"):
        vector.call("fail")
    with pytest.raises(RemoteError, match="which cannot cross"):
        vector.call_at(1, "opaque")
    with pytest.raises(RemoteError, match="private"):
        vector.call_at(0, "__init__")
    vector.reset(seed=0)
    assert vector.step(np.zeros(2, int))[1].all()
    assert vector.restarts.tolist() == [0, 0]


def test_workers_use_one_thread_and_another_python_gets_no_path_of_ours(
    make: Make, other_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("PYTHONPATH", "/nonexistent")
    vector = make([toy(), toy(python=other_python)])
    assert vector.call("environment", "OMP_NUM_THREADS") == ("1", "1")
    assert vector.call("environment", "PYTHONPATH") == ("/nonexistent", None)


def test_a_registered_adapter_runs_by_its_name(make: Make, other_python: str) -> None:
    vector = make([EnvSpec("dummy", {"task": "point"}, python=other_python)])
    observations, _ = vector.reset(seed=0)
    assert observations["image"].shape == (1, 64, 64, 1)


def test_printing_disturbs_nothing_and_the_log_stays_small(make: Make) -> None:
    vector = make(1)
    quiet = make(1, processes=False)
    assert_same(vector.reset(seed=4), quiet.reset(seed=4))
    for _ in range(4):
        assert_same(vector.step(np.array([CHATTER])), quiet.step(np.array([FINE])))
        log = vector._envs[0]._log
        assert 0 < os.fstat(log.fileno()).st_size < 1 << 20


def test_close_lets_the_simulator_close_and_may_be_repeated(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "closed"
    vector = make([toy(closed_file=str(path))])
    vector.reset(seed=0)
    vector.step_async(np.array([FINE]))
    vector.close()
    assert path.read_text() == "closed"
    vector.close()
    with pytest.raises(RuntimeError, match="after close"):
        vector.reset()
