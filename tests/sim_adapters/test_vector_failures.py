"""What a failing worker costs: one truncated episode, or one clear line."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim_adapters.vector import EnvSpec, EnvStartError, VectorEnv, WorkerError, WorkerFailed

HERE = Path(__file__).parent
FINE, RAISE, EXIT, KILL, SEGFAULT, HANG, CHATTER, END = range(8)
Make = Callable[..., VectorEnv]


def toy(attribute: str = "Toy", python: str | None = None, **kwargs: Any) -> EnvSpec:
    return EnvSpec(f"vector_toys:{attribute}", kwargs, python, path=(str(HERE),))


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.syspath_prepend(str(HERE))
    made: list[VectorEnv] = []

    def build(*specs: EnvSpec, **kwargs: Any) -> VectorEnv:
        made.append(VectorEnv(specs or [toy()], **kwargs))
        return made[-1]

    yield build
    for vector in made:
        vector.close()


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in "ZX"


def wait_until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def children() -> set[int]:
    """Every process whose parent is this one, zombies included."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                if int(stat[1]) == os.getpid():
                    found.add(int(entry.name))
    return found


def assert_lost_one_episode(vector: VectorEnv, action: int, reason: str) -> str:
    """Environment 0 does `action` and fails; environment 1 does not notice. Returns the reason."""
    before, _ = vector.reset(seed=[5, 6])
    observations, rewards, terminations, truncations, infos = vector.step(np.array([action, FINE]))
    assert truncations.tolist() == [True, False]
    assert not terminations.any()
    assert rewards[0] == 0
    assert rewards[1] != 0
    np.testing.assert_array_equal(observations["depth"][0], before["depth"][0])
    assert observations["state"][:, 0].tolist() == [0, 1]
    assert set(infos["envs"][0]) == {"worker_failed"}
    assert re.search(reason, infos["envs"][0]["worker_failed"])
    assert infos["envs"][1]["steps"] == 1
    again, _ = vector.reset(seed=[5, None], options={"reset_mask": truncations})
    np.testing.assert_array_equal(again["image"][0], before["image"][0])
    assert vector.step(np.array([FINE, FINE]))[0]["state"][:, 0].tolist() == [1, 2]
    return str(infos["envs"][0]["worker_failed"])


def test_every_way_to_fail_costs_one_truncated_episode(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    vector = make(toy(), toy(), step_timeout_s=2.0)
    ways = [
        (RAISE, r"ZeroDivisionError: the robot fell over during step \(episode seed 5\)"),
        (EXIT, r"exited with code 1 during step \(episode seed 5\)"),
        (KILL, "was killed by SIGKILL"),
        (SEGFAULT, "was killed by SIGSEGV"),
        (HANG, "gave no answer for 2 s"),
    ]
    for count, (action, reason) in enumerate(ways, start=1):
        caplog.clear()
        assert_lost_one_episode(vector, action, reason)
        assert vector.restarts.tolist() == [count, 0]
        assert f"worker restarted (restart {count})" in caplog.text
        if action == RAISE:
            assert "in _misbehave" in caplog.text
        if action == EXIT:
            assert "Failed to EGL with glad" in caplog.text
        if action == SEGFAULT:
            assert "Fatal Python error: Segmentation fault" in caplog.text


def test_a_worker_killed_from_outside_in_mid_step_is_noticed_at_once(make: Make) -> None:
    vector = make(toy("SlowToy"), toy("SlowToy", step_s=60.0))
    vector.reset(seed=0)
    pid = vector._envs[1].pid
    assert pid is not None
    start_s = time.monotonic()
    vector.step_async(np.zeros(2, int))
    os.kill(pid, signal.SIGKILL)
    _, _, _, truncations, infos = vector.step_wait()
    assert time.monotonic() - start_s < 10
    assert truncations.tolist() == [False, True]
    assert "SIGKILL" in infos["envs"][1]["worker_failed"]


def test_what_the_simulator_started_ends_with_it(make: Make) -> None:
    vector = make(toy(), toy(), step_timeout_s=1.0)
    vector.reset(seed=0)
    pids = vector.call("spawn")
    assert all(map(is_alive, pids))
    vector.step(np.array([HANG, FINE]))
    wait_until(lambda: not is_alive(pids[0]))
    assert is_alive(pids[1])
    vector.close()
    wait_until(lambda: not is_alive(pids[1]))


def test_restarts_leave_no_process_and_no_descriptor_behind(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    before = len(os.listdir("/proc/self/fd")), children(), set(os.listdir("/dev/shm"))
    vector = make(toy(), toy(), max_restarts=100)
    vector.reset(seed=0)
    running = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        _, _, _, ended, _ = vector.step(np.array([KILL, RAISE]))
        assert ended.all()
        vector.reset(seed=0)
    assert vector.restarts.tolist() == [10, 10]
    assert len(os.listdir("/proc/self/fd")) == running
    assert len(children() - before[1]) == 2
    vector.close()
    assert (len(os.listdir("/proc/self/fd")), children(), set(os.listdir("/dev/shm"))) == before


def test_a_worker_that_keeps_failing_stops_the_run_with_its_last_words(make: Make) -> None:
    vector = make(max_restarts=1)
    vector.reset(seed=8)
    vector.step(np.array([RAISE]))
    vector.reset(seed=9)
    with pytest.raises(WorkerFailed, match="max_restarts is 1") as caught:
        vector.step(np.array([EXIT]))
    assert "episode seed 9" in str(caught.value)
    assert "Failed to EGL with glad" in str(caught.value)
    with pytest.raises(RuntimeError, match="after close"):
        vector.reset()


def test_failures_longer_ago_than_the_window_do_not_count(make: Make) -> None:
    vector = make(max_restarts=1, restart_window_s=0.05)
    for _ in range(3):
        vector.reset(seed=0)
        time.sleep(0.06)
        vector.step(np.array([KILL]))
    assert vector.restarts.tolist() == [3]


def test_a_reset_that_failed_is_repeated_with_its_seed(make: Make, tmp_path: Path) -> None:
    fragile = tmp_path / "fragile"
    vector = make(toy(fragile_once=str(fragile)), toy())
    expected, _ = vector.reset(seed=[1, 2])
    fragile.touch()
    observations, infos = vector.reset(seed=[1, 2])
    np.testing.assert_array_equal(observations["image"], expected["image"])
    assert [info["seed"] for info in infos["envs"]] == [1, 2]
    assert vector.restarts.tolist() == [1, 0]


def test_a_seed_that_always_fails_is_named(make: Make) -> None:
    vector = make(toy(bad_seed=13), max_restarts=1)
    with pytest.raises(WorkerFailed, match=r"during reset \(episode seed 13\)(.|\n)*no door"):
        vector.reset(seed=13)


def test_the_episode_after_a_restart_is_reproducible_without_a_seed(make: Make) -> None:
    def run() -> np.ndarray:
        vector = make()
        vector.reset(seed=3)
        vector.step(np.array([KILL]))
        observations, infos = vector.reset()
        assert infos["envs"][0]["seed"] not in (None, 3)
        return np.asarray(observations["image"])

    np.testing.assert_array_equal(run(), run())


def test_an_exception_in_this_process_passes_through(make: Make) -> None:
    vector = make(processes=False)
    vector.reset(seed=0)
    with pytest.raises(ZeroDivisionError):
        vector.step(np.array([RAISE]))
    vector.reset(seed=0)
    assert vector.step(np.array([FINE]))[1][0] != 0


def test_a_method_that_ends_the_worker_costs_its_episode(make: Make) -> None:
    vector = make(toy(), toy(), step_timeout_s=1.0)
    vector.reset(seed=0)
    with pytest.raises(WorkerError, match="exited with code 7"):
        vector.call_at(0, "exit")
    with pytest.raises(WorkerError, match=r"no answer for 1 s"):
        vector.call_at(1, "sleep", 60)
    truncations = vector.step(np.zeros(2, int))[3]
    assert truncations.all()
    assert vector.restarts.tolist() == [1, 1]
    vector.reset(seed=0)
    assert vector.step(np.zeros(2, int))[1].all()


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("raise", r"FileNotFoundError: no mesh at /scenes/Rs look there"),
        ("import", r"'a_simulator_nobody_has' is missing. Install it: \S+ -m pip install a_sim"),
        ("exit", r"exited with code 1 while it was built; its last words: Invalid render_device"),
        ("hang", r"gave no answer for 0.6 s and was killed while it was built"),
    ],
)
def test_an_environment_that_cannot_be_built_says_why_in_one_line(
    make: Make, how: str, line: str
) -> None:
    before = len(os.listdir("/proc/self/fd")), children()
    with pytest.raises(EnvStartError, match=line) as caught:
        make(toy("build", how=how), toy(), start_timeout_s=0.6 if how == "hang" else 60)
    assert "\n" not in str(caught.value)
    assert sys.executable in str(caught.value)
    assert (len(os.listdir("/proc/self/fd")), children()) == before


def test_an_interpreter_that_cannot_run_a_worker_is_named(make: Make, tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -I "$@"\n')
    bare.chmod(0o755)
    not_python = tmp_path / "not-python"
    not_python.write_text("#!/bin/sh\necho I am no Python >&2\nexit 3\n")
    not_python.chmod(0o755)
    wrong = [
        ("/nonexistent/bin/python", "'/nonexistent/bin/python' does not exist"),
        (str(tmp_path), "is a folder"),
        (str(Path(__file__)), "cannot be run"),
        ("no-such-conda-env", "neither a command nor a conda environment"),
        (str(bare), rf"'gymnasium' is missing. Install it: {bare} -m pip install gymnasium"),
        (str(not_python), "exited with code 3 while it was built; its last words: I am no Python"),
    ]
    for python, line in wrong:
        with pytest.raises(EnvStartError, match=line) as caught:
            make(toy(python=python))
        assert "\n" not in str(caught.value)


def test_a_conda_environment_is_found_by_its_name(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "envs" / "old-simulator" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nSIMULATOR=old exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("CONDA_EXE", str(tmp_path / "bin" / "conda"))
    assert make(toy(python="old-simulator")).call("environment", "SIMULATOR") == ("old",)


@pytest.fixture
def interrupt_after() -> Iterator[Callable[[float], None]]:
    """A function that presses Ctrl-C after some seconds."""
    # Python leaves SIGINT ignored when it was started in the background of a shell.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield _interrupt_after
    signal.signal(signal.SIGINT, before)


def _interrupt_after(seconds: float) -> None:
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGINT)).start()


def test_an_interrupted_step_can_be_finished(
    make: Make, interrupt_after: Callable[[float], None]
) -> None:
    slow = toy("SlowToy", step_s=1.0)
    vector, expected = make(slow, slow), make(toy(), toy(), processes=False)
    vector.reset(seed=0)
    vector.step_async(np.zeros(2, int))
    interrupt_after(0.2)
    with pytest.raises(KeyboardInterrupt):
        vector.step_wait()
    observations, rewards, *_ = vector.step_wait()
    expected.reset(seed=0)
    same, same_rewards, *_ = expected.step(np.zeros(2, int))
    np.testing.assert_array_equal(observations["image"], same["image"])
    np.testing.assert_array_equal(rewards, same_rewards)
    assert vector.restarts.sum() == 0


def test_an_interrupted_reset_can_be_repeated(
    make: Make, interrupt_after: Callable[[float], None]
) -> None:
    vector, expected = make(toy("SlowToy", reset_s=1.0)), make(processes=False)
    interrupt_after(0.2)
    with pytest.raises(KeyboardInterrupt):
        vector.reset(seed=1)
    observations, infos = vector.reset(seed=2)
    assert infos["envs"][0]["seed"] == 2
    np.testing.assert_array_equal(observations["image"], expected.reset(seed=2)[0]["image"])
    assert vector.restarts.sum() == 0


def test_workers_die_with_a_killed_parent_even_while_they_hang(tmp_path: Path) -> None:
    script = f"""
import numpy as np
from sim_adapters.vector import EnvSpec, VectorEnv
v = VectorEnv([EnvSpec("vector_toys:Toy", path=[{str(HERE)!r}])] * 2)
v.reset(seed=0)
print(*v.call("spawn"), *(e.pid for e in v._envs), flush=True)
v.step_async(np.array([{HANG}, {FINE}]))
print("hanging", flush=True)
v.step_wait()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=HERE.parent.parent
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert parent.stdout.readline() == "hanging\n"
        assert len(pids) == 4
        assert all(map(is_alive, pids))
        parent.kill()
    wait_until(lambda: not any(map(is_alive, pids)))
