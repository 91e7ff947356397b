"""`python -m habitat_baselines.run`, unmodified, with our trainer and with its own PPO."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dreamer_nav.failures import UsageError
from tests.habitat.baselines import Workplace

STEPS = 120


@pytest.fixture(scope="module")
def place(episodes: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("baselines"), episodes)


@pytest.fixture(scope="module")
def trained(place: Workplace) -> Path:
    """The checkpoint folder of a short training."""
    place.run("dreamer_bullet", f"habitat_baselines.total_num_steps={STEPS}")
    return place.checkpoints("dreamer_bullet")


@pytest.fixture(scope="module")
def ppo(place: Workplace) -> Path:
    """A checkpoint of PPO after two updates."""
    return place.train_ppo()


def test_training_writes_checkpoints_of_plain_containers(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names == {"ckpt.0.pth", "ckpt.1.pth", "latest.pth", ".habitat-resume-state.pth"}
    steps = []
    for name in ("ckpt.0.pth", "ckpt.1.pth", "latest.pth"):
        content = torch.load(trained / name, weights_only=True)
        assert content["config"]["habitat_baselines"]["trainer_name"] == "dreamer"
        steps.append(content["extra_state"]["step"])
    assert steps == [STEPS // 2, STEPS, STEPS]
    assert (trained.with_name("dreamer_bullet.run") / "replay" / "meta.json").is_file()
    a, b = (torch.load(trained / f"ckpt.{n}.pth", weights_only=True) for n in (0, 1))
    moved = [k for k in a["state_dict"] if not torch.equal(a["state_dict"][k], b["state_dict"][k])]
    assert len(moved) > len(a["state_dict"]) / 2  # it learned in between


def test_scalars_have_the_names_that_ppo_gives_them(trained: Path, place: Workplace) -> None:
    scalars = place.scalars("dreamer_bullet")
    assert {"reward", "perf/fps", "metrics/success", "metrics/spl", "metrics/soft_spl"} <= set(
        scalars
    )
    assert {"metrics/distance_to_goal", "metrics/distance_to_goal_reward"} <= set(scalars)
    losses = [tag for tag in scalars if tag.startswith("learner/loss/")]
    assert len(losses) > 3
    assert scalars["reward"][-1][0] == STEPS
    assert not {tag.partition("/")[0] for tag in scalars} - {
        "reward", "perf", "metrics", "learner", "env"
    }  # fmt: skip


def test_the_same_command_after_the_end_changes_nothing(trained: Path, place: Workplace) -> None:
    before = torch.load(trained / "latest.pth", weights_only=True)
    place.run("dreamer_bullet", f"habitat_baselines.total_num_steps={STEPS}")
    after = torch.load(trained / "latest.pth", weights_only=True)
    assert after["extra_state"]["step"] == STEPS
    for name, tensor in before["state_dict"].items():
        assert torch.equal(tensor, after["state_dict"][name]), name


def test_a_folder_is_evaluated_twice_with_videos(trained: Path, place: Workplace) -> None:
    films = ("habitat_baselines.eval.video_option=[disk]", "habitat_baselines.test_episode_count=3")
    tables = []
    names = ["dreamer_bullet", "dreamer_pointnav"]
    if importlib.util.find_spec("habitat_sim") is not None:  # without it they are the same
        names[1] = "dreamer_bullet"
    for name in names:
        text = place.run(name, "habitat_baselines.evaluate=True", *films)
        assert "Simulator Bullet-v0, episodes data/datasets/pointnav/bullet_apartment/" in text
        tables.append([line for line in text.splitlines() if line.startswith(("SPL", "steps"))])
    assert len(tables[0]) == 4  # two lines of two checkpoints
    assert tables[0] == tables[1]
    assert len(list((place.folder / "videos" / "dreamer_bullet").glob("*.mp4"))) == 6
    scalars = place.scalars("dreamer_bullet")
    assert [step for step, _ in scalars["eval_reward/average_reward"]] == 2 * [STEPS // 2, STEPS]
    assert {"eval_metrics/success", "eval_metrics/spl", "eval_metrics/collisions.count"} <= set(
        scalars
    )


def workers_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = [int(c) for c in children]
    return [c for c in found if "worker.py" in Path(f"/proc/{c}/cmdline").read_text()]


class Background:
    """A training that is stopped by a signal."""

    def __init__(self, place: Workplace, log: str, *words: str, **variables: str) -> None:
        self.log = place.folder / log
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                place.command("dreamer_bullet", "habitat_baselines.total_num_steps=100000", *words),
                cwd=place.folder,
                env={**place.environment(), **variables},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def until(self, condition: Any) -> None:
        for _ in range(6000):  # ten minutes, for busy machines
            if condition():
                return
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.1)
        self.process.kill()
        raise AssertionError("it did not come to that")

    def end(self, signum: int) -> tuple[int, str]:
        """Exit status and output after a signal."""
        self.process.send_signal(signum)
        return self.process.wait(timeout=600), self.log.read_text()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds workers in /proc")
def test_a_killed_worker_costs_an_episode_and_signals_leave_a_run_that_goes_on(
    place: Workplace,
) -> None:
    own = (
        "habitat_baselines.checkpoint_folder=data/checkpoints/stopped",
        "habitat_baselines.tensorboard_dir=tb/stopped",
    )
    state = place.checkpoints("stopped") / ".habitat-resume-state.pth"
    training = Background(place, "first.log", *own)
    training.until(state.is_file)
    os.kill(workers_of(training.process.pid)[0], signal.SIGKILL)
    age = state.stat().st_mtime_ns
    training.until(lambda: state.stat().st_mtime_ns != age)
    status, text = training.end(signal.SIGTERM)
    assert status == 130, text[-3000:]
    assert "the same command goes on from there" in text
    assert "Traceback" not in text
    first = steps_done(state)
    assert first > 20
    assert place.scalars("stopped")["env/worker_restarts"][-1][1] >= 1

    # In a SLURM batch job, whose scontrol is a stand-in here.
    tools = place.folder / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text('#!/bin/sh\necho "$@" > requeued\n')
    (tools / "scontrol").chmod(0o755)
    slurm = {"SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "nav"}
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    training = Background(place, "second.log", *own, PATH=path, **slurm)
    training.until(lambda: steps_done(state) > first)
    status, text = training.end(signal.SIGUSR1)
    assert status == 0, text[-3000:]
    assert (place.folder / "requeued").read_text() == "requeue 17\n"
    second = steps_done(state)
    assert "different configuration" not in text

    again = ("habitat_baselines.load_resume_state_config=False", *own)
    place.run("dreamer_bullet", f"habitat_baselines.total_num_steps={second + 40}", *again)
    latest = torch.load(place.checkpoints("stopped") / "latest.pth", weights_only=True)
    assert second + 40 <= latest["extra_state"]["step"] < second + 42
    steps = [step for step, _ in place.scalars("stopped")["reward"]]
    assert steps == sorted(set(steps))


def steps_done(state: Path) -> int:
    return int(torch.load(state, weights_only=True)["requeue_stats"]["num_steps_done"])


def test_stock_ppo_trains_on_the_same_task(ppo: Path) -> None:
    from dreamer_nav.habitat.ppo import read_checkpoint

    content = read_checkpoint(ppo)
    assert content["extra_state"]["step"] == 64
    assert content["config"].habitat.simulator.type == "Bullet-v0"


class Trap:
    """Unpickled, it would call `function` with a path."""

    def __init__(self, function: Callable[[str], object], path: Path) -> None:
        self.function, self.path = function, path

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return self.function, (str(self.path),)


# A stranger; a module that an allowed one has imported; a function and a class of others in an allowed module.
@pytest.mark.parametrize(
    "name",
    [
        "posix.mkdir",
        "omegaconf.omegaconf.os.mkdir",
        "omegaconf.omegaconf.open_dict",
        "omegaconf.omegaconf.Enum",
    ],
)
def test_a_ppo_file_that_would_run_code_is_refused(name: str, ppo: Path, tmp_path: Path) -> None:
    from dreamer_nav.habitat.ppo import read_checkpoint

    made, file = tmp_path / "made", tmp_path / "ckpt.0.pth"
    content = {**read_checkpoint(ppo), "trap": Trap(os.mkdir, made)}
    torch.save(content, file)
    rename_in_pickle(file, b"posix\nmkdir\n", "\n".join(name.rsplit(".", 1)).encode() + b"\n")
    with pytest.raises(UsageError, match=rf"pickles {re.escape(name)}, .* not opened"):
        read_checkpoint(file)
    assert not made.exists()


def rename_in_pickle(file: Path, old: bytes, new: bytes) -> None:
    """Write the archive again with other bytes in its pickle."""
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in parts.items():
            assert not name.endswith("data.pkl") or old in data
            archive.writestr(name, data.replace(old, new) if name.endswith("data.pkl") else data)


def test_other_files_are_no_checkpoint_of_ppo(trained: Path, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    from dreamer_nav.habitat.ppo import read_checkpoint

    (tmp_path / "text.pth").write_text("no archive")
    torch.save({"config": {}, "state_dict": {}}, tmp_path / "other.pth")
    another = OmegaConf.create({"habitat_baselines": {"rl": {}}})
    torch.save({"config": another, "state_dict": {}}, tmp_path / "another.pth")
    names = ("text.pth", "other.pth", "another.pth")
    for file in (trained / "latest.pth", *(tmp_path / name for name in names)):
        with pytest.raises(UsageError, match="is not a checkpoint of habitat-baselines' PPO"):
            read_checkpoint(file)
    with pytest.raises(UsageError, match="no checkpoint file"):
        read_checkpoint(tmp_path / "missing.pth")


def test_the_stock_evaluator_runs_our_policy(trained: Path, place: Workplace) -> None:
    text = place.evaluate_with_theirs("dreamer_bullet", trained / "ckpt.1.pth")
    assert "Traceback" not in text
    scalars = place.scalars("stock")
    assert scalars["eval_metrics/success"][0][0] == STEPS


def test_one_table_of_both_agents_and_the_shortest_path(
    trained: Path,
    ppo: Path,
    place: Workplace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import json

    from dreamer_nav.habitat.compare import main

    monkeypatch.chdir(place.folder)  # the data set is in it
    file = place.folder / "table.json"
    words = [str(trained / "latest.pth"), "--ppo", str(ppo), "--episodes", "3", "--json", str(file)]
    assert main(words) == 0
    assert "SPL" in capsys.readouterr().out
    report = json.loads(file.read_text())
    assert list(report["policies"]) == ["dreamer", "ppo", "shortest path", "greedy", "random"]
    played = [[e["episode_id"] for e in v] for v in report["episodes"].values()]
    assert played == [["0", "1", "2"]] * 5
    assert report["policies"]["shortest path"]["spl"]["n"] == 3


def test_the_agent_plays_through_habitats_benchmark(
    trained: Path, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import habitat

    from dreamer_nav.habitat.agent import DreamerAgent

    monkeypatch.chdir(place.folder)
    file = place.checkpoints("dreamer_bullet").with_name("dreamer_bullet.run") / "habitat.yaml"
    benchmark = habitat.Benchmark(str(file))
    agent = DreamerAgent(trained / "ckpt.1.pth")
    metrics = benchmark.evaluate(agent, num_episodes=2)
    assert 0 <= metrics["spl"] <= 1
    assert metrics["distance_to_goal"] > 0
    observation = benchmark._env.reset()
    agent.reset()
    assert agent.act(observation)["action"] in range(4)
    del observation["pointgoal_with_gps_compass"]
    with pytest.raises(ValueError, match="needs the sensor pointgoal"):
        agent.act(observation)
