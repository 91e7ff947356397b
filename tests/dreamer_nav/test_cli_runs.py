"""train and eval from the command line: what they hand over, resume, and refuse."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dreamer_nav import cli
from dreamer_nav.presets import load_config, load_yaml
from tests.dreamer_nav.command import (
    ROOT,
    Calls,
    Run,
    replace_module,
    run_process,
    saved_run,
)
from tests.dreamer_nav.scored_runs import write_run

# -- train ---------------------------------------------------------------------------------------


def test_train_hands_over_the_preset_with_overrides(run: Run, trainings: Calls) -> None:
    outcome = run("train", "--preset", "debug", "--run", "r", "--train.steps", "1e3", "--seed=7")
    assert outcome.status == 0, outcome.err
    (call,) = trainings
    assert call["config"] == load_config("debug", ["train.steps=1000", "seed=7"])
    assert call["run_dir"] == Path("r")
    assert (call["resume"], call["checkpoint"]) == (False, None)


def test_train_without_arguments_uses_the_default_preset_in_a_dated_folder(
    run: Run, trainings: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "check_environment", lambda config: None)  # needs no simulator
    assert run("train").status == 0
    (call,) = trainings
    assert call["config"] == load_config("pointgoal_room")
    assert call["run_dir"].parent == Path("runs")
    assert call["run_dir"].name.startswith("pointgoal_room-2")


def test_resume_takes_the_runs_own_configuration(run: Run, trainings: Calls) -> None:
    saved_run(Path("r"), "seed=5")
    assert run("train", "--run", "r", "--resume").status == 0
    (call,) = trainings
    assert call["config"] == load_config("debug", ["seed=5"])
    assert (call["run_dir"], call["resume"]) == (Path("r"), True)


def test_resume_may_train_longer(run: Run, trainings: Calls) -> None:
    saved_run(Path("r"))
    assert run("train", "--run", "r", "--resume", "--train.steps", "900").status == 0
    assert trainings[0]["config"] == load_config("debug", ["train.steps=900"])


def test_resume_refuses_changes_that_would_make_it_another_run(run: Run, trainings: Calls) -> None:
    saved_run(Path("r"))
    words = ["--agent.rssm.deter", "32", "--train.steps", "900", "--seed", "3"]
    complaint = run("train", "--run", "r", "--resume", *words).complaint()
    assert "cannot change seed (0 -> 3), agent.rssm.deter (16 -> 32);" in complaint
    assert not trainings


def test_resume_accepts_a_setting_repeated_unchanged(run: Run, trainings: Calls) -> None:
    saved_run(Path("r"))
    assert run("train", "--run", "r", "--resume", "--agent.rssm.deter", "16").status == 0


def test_resume_from_an_older_checkpoint_finds_its_run(run: Run, trainings: Calls) -> None:
    checkpoint = saved_run(Path("r")) / "checkpoints" / "step-000000100"
    checkpoint.mkdir(parents=True)
    assert run("train", "--resume-from", str(checkpoint)).status == 0
    (call,) = trainings
    assert call["run_dir"].resolve() == Path("r").resolve()
    assert (call["resume"], call["checkpoint"]) == (True, checkpoint)
    saved_run(Path("other"))
    complaint = run("train", "--run", "other", "--resume-from", str(checkpoint)).complaint()
    assert "is not a checkpoint of the run other" in complaint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "debgu"], "Unknown preset 'debgu'. Did you mean 'debug'? Presets: atari"),
        (["--preset", "no.yaml"], "there is no preset file"),
        (["--agent.rsm.deter", "3"], "'agent.rsm.deter'. Did you mean 'agent.rssm.deter'?"),
        (["--agent.horizon", "x"], "'agent.horizon' must be an integer"),
        (["--agent.horizon"], "'--agent.horizon' needs a value"),
        (["--resume"], "--resume needs the run's folder"),
        (["--resume", "--run", "none"], "there is no run none"),
        (["--resume", "--run", "taken"], "taken holds no config.yaml"),
        (["--resume", "--run", "takne"], "there is no run takne. Did you mean taken?"),
        (["--resume", "--run", "taken", "--preset", "debug"], "--preset does not go with --resume"),
        (["--resume-from", "taken/checkpoints/step-000000001"], "there is no checkpoint"),
        (["--preset", "debug", "--run", "taken"], "taken exists already; it is not"),
        (["--preset", "debug", "--run", "a"], "a exists already; go on with it (--run a --resume)"),
        (["--preset", "debug", "--run", "file"], "file is a file; --run names a folder"),
        (["--preset", "debug", "--env.name", "dumy"], "no environment is called 'dumy'. Did you"),
        (["--preset", "debug", "--env.tsk", "x"], "dummy has no option 'tsk'. Did you mean 'task'"),
        (["--preset", "debug", "--env.task", "x"], "env: task must be one of bandit"),
        (["--preset", "debug", "--eval.env.task", "x"], "eval.env: task must be one of bandit"),
        (
            ["--preset", "debug", "--train.env_processes=true", "--eval.env.task", "x"],
            "task must be one of bandit",
        ),
        (["--preset", "debug", "--device", "cuda:99"], "cuda:99"),
    ],
)
def test_wrong_input_to_train_is_one_line(
    run: Run, trainings: Calls, words: list[str], message: str
) -> None:
    saved_run(Path("a"))
    Path("taken").mkdir()
    Path("taken/notes.txt").touch()
    Path("file").touch()
    assert message in run("train", *words).complaint()
    assert not trainings


def test_an_empty_folder_can_become_a_run(run: Run, trainings: Calls) -> None:
    Path("r").mkdir()
    assert run("train", "--preset", "debug", "--run", "r").status == 0


def test_a_missing_simulator_is_answered_with_its_install_line(
    run: Run, trainings: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sim_adapters import registry

    line = "pip install 'dreamer-nav[surely]'"
    entry = registry.Entry("surely_missing:Env", line, "not there", ("surely_missing",))
    monkeypatch.setitem(registry._ENTRIES, "surely", entry)
    complaint = run("train", "--preset", "debug", "--env.name", "surely").complaint()
    assert complaint.endswith(line)


def test_a_run_is_taken_up_again_and_keeps_its_configuration(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "r")
    again = run_process("train", "--run", "r", "--resume", "--train.steps", "400", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert load_yaml(tmp_path / "r" / "config.yaml") == load_config("debug", ["train.steps=400"])
    rows = [json.loads(x) for x in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["step"] < 300
    assert rows[-1]["step"] == 400


def test_a_damaged_checkpoint_is_one_line_naming_the_file_and_an_intact_one(
    trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "r")
    older, newest = sorted((tmp_path / "r" / "checkpoints").glob("step-*"))
    damaged = newest / "state.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    again = run_process("train", "--run", "r", "--resume", cwd=tmp_path)
    assert again.returncode == 1
    assert again.stderr.startswith("dreamer-nav: error: ")
    assert len(again.stderr.splitlines()) == 1
    assert f"r/checkpoints/{newest.name}/state.safetensors" in again.stderr
    assert f"r/checkpoints/{older.name}" in again.stderr
    earlier = run_process("train", "--resume-from", f"r/checkpoints/{older.name}", cwd=tmp_path)
    assert earlier.returncode == 0, earlier.stderr


def test_ctrl_c_stops_with_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dreamer_nav", "train", "--preset", "debug", "--run", "r"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, "--train.steps=1e6"],
        env=env,
        cwd=tmp_path,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "r" / "checkpoints").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == (
        "dreamer-nav: interrupted; go on with: dreamer-nav train --run r --resume"
    )
    assert "Traceback" not in err


def test_an_interruption_before_the_first_checkpoint_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    replace_module(monkeypatch, "dreamer_nav.train", train=train)
    outcome = run("train", "--preset", "debug", "--run", "r")
    assert outcome.status == 130
    assert "interrupted before the first checkpoint; r can be deleted" in outcome.err


@pytest.mark.skipif(sys.platform != "linux", reason="/sys refuses new folders, to root too")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    done = run_process("train", "--preset", "debug", "--run", "/sys/run", cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("dreamer-nav: error: /sys/run: ")


# -- eval ----------------------------------------------------------------------------------------


def test_eval_hands_over_what_was_asked_for(run: Run, evaluations: Calls) -> None:
    saved_run(Path("r"))
    Path("e.json.gz").touch()
    words = ["--env.task", "memory", "r", "--episodes", "7", "--video", "--no-baselines"]
    words += ["--json", "out.json", "--episodes-file", "e.json.gz", "--device", "cpu"]
    assert run("eval", *words).status == 0
    assert evaluations == [
        {
            "path": Path("r"),
            "episodes": 7,
            "env_overrides": {"task": "memory"},
            "episodes_file": Path("e.json.gz"),
            "scenes": [],
            "video": True,
            "json_path": Path("out.json"),
            "baselines": False,
            "device": "cpu",
        }
    ]


def test_eval_leaves_the_rest_to_the_run(run: Run, evaluations: Calls) -> None:
    saved_run(Path("r"))
    assert run("eval", "r").status == 0
    (call,) = evaluations
    assert call["env_overrides"] == {}
    assert call["episodes"] is call["device"] is call["json_path"] is None
    assert (call["video"], call["baselines"], call["scenes"]) == (False, True, [])


def test_eval_hands_over_the_types_of_environment_options(run: Run, evaluations: Calls) -> None:
    saved_run(Path("r"))
    assert (
        run("eval", "r", "--env.length", "5", "--env.image=false", "--env.vector=true").status == 0
    )
    assert evaluations[0]["env_overrides"] == {"length": 5, "image": False, "vector": True}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "there is no run or checkpoint none"),
        (["rum"], "there is no run or checkpoint rum. Did you mean run?"),
        (["run", "--json", "nowhere/out.json"], "there is no folder"),
        (["run", "--json", "run"], "run is a folder; --json names a file"),
        (["run", "--episodes-file", "e.json.gz"], "there is no episode file e.json.gz"),
        (["run", "--device", "gpu"], "gpu"),
        (["run", "run"], "eval plays one run, got 2; .*: dreamer-nav eval --report run run"),
    ],
)
def test_wrong_input_to_eval_is_one_line(
    run: Run, evaluations: Calls, words: list[str], message: str
) -> None:
    saved_run(Path("run"))
    assert re.search(message, run("eval", *words).complaint())
    assert not evaluations


def test_a_run_is_evaluated_and_wrong_environments_are_one_line(
    trained: Path, run: Run, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "r")
    done = run_process("eval", "r", "--episodes", "3", "--json", "out.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 episodes" in done.stdout
    assert json.loads((tmp_path / "out.json").read_text())
    assert "dummy has no option 'tsk'" in run("eval", "r", "--env.tsk=x").complaint()
    assert "task must be one of bandit" in run("eval", "r", "--env.task=x").complaint()
    shutil.rmtree(tmp_path / "r" / "checkpoints")
    assert "holds no checkpoint" in run("eval", "r").complaint()


def test_a_report_puts_runs_beside_the_published_scores(run: Run, evaluations: Calls) -> None:
    for seed in (0, 1):
        write_run(Path(f"pong{seed}"), training={2_500_000: 10.0 + seed}, seed=seed)
    done = run("eval", "--report", "pong0", "pong1", "--json", "out.json")
    assert done.status == 0, done.err
    assert "10.5 [10.0, 11.0]" in done.out
    assert "Written: out.json" in done.out
    report = json.loads(Path("out.json").read_text())
    assert [(r["run"], r["seed"]) for r in report["runs"]] == [("pong0", 0), ("pong1", 1)]
    assert report["tasks"]["atari"]["pong"]["frames"] == [10_000_000, 10_000_000]
    assert not evaluations


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu"], "there is no run rnu. Did you mean run?"),
        (["run"], "run is a run of dummy; published scores are of atari and dmc only"),
        (["pong"], "pong has no evaluation yet; make one: dreamer-nav eval pong"),
        (["pong", "./pong"], "--report was given the same run twice"),
        (["pong", "--video"], "--report plays no episodes, so --video does not go with it"),
        (["pong", "--episodes", "3"], "so --episodes does not go with it"),
        (["pong", "--episodes-file", "x"], "so --episodes-file does not go with it"),
        (["pong", "--no-baselines"], "so --baselines does not go with it"),
        (["pong", "--device", "cpu"], "so --device does not go with it"),
        (["pong", "--env.game=x"], "so --env.game=x does not go with it"),
        (["pong", "--json", "nowhere/out.json"], "there is no folder"),
    ],
)
def test_wrong_input_to_a_report_is_one_line(run: Run, words: list[str], message: str) -> None:
    saved_run(Path("run"))
    write_run(Path("pong"))
    assert message in run("eval", "--report", *words).complaint()


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    write_run(tmp_path / "pong", training={2_500_000: 10.0})
    code = (
        "import sys\nfrom dreamer_nav.cli import main\n"
        "main(['eval', '--report', 'pong'])\nprint('MODULES', *sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=env, cwd=tmp_path)
    table, _, modules = done.stdout.rpartition("MODULES ")
    assert "human-normalised" in table
    assert "torch" not in modules.split()
