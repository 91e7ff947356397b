"""What goes wrong with iGibson comes as one line that says what to do, and what fails costs an episode."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim_adapters.vector import EnvSpec, EnvStartError
from tests.igibson.conftest import Build

Spec = Callable[..., EnvSpec]

pytestmark = pytest.mark.slow


def refusal(build: Build, spec: EnvSpec) -> str:
    """The line with which a worker refuses to be built."""
    with pytest.raises(EnvStartError) as refused:
        build(spec)
    line = str(refused.value)
    assert "\n" not in line
    return line


def test_wrong_options_are_refused_with_what_there_is(
    build: Build, spec: Spec, tiny: dict[str, Any]
) -> None:
    interactive = {**tiny["overrides"], "scene": "igibson"}
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"scene": "tiny_trian_0"},
            "there is no scene 'tiny_trian_0'.* Did you mean 'tiny_train_0'",
        ),
        ({"config": "locobot"}, "config: there is no .*locobot.yaml; give .*locobot_nav"),
        ({"robot": "Locobut"}, "robot must be one of .*Locobot.*Tinybot.*, got 'Locobut'"),
        ({"robot": "Fetch"}, "robot must be one of"),
        ({"robot": "Turtlebot"}, "cannot load the robot Turtlebot.*--download_assets"),
        ({"task": "point_nav"}, "task must be one of point_nav_fixed, point_nav_random"),
        ({"sensors": ["lidar"]}, "sensors must be among rgb, depth"),
        ({"actions": "both"}, "actions must be discrete or continuous"),
        ({"overrides": {"dist_tool": 1}}, "no 'dist_tool'. Did you mean 'dist_tol'"),
        ({"overrides": {**tiny["overrides"], "scene": "stadium"}}, "scene must be gibson"),
        ({"texture_randomization": 1}, "textures of interactive scenes only"),
        ({"renderer": "fast"}, "renderer must be one of auto, gpu, software"),
        ({"overrides": interactive}, "interactive scenes .* are missing: there is no folder"),
        ({"data": "/nowhere"}, "data: there is no folder /nowhere; write a tiny scene"),
        ({"image_size": [64, 64, 3]}, "image_size"),
        ({"action_timestep_s": 0.25}, "initial_pos_z_offset"),
        ({"physics_timestep_s": 0.03}, "action_timestep_s"),
    ]
    vector = build(spec("probe:Checks"))
    said = vector.call_at(0, "messages", [changes for changes, _ in cases])
    for (changes, message), line in zip(cases, said, strict=True):
        assert line.startswith("IGibsonError: "), (changes, line)
        assert "\n" not in line
        assert re.search(message, line), (changes, line)
    assert vector.call_at(0, "messages", [{}]) == [""]  # and what is right still runs


def test_a_second_environment_in_a_process_is_refused(build: Build, spec: Spec) -> None:
    said = build(spec("probe:Checks")).call_at(0, "second")
    assert "run each in a worker of its own" in said


def test_a_worker_names_what_is_wrong_in_one_line(build: Build, spec: Spec) -> None:
    line = refusal(build, spec(scene="Rs_int"))
    assert "under" in line
    assert "there is no scene 'Rs_int'" in line


def test_another_release_of_the_assets_is_refused(build: Build, spec: Spec, tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    assert "iGibson refuses its data: Could not read version file" in refusal(
        build, spec(data=str(tmp_path))
    )
    (assets / "VERSION").write_text("2.3.0")
    assert "ig_assets version 2.3.0 incompatible" in refusal(build, spec(data=str(tmp_path)))


def test_an_encrypted_data_set_without_its_key_is_refused(
    build: Build, spec: Spec, tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "ig_dataset"
    visual = folder / "objects" / "sofa" / "sofa_1" / "shape" / "visual"
    scene = folder / "scenes" / "Rs_int" / "urdf"
    for path in (visual, scene, folder / "metadata"):
        path.mkdir(parents=True)
    (scene / "Rs_int_best.urdf").write_text("")
    (visual / "sofa.encrypted.obj").write_text("")
    (folder / "metadata" / "categories.txt").write_text("sofa\n")
    (folder / "VERSION").write_text("2.2.0")
    monkeypatch.setenv("KEY_PATH", str(tmp_path / "igibson.key"))
    overrides = {**tiny["overrides"], "scene": "igibson"}
    line = refusal(build, spec(data=str(tmp_path), scene="Rs_int", overrides=overrides))
    assert f"its key is missing: put igibson.key at {tmp_path / 'igibson.key'}" in line


def test_without_a_driver_the_line_says_what_to_install(
    build: Build, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", "/nowhere.json")
    assert "apt install libegl1 libgl1-mesa-dri" in refusal(build, spec())


def test_a_device_that_is_not_there_is_named(
    build: Build, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIBSON_DEVICE_ID", "99")
    assert "GIBSON_DEVICE_ID=99 cannot be rendered on" in refusal(build, spec())


def test_black_pictures_are_an_error(build: Build, spec: Spec) -> None:
    vector = build(spec("probe:StockEnv", renderer="software"), max_restarts=0)
    with pytest.raises(RuntimeError, match="pictures are black"):
        vector.reset(seed=[0])


def test_a_python_without_igibson_says_how_to_get_it(build: Build, other_python: str) -> None:
    line = refusal(build, EnvSpec("igibson", {}, python=other_python))
    assert other_python in line
    assert "make igibson-env" in line


def test_a_killed_simulator_costs_one_episode(build: Build, spec: Spec) -> None:
    vector = build(spec(), spec(scene="tiny_train_1"))
    vector.reset(seed=0)
    pid = vector._envs[0].pid
    assert pid is not None
    vector.step_async(np.zeros((2, 2), np.float32))
    os.kill(pid, signal.SIGKILL)
    _, _, terminations, truncations, infos = vector.step_wait()
    # The step may have been answered before the signal came; then the next one is lost.
    if not truncations.any():
        _, _, terminations, truncations, infos = vector.step(np.zeros((2, 2), np.float32))
    assert truncations.tolist() == [True, False]
    assert not terminations.any()
    assert "was killed by SIGKILL" in infos["envs"][0]["worker_failed"]
    vector.reset(seed=[0, None], options={"reset_mask": truncations})
    vector.step(np.zeros((2, 2), np.float32))
    assert vector.restarts.tolist() == [1, 0]


def test_megabytes_of_chatter_change_nothing(build: Build, spec: Spec) -> None:
    one = spec()
    kwargs = {"name": "igibson", "options": dict(one.kwargs)}
    vector = build(EnvSpec("probe:GoalOnly", kwargs, one.python, one.path))
    before, _ = vector.reset(seed=[0])
    assert vector.call_at(0, "write_megabytes", 8) == 8
    after, _ = vector.reset(seed=[0])
    np.testing.assert_array_equal(before["pointgoal"], after["pointgoal"])


def test_restarts_leave_no_process_and_no_shared_memory(build: Build, spec: Spec) -> None:
    def leftovers() -> tuple[int, int]:
        return len(os.listdir("/dev/shm")), len(os.listdir("/proc/self/fd"))

    vector = build(spec(), max_restarts=10)
    vector.reset(seed=[0])
    before = leftovers()
    for _ in range(3):
        pid = vector._envs[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        vector.step(np.zeros((1, 2), np.float32))
        vector.reset(seed=[0])
        deadline = time.monotonic() + 5
        while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not os.path.exists(f"/proc/{pid}")
    assert leftovers() == before
