"""An agent's Python without habitat-lab, and habitat-lab's workers in the environment of `make habitat-env`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sim_adapters.vector import EnvSpec, VectorEnv

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-habitat" / "bin" / "python"
VAL = ROOT / "sim_adapters" / "bullet" / "data" / "apartment-val.json.gz"


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-habitat: make habitat-env")
@pytest.mark.skipif(importlib.util.find_spec("habitat") is not None, reason="habitat-lab is here")
def test_habitat_runs_under_another_python_than_the_agent() -> None:
    settings = {
        "config": "pointnav_gibson",
        "simulator": "Bullet-v0",
        "episodes": str(VAL),
        "image_size": 64,
        "sensors": ["depth"],
    }
    vector = VectorEnv([EnvSpec("habitat", settings, python=str(PYTHON))])
    try:
        observation, infos = vector.reset(options={"index": 4})
        assert infos["envs"][0]["episode_id"] == "4"
        assert observation["depth"].shape == (1, 64, 64, 1)
        _, _, terminated, truncated, infos = vector.step(np.array([0]))
        assert terminated[0]
        assert not truncated[0]
        assert infos["envs"][0]["success"] == 0.0
    finally:
        vector.close()


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-habitat: make habitat-env")
@pytest.mark.skipif(importlib.util.find_spec("habitat") is not None, reason="habitat-lab is here")
def test_training_and_evaluation_play_in_the_other_python(tmp_path: Path) -> None:
    options = []
    for line in (
        "--preset habitat_bullet --run run --threads 1 --env.max_steps 20 --eval.env.max_steps 20",
        "--train.steps 60 --train.prefill_steps 30 --train.num_envs 2 --train.pretrain_updates 1",
        "--eval.episodes 2 --replay.batch_size 2 --replay.batch_length 8",
    ):
        options += line.split()
    words = ["train", *options, "--train.env_python", str(PYTHON), "--env.episodes", str(VAL)]
    for command in (words, ["eval", "run", "--episodes", "2"]):
        done = subprocess.run(
            [sys.executable, "-m", "dreamer_nav", *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((tmp_path / "run" / "eval" / "val-000000060.json").read_text())
    assert report["policies"]["dreamer"]["success"]["n"] == 2
    assert set(report["policies"]) == {"dreamer", "shortest path", "greedy", "random"}
