"""Metrics: what is logged can be read, survives a kill, and a resumed file equals a whole one."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dreamer_nav.metrics import EpisodeStats, Mean, MetricsLogger

ROOT = Path(__file__).parents[2]


def lines(run_dir: Path) -> list[dict[str, float | None]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def scalars(run_dir: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_a_line_holds_the_step_and_exact_values_at_once(tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path / "run")
    logger.log(1000, {"loss/kl_nats": 0.1 + 0.2, "train/updates": 3})
    assert lines(tmp_path / "run") == [
        {"step": 1000, "loss/kl_nats": 0.1 + 0.2, "train/updates": 3.0}
    ]
    logger.close()
    logger.close()


def test_non_finite_values_are_null_so_that_every_line_is_json(tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path)
    logger.log(1, {"a": math.nan, "b": -math.inf, "c": 1.0})
    logger.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == {
        "step": 1,
        "a": None,
        "b": None,
        "c": 1.0,
    }


def test_tensorboard_reads_the_scalars(tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path)
    for step in (10, 20):
        logger.log(step, {"loss/total": step / 4})
    logger.close()
    assert scalars(tmp_path, "loss/total") == [(10, 2.5), (20, 5.0)]


def test_a_resumed_run_leaves_the_file_and_the_curve_of_an_uninterrupted_one(
    tmp_path: Path,
) -> None:
    whole = MetricsLogger(tmp_path / "whole")
    for step in range(0, 60, 10):
        whole.log(step, {"loss": step / 7})
    whole.close()
    killed = MetricsLogger(tmp_path / "killed")
    for step in range(0, 50, 10):
        killed.log(step, {"loss": step / 7 if step <= 20 else -1.0})
    killed.close()
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 50, "lo')  # torn by the kill
    resumed = MetricsLogger(tmp_path / "killed", resume_step=20)
    for step in range(30, 60, 10):
        resumed.log(step, {"loss": step / 7})
    resumed.close()
    files = [(tmp_path / run / "metrics.jsonl").read_bytes() for run in ("whole", "killed")]
    assert files[0] == files[1]
    assert scalars(tmp_path / "killed", "loss") == scalars(tmp_path / "whole", "loss")


@pytest.mark.parametrize("tail", ['{"step": 2, "a"', '{"step": 2, "a": 1.0}', "\x00\x00\n"])
def test_a_torn_line_is_removed_before_the_next_is_written(tmp_path: Path, tail: str) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "a": 0.5}\n' + tail)
    logger = MetricsLogger(tmp_path)
    logger.log(3, {"a": 0.25})
    logger.close()
    assert lines(tmp_path) == [{"step": 1, "a": 0.5}, {"step": 3, "a": 0.25}]


def test_logged_lines_survive_a_kill(tmp_path: Path) -> None:
    code = (
        f"import sys, os, signal; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from dreamer_nav.metrics import MetricsLogger\n"
        f"logger = MetricsLogger(Path({str(tmp_path)!r}))\n"
        "for step in range(5): logger.log(step, {'a': step})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2, 3, 4]
    assert [step for step, _ in scalars(tmp_path, "a")] == [0, 1, 2, 3, 4]


def test_importing_the_module_does_not_load_tensorboard_or_av() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import dreamer_nav.metrics\n"
        "assert not {'tensorboard', 'av'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        MetricsLogger(tmp_path / "file" / "run")


def test_videos_go_to_the_runs_folder(tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path)
    path = logger.video(12, "open_loop", np.zeros((3, 16, 16, 3), np.uint8), 10)
    assert path == tmp_path / "videos" / "open_loop-000000012.mp4"
    assert path.stat().st_size > 0
    logger.close()


# -------------------------------------------------------------------- means


def test_means_are_over_the_calls_that_had_the_name() -> None:
    mean = Mean()
    mean.add({"a": torch.tensor(1.0), "b": torch.tensor([2.0, 4.0]), "c": 10.0})
    mean.add({"a": torch.tensor(3.0), "c": 20})
    mean.add({"b": torch.tensor(6, dtype=torch.int32), "a": 8.0})
    assert mean.pop() == {"a": 4.0, "b": 4.5, "c": 15.0}
    assert mean.pop() == {}


def test_a_value_overwritten_by_the_next_update_was_counted_as_it_was() -> None:
    static = torch.tensor(1.0, requires_grad=True)
    mean = Mean()
    mean.add({"loss": static})
    with torch.no_grad():
        static.fill_(5.0)  # as a captured graph does with its outputs
    mean.add({"loss": static})
    assert mean.pop() == {"loss": 3.0}


def test_adding_never_asks_the_device_for_a_value() -> None:
    mean = Mean()
    for _ in range(3):  # tensors without values: reading one raises
        mean.add({"a": torch.empty((), device="meta"), "b": torch.empty(4, device="meta")})
    with pytest.raises((RuntimeError, NotImplementedError)):
        mean.pop()


def test_means_go_on_exactly_after_a_resume() -> None:
    values = torch.rand(20, generator=torch.Generator().manual_seed(0))
    whole, first, second = Mean(), Mean(), Mean()
    for i, value in enumerate(values):
        entry = {"x": value, "y": value * 1e4, "z": float(i) / 3}
        whole.add(entry)
        if i == 9:
            second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        (first if i < 9 else second).add(entry)
    assert second.pop() == whole.pop()


# ----------------------------------------------------------------- episodes


def test_episode_means_are_over_the_last_window() -> None:
    stats = EpisodeStats(window=3)
    assert stats.means() == {}
    for i in range(5):
        stats.add(float(i), 10 * i, success=float(i % 2), spl=0.5)
    assert stats.means() == {
        "episode/return": 3.0,
        "episode/length_steps": 30.0,
        "episode/success_rate": 1 / 3,
        "episode/spl": 0.5,
        "episode/total": 5.0,
    }


def test_of_long_episodes_only_the_newest_count() -> None:
    stats = EpisodeStats(window=10, steps=100, least=2)
    for i in range(8):
        stats.add(float(i), 30)
    assert stats.means()["episode/return"] == 6.0  # 5, 6, 7: four would last 120 steps
    for i in range(8):
        stats.add(float(i), 70, success=1.0)
    assert stats.means()["episode/return"] == 6.5  # 6, 7: never fewer than two
    for i in range(20):
        stats.add(float(i), 1, success=0.0)
    assert stats.means()["episode/return"] == 14.5  # 10 to 19
    assert stats.means()["episode/success_rate"] == 0.0


def test_tasks_without_success_do_not_report_it() -> None:
    stats = EpisodeStats()
    stats.add(1.0, 7)
    assert stats.means().keys() == {"episode/return", "episode/length_steps", "episode/total"}


def test_episode_statistics_go_on_after_a_resume() -> None:
    whole, part = EpisodeStats(window=4), EpisodeStats(window=4)
    for i in range(9):
        whole.add(i / 3, i, success=i % 2)
        if i == 5:
            state = json.loads(json.dumps(part.state_dict()))
            part = EpisodeStats(window=4)
            part.load_state_dict(state)
        part.add(i / 3, i, success=i % 2)
    assert part.means() == whole.means()
    assert part.total == 9
