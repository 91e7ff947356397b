"""Training and evaluation by the command, with iGibson in the other Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sim_adapters.vector import EnvSpec

ROOT = Path(__file__).parents[2]


def dreamer_nav(folder: Path, *words: str) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "dreamer_nav", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1200,
    )


@pytest.mark.slow
def test_training_and_evaluation_in_two_scenes(
    tmp_path: Path, data: Path, spec: Callable[..., EnvSpec]
) -> None:
    python = str(spec().python)
    options = []
    for line in (
        "--preset igibson_tiny --run run --threads 1 --env.max_steps 10 --eval.env.max_steps 10",
        "--train.steps 60 --train.prefill_steps 30 --train.num_envs 2 --train.pretrain_updates 1",
        "--replay.batch_size 2 --replay.batch_length 8",
    ):
        options += line.split()
    where = ["--train.env_python", python, "--env.data", str(data)]
    done = dreamer_nav(tmp_path, "train", *options, *where)
    assert done.returncode == 0, done.stderr[-2000:]
    scenes = ["tiny_train_0", "tiny_val_0"]
    done = dreamer_nav(tmp_path, "eval", "run", "--episodes", "2", "--scenes", *scenes)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "all scenes" in done.stdout
    report = json.loads(next((tmp_path / "run" / "eval").glob("*.json")).read_text())
    assert set(report["policies"]) == {"dreamer", "shortest path", "greedy", "random"}
    assert list(report["scenes"]) == scenes
    for scene in scenes:
        assert report["scenes"][scene]["dreamer"]["success"]["n"] == 2
    played = {episode["scene_id"] for episode in report["episodes"]["dreamer"]}
    assert played == set(scenes)


@pytest.mark.slow
def test_missing_data_is_one_line(tmp_path: Path, spec: Callable[..., EnvSpec]) -> None:
    python = str(spec().python)
    words = ["train", "--preset", "igibson_tiny", "--run", "run", "--train.env_python", python]
    done = dreamer_nav(tmp_path, *words)
    assert done.returncode == 1
    (line,) = [x for x in done.stderr.splitlines() if "there is no folder" in x]
    assert "python -m sim_adapters.igibson.tiny" in line
    assert "Traceback" not in done.stderr
