"""A user's mistake costs one line that says what to do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sim_adapters.habitat import configuration, versions
from sim_adapters.habitat.errors import HabitatError
from sim_adapters.registry import make


def message(**settings: Any) -> str:
    with pytest.raises(HabitatError) as caught:
        make("habitat", **settings)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def as_with_habitat_sim(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is checked before habitat-sim is started can be seen without it."""
    monkeypatch.setattr("sim_adapters.habitat.stand_ins.has_habitat_sim", lambda: True)
    monkeypatch.setattr(configuration, "count_gpus", lambda: 2)


@pytest.mark.usefixtures("as_with_habitat_sim")
def test_a_missing_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = message(config="pointnav_mp3d", split="val")
    assert "no episodes at data/datasets/pointnav/mp3d/v1/val/val.json.gz" in text
    assert "download them" in text


def test_missing_episodes_of_bullet_name_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = message(simulator="Bullet-v0")
    command = "python -m sim_adapters.habitat.episodes data/datasets/pointnav/gibson/v1"
    assert f"make some: {command} --split train" in text


def test_a_split_that_does_not_exist(options: Any) -> None:
    assert "no split 'test'" in message(**options(split="test"))
    assert "splits that are there: train, val" in message(**options(split="test"))


def test_a_missing_scene(options: Any, tmp_path: Path) -> None:
    from sim_adapters.episodes import Episode, save_episodes

    episode = Episode("0", "mp3d/nowhere.glb", (0.0, 0.0, 0.0), 0.0, (1.0, 0.0, 0.0), 1.0)
    save_episodes(tmp_path / "gone.json.gz", [episode])
    text = message(**options(episodes=str(tmp_path / "gone.json.gz")))
    assert "1 of the 1 scenes of these episodes are missing" in text
    assert "mp3d/nowhere.glb" in text


@pytest.mark.usefixtures("as_with_habitat_sim")
def test_a_missing_scene_of_habitat_sim(tmp_path: Path) -> None:
    from sim_adapters.episodes import Episode, save_episodes

    episode = Episode("0", "gibson/Rs.glb", (0.0, 0.0, 0.0), 0.0, (1.0, 0.0, 0.0), 1.0)
    save_episodes(tmp_path / "gone.json.gz", [episode])
    text = message(episodes=str(tmp_path / "gone.json.gz"))
    assert "data/scene_datasets/gibson/Rs.glb; download them" in text


def test_a_file_that_is_no_episode_file(options: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.json.gz").write_bytes(b"no gzip")
    text = message(**options(episodes=str(tmp_path / "bad.json.gz")))
    assert "bad.json.gz cannot be read (BadGzipFile" in text


@pytest.mark.usefixtures("as_with_habitat_sim")
def test_a_gpu_that_does_not_exist() -> None:
    gpu = "habitat.simulator.habitat_sim_v0.gpu_device_id"
    assert "2 NVIDIA GPUs here, counted from 0; -1" in message(overrides=[f"{gpu}=2"])
    assert "GPU" not in message(overrides=[f"{gpu}=1"])
    assert "GPU" not in message(overrides=[f"{gpu}=-1"])


def test_visible_gpus_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    if configuration.count_gpus() == 1000:
        pytest.skip("GPUs cannot be counted on this system")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert configuration.count_gpus() == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert configuration.count_gpus() == 2


@pytest.mark.skipif(importlib.util.find_spec("habitat_sim") is not None, reason="it is there")
def test_habitat_sim_that_is_not_there() -> None:
    text = message(config="pointnav_gibson")
    assert "Sim-v0 needs habitat_sim, which is not installed" in text
    assert "Bullet-v0 works without it" in text


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"config": "pointnav_gibsn"}, "Did you mean 'pointnav_gibson'?"),
        ({"overrides": ["habitat.sead=3"]}, "cannot be composed: "),
        ({"overrides": ["habitat/dataset/pointnav=gibson_v7"]}, "gibson_v7"),
        ({"sensors": ["lidar"]}, "no sensor 'lidar'; it has rgb, depth"),
        ({"overrides": ["+habitat/task/actions=velocity_control"]}, "must be the only action"),
    ],
)
def test_a_wrong_option(settings: dict[str, Any], expected: str) -> None:
    assert expected in message(simulator="Bullet-v0", **settings)


@pytest.mark.parametrize(
    ("lab", "python", "expected"),
    [
        ("0.2.5", (3, 9), "0.2.5 is too old: this adapter works with 0.3.x"),
        ("0.4.0", (3, 12), "0.4.0 is too new"),
        ("0.3.320250127", (3, 11), "0.3.320250127 is too old for Python 3.11"),
    ],
)
def test_a_release_of_habitat_lab_that_does_not_fit(
    lab: str, python: tuple[int, int], expected: str
) -> None:
    with pytest.raises(HabitatError) as caught:
        versions._check_lab(lab, python)
    assert expected in str(caught.value)
    assert f"pip install habitat-lab=={versions.TESTED}" in str(caught.value)


@pytest.mark.parametrize(("lab", "python"), [("0.3.320250127", (3, 9)), ("0.3.3", (3, 12))])
def test_releases_that_fit(lab: str, python: tuple[int, int]) -> None:
    versions._check_lab(lab, python)


def test_a_gym_that_is_too_new(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.26.2" if name == "gym" else real(name)
    )
    assert "gym 0.26.2 is too new" in message(simulator="Bullet-v0")


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    words = ["-m", "dreamer_nav", "train", "--preset", "habitat_bullet", "--run", tmp_path / "run"]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    lines = [x for x in done.stderr.splitlines() if x.startswith("dreamer-nav: error")]
    assert len(lines) == 1
    assert "python -m sim_adapters.habitat.episodes" in lines[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
