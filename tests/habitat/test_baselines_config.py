"""The configurations for habitat-baselines, their equality with our presets, and one line for each mistake."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from dreamer_nav.presets import load_config
from sim_adapters.habitat.configuration import Choice, add_measures, compose
from tests.habitat.baselines import CONFIGS, Workplace


@pytest.fixture
def place(episodes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.chdir(tmp_path)
    return Workplace(tmp_path, episodes)


def configuration(name: str, *overrides: str) -> Any:
    from habitat_baselines.config.default import get_config

    return get_config(str(CONFIGS / f"{name}.yaml"), list(overrides))


PRESETS = [("dreamer_bullet", "habitat_bullet"), ("dreamer_pointnav", "habitat_gibson")]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_networks_and_schedule_are_the_presets(name: str, preset: str, place: Workplace) -> None:
    from dreamer_nav.habitat.settings import run_config

    ours, wanted = run_config(configuration(name)), load_config(preset)
    assert ours.agent == wanted.agent
    assert ours.replay == wanted.replay
    assert ours.train == wanted.train
    assert ours.eval.env["split"] == wanted.eval.env["split"]
    assert ours.eval.env.get("max_steps") == wanted.eval.env.get("max_steps")


@pytest.mark.parametrize(("name", "preset"), [*PRESETS, ("ppo_bullet", "habitat_bullet")])
def test_the_task_is_the_presets(name: str, preset: str) -> None:
    ours = configuration(name)
    env = load_config(preset).env
    size = (env["image_size"], env["image_size"])
    choice = Choice(
        simulator=env.get("simulator", ""),
        sensors=tuple(env["sensors"]),
        image_size=size,
        max_steps=env.get("max_steps", 0),
    )
    theirs = compose(env["config"], env.get("overrides", []), choice)
    OmegaConf.set_readonly(ours, False)
    add_measures(ours.habitat)
    a, b = OmegaConf.to_container(ours.habitat), OmegaConf.to_container(theirs.habitat)
    assert a == b


def test_the_configuration_written_for_workers_is_read_back(place: Workplace) -> None:
    from dreamer_nav.habitat.settings import write_habitat

    config = configuration("dreamer_bullet", "habitat.seed=7")
    write_habitat(config, place.folder / "habitat.yaml")
    read = compose(str(place.folder / "habitat.yaml"), [], Choice())
    OmegaConf.set_readonly(config, False)
    add_measures(config.habitat)
    assert OmegaConf.to_container(read.habitat) == OmegaConf.to_container(
        config.habitat, resolve=True
    )


def refused(trainer: Any, verb: str) -> str:
    """The line with which `verb` ends."""
    with pytest.raises(SystemExit) as caught:
        getattr(trainer(), verb)()
    assert isinstance(caught.value.code, str)
    assert caught.value.code.startswith("error: ")
    assert "\n" not in caught.value.code
    return caught.value.code


HAS_SIM = importlib.util.find_spec("habitat_sim") is not None  # then its GPU 0 is what is missing
MISTAKES = {
    "habitat.dataset.split=nowhere": "no split 'nowhere'",
    "habitat.dataset.data_path=absent/{split}.json.gz": "make some: python -m",
    "habitat.simulator.type=Sim-v0": "-1 renders in software" if HAS_SIM else "needs habitat_sim",
    "habitat_baselines.dreamer.preset=bulet": "Unknown preset 'bulet'",
    "++habitat_baselines.dreamer.overrides.train.steps=5": "set by habitat_baselines.total_num_steps",
    "++habitat_baselines.dreamer.overrides.agent.rsm=5": "Did you mean",
    "habitat_baselines.num_updates=5": "One must be -1",
    "habitat_baselines.num_environments=0": "num_envs",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_in_training_is_one_line(override: str, place: Workplace) -> None:
    name, _, value = override.partition("=")
    config = configuration("dreamer_bullet", f"{name}='{value}'")

    def trainer() -> Any:
        from dreamer_nav.habitat.trainer import DreamerTrainer

        return DreamerTrainer(config)

    assert MISTAKES[override] in refused(trainer, "train")


def test_a_missing_scene_is_one_line(place: Workplace, tmp_path: Path) -> None:
    import gzip
    import json

    from dreamer_nav.habitat.trainer import DreamerTrainer

    source = place.folder / "data/datasets/pointnav/bullet_apartment/val/content"
    content = json.loads(gzip.decompress(next(source.glob("*.gz")).read_bytes()))
    for episode in content["episodes"]:
        episode["scene_id"] = "no/such/scene"
    (tmp_path / "gone.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    config = configuration("dreamer_bullet", f"habitat.dataset.data_path={tmp_path}/gone.json.gz")
    assert "are missing" in refused(lambda: DreamerTrainer(config), "train")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "holds no ckpt.N.pth"),
        (lambda path: path.write_bytes(b"text"), "damaged"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_is_one_line(
    make: Any, says: str, place: Workplace
) -> None:
    from dreamer_nav.habitat.trainer import DreamerTrainer

    path = place.folder / "ckpt.7.pth"
    make(path)
    config = configuration("dreamer_bullet", f"habitat_baselines.eval_ckpt_path_dir={path}")
    assert says in refused(lambda: DreamerTrainer(config), "eval")


def test_a_gpu_that_does_not_exist_is_one_line(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from dreamer_nav.habitat.trainer import DreamerTrainer

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config = configuration("dreamer_bullet", "habitat_baselines.torch_gpu_id=2")
    assert "GPU 2" in refused(lambda: DreamerTrainer(config), "train")


def test_a_habitat_lab_that_is_too_old_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from dreamer_nav.habitat.trainer import DreamerTrainer

    config = configuration("dreamer_bullet")
    monkeypatch.setattr("sim_adapters.habitat.versions._version", lambda name: "0.2.4")
    assert "too old" in refused(lambda: DreamerTrainer(config), "train")


def test_a_run_without_its_resume_state_is_not_overwritten(place: Workplace) -> None:
    from dreamer_nav.habitat.trainer import DreamerTrainer

    replay = place.checkpoints("dreamer_bullet.run") / "replay"
    replay.mkdir(parents=True)
    (replay / "depth.bin").write_bytes(b"experience")
    config = configuration("dreamer_bullet")
    assert "is gone" in refused(lambda: DreamerTrainer(config), "train")
    assert (replay / "depth.bin").read_bytes() == b"experience"
