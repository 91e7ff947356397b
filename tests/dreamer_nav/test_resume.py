"""A run that was stopped, or killed, goes on as if nothing had happened: same weights, moments, random states."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dreamer_nav.checkpoint import latest_checkpoint, load_checkpoint
from dreamer_nav.config import Config
from dreamer_nav.presets import load_config, load_yaml, save_yaml
from dreamer_nav.train import NonFiniteLoss, Trainer, train

ROOT = Path(__file__).parents[2]
RUN = (
    "import sys, torch; from pathlib import Path; from dreamer_nav.presets import load_yaml; "
    "from dreamer_nav.train import train; torch.set_num_threads(1); "
    "train(load_yaml(Path(sys.argv[1])), Path(sys.argv[2]), resume=True)"
)


def tiny(steps: int, **train_settings: Any) -> Config:
    config = load_config("debug", [])
    settings: dict[str, Any] = {
        "steps": steps,
        "prefill_steps": 40,
        "steps_per_update": 2.5,
        "num_envs": 1,
        "env_processes": False,
        "checkpoint_every_steps": 15,
        "log_every_steps": 20,
        "eval_every_steps": 0,
        "keep_checkpoints": 2,
        **train_settings,
    }
    config = replace(config, threads=0, train=replace(config.train, **settings))
    # A ring much smaller than the run: resuming must be exact after it has wrapped, too.
    return replace(config, replay=replace(config.replay, capacity_steps=60))


def final_state(run: Path) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    tensors, meta = load_checkpoint(checkpoint)
    return tensors, {k: v for k, v in meta.items() if k != "config"}


def metrics(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in x.items() if not k.startswith("speed/")} for x in lines]


def assert_same(left: Path, right: Path) -> None:
    (tensors, meta), (other, other_meta) = final_state(left), final_state(right)
    assert tensors.keys() == other.keys()
    different = [k for k in tensors if not torch.equal(tensors[k], other[k])]
    assert not different
    assert meta == other_meta
    assert metrics(left) == metrics(right)


def test_two_halves_equal_the_whole_bit_for_bit(tmp_path: Path) -> None:
    train(tiny(160), tmp_path / "whole")
    train(tiny(80), tmp_path / "halves")
    train(tiny(160), tmp_path / "halves", resume=True)
    assert_same(tmp_path / "whole", tmp_path / "halves")
    assert any("loss/model" in line for line in metrics(tmp_path / "whole"))


def test_resuming_several_environments_mid_episode_is_exact(tmp_path: Path) -> None:
    train(tiny(160, num_envs=3), tmp_path / "whole")
    train(tiny(81, num_envs=3), tmp_path / "halves")
    train(tiny(160, num_envs=3), tmp_path / "halves", resume=True)
    assert_same(tmp_path / "whole", tmp_path / "halves")


@pytest.mark.parametrize("half", [66, 81, 99])
def test_resuming_environments_whose_episodes_differ_in_length_is_exact(
    tmp_path: Path, half: int
) -> None:
    # A countdown task: each environment is at another step of its episode, some at the very start.
    def uneven(steps: int) -> Config:
        config = tiny(steps, num_envs=3)
        return replace(config, env={**config.env, "task": "terminal"})

    train(uneven(132), tmp_path / "whole")
    train(uneven(half), tmp_path / "halves")
    train(uneven(132), tmp_path / "halves", resume=True)
    assert_same(tmp_path / "whole", tmp_path / "halves")


def test_resuming_from_an_older_checkpoint_is_exact(tmp_path: Path) -> None:
    train(tiny(120), tmp_path / "whole")
    train(tiny(100), tmp_path / "back")
    older = sorted((tmp_path / "back" / "checkpoints").iterdir())[0]
    train(tiny(120), tmp_path / "back", resume=True, checkpoint=older)
    assert_same(tmp_path / "whole", tmp_path / "back")


def test_a_different_seed_gives_different_weights(tmp_path: Path) -> None:
    train(tiny(80), tmp_path / "zero")
    train(replace(tiny(80), seed=1), tmp_path / "one")
    zero, one = final_state(tmp_path / "zero")[0], final_state(tmp_path / "one")[0]
    assert any(not torch.equal(zero[k], one[k]) for k in zero)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(tmp_path: Path) -> None:
    train(tiny(80), tmp_path)
    before = latest_checkpoint(tmp_path / "checkpoints")
    trainer = Trainer(tiny(160), tmp_path, resume=True)
    with torch.no_grad():
        next(trainer.agent.model.reward.parameters()).fill_(torch.nan)
    try:
        with pytest.raises(NonFiniteLoss, match=r"loss/reward.*nonfinite-batch\.npz"):
            trainer.run()
    finally:
        trainer.close()
    assert (tmp_path / "nonfinite-batch.npz").exists()
    assert latest_checkpoint(tmp_path / "checkpoints") == before


def test_ctrl_c_leaves_a_run_that_resumes(tmp_path: Path) -> None:
    save_yaml(tiny(100_000), tmp_path / "config.yaml")
    process = _start(tmp_path / "config.yaml", tmp_path / "run")
    while latest_checkpoint(tmp_path / "run" / "checkpoints") is None:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) != 0
    _, meta = final_state(tmp_path / "run")
    step = int(str(meta["step"]))
    train(tiny(step + 20), tmp_path / "run", resume=True)
    train(tiny(step + 20), tmp_path / "whole")
    assert_same(tmp_path / "run", tmp_path / "whole")


def _start(config: Path, run: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", RUN, str(config), str(run)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    save_yaml(tiny(2000), config)
    run, rng = tmp_path / "killed", random.Random(0)
    kills = 0
    for _ in range(20):
        process = _start(config, run)
        before = latest_checkpoint(run / "checkpoints")
        # Until it has got somewhere, so that the kills are spread over the whole run; then at any moment.
        while process.poll() is None and latest_checkpoint(run / "checkpoints") == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills >= 15, f"the run is too short: only {kills} kills hit it"
    process = _start(config, run)
    assert process.wait(timeout=300) == 0
    train(load_yaml(config), tmp_path / "whole")
    assert_same(run, tmp_path / "whole")
