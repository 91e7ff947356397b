"""Replay on disk: reopening, rewinding, killed writers, full disks and permissions."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dreamer_nav import ring
from dreamer_nav.config import ReplayConfig
from dreamer_nav.replay import Replay, ReplayError, RowSpec
from tests.dreamer_nav.replay_rows import (
    SMALL,
    SPECS,
    assert_same,
    batches,
    fill,
    make,
    row,
    starts,
)
from tests.dreamer_nav.small_disk import run_on_small_disk

ROOT = Path(__file__).parents[2]

# -------------------------------------------------------- reopening, rewind


@pytest.mark.parametrize("sample", ["steps", "episodes"])
@pytest.mark.parametrize("before", [25, 61, 130, 500])
def test_rewinding_is_exact_even_after_the_ring_wrapped(
    tmp_path: Path, sample: str, before: int
) -> None:
    config = ReplayConfig(60, 8, 5, sample=sample)  # type: ignore[arg-type]
    replay = make(tmp_path, config, num_envs=1, slack_steps=20)
    number = fill(replay, 0, [9] * (before // 9) + [before % 9])
    for i in range(3):  # an unfinished episode
        replay.add(row(0, number + i, first=i == 0), np.array([0]))
    saved, truth = replay.state_dict(), batches(replay)
    # The worst 20 steps: one-step episodes, each with its reset row.
    fill(replay, 0, [2] * 20, start=10_000)
    replay.close()
    again = make(tmp_path, config, num_envs=1, slack_steps=20)
    again.load_state_dict(saved)
    assert again.state_dict() == saved
    assert_same(batches(again), truth)
    # And the course after it is the same as if nothing had happened.
    other = make(tmp_path / "other", config, num_envs=1, slack_steps=20)
    fill(other, 0, [9] * (before // 9) + [before % 9])
    for i in range(3):
        other.add(row(0, number + i, first=i == 0), np.array([0]))
    for r in (again, other):
        r.add(row(0, number + 3, last=True), np.array([0]))
        fill(r, 0, [30, 4, 11, 7], start=number + 4)
    assert_same(batches(again), batches(other))


@pytest.mark.parametrize("sample", ["steps", "episodes"])
def test_streams_of_unequal_speed_rewind_exactly(tmp_path: Path, sample: str) -> None:
    config = ReplayConfig(120, 8, 5, sample=sample)  # type: ignore[arg-type]
    replay = make(tmp_path, config, num_envs=3, slack_steps=15)
    ends = [fill(replay, 0, [8] * 20), fill(replay, 1, [12, 6]), fill(replay, 2, [2])]
    saved, truth = replay.state_dict(), batches(replay)
    fill(replay, 0, [15], start=ends[0])  # all of the slack's steps in one stream
    assert replay.state_dict() != saved
    replay.load_state_dict(saved)
    assert_same(batches(replay), truth)


def test_going_back_further_than_the_slack_leaves_out_what_was_overwritten(
    tmp_path: Path,
) -> None:
    replay = make(tmp_path, slack_steps=5)  # a ring of 70 for a window of 60
    number = fill(replay, 0, [80])
    saved = replay.state_dict()
    fill(replay, 0, [25], start=number)
    with pytest.warns(UserWarning, match="oldest 15 of 60 rows of environment 0 were overwritten"):
        replay.load_state_dict(saved)
    assert replay.num_rows == 45
    drawn = starts(replay, 0, 40)[:, 0]
    assert (drawn.min(), drawn.max()) == (35, 75)
    again = replay.state_dict()
    replay.load_state_dict(again)  # no second warning: what is lost is known
    assert replay.num_rows == 45


def test_files_of_another_run_are_noticed(tmp_path: Path) -> None:
    replay = make(tmp_path)
    fill(replay, 0, [10])
    with pytest.raises(ReplayError, match="row 39 of environment 0 is not in its files"):
        replay.load_state_dict({"format": 1, "rows": [40], "oldest": [0]})
    assert replay.num_rows == 10
    with pytest.raises(ReplayError, match="position is of 2 environments"):
        replay.load_state_dict({"format": 1, "rows": [4, 4], "oldest": [0, 0]})


def test_reopening_with_other_specs_names_the_file_and_both(tmp_path: Path) -> None:
    make(tmp_path).close()
    other = {**SPECS, "image": RowSpec((8, 8, 3), "uint8", 0.0, 255.0)}
    with pytest.raises(ReplayError) as caught:
        Replay(tmp_path, other, 1, SMALL, 10)
    for part in ("meta.json", "uint8 (4, 4, 3)", "uint8 (8, 8, 3)", "'image'"):
        assert part in str(caught.value)
    with pytest.raises(ReplayError, match="holds nothing for 'sound'"):
        Replay(tmp_path, {**SPECS, "sound": RowSpec((2,), "float32")}, 1, SMALL, 10)
    with pytest.raises(ReplayError, match="made with num_envs 1, this run has 2"):
        make(tmp_path, num_envs=2)
    with pytest.raises(ReplayError, match="made with capacity_steps 60, this run has 70"):
        make(tmp_path, ReplayConfig(70, 8, 5))


def test_reopening_keeps_the_ring_it_was_made_with(tmp_path: Path) -> None:
    replay = make(tmp_path, slack_steps=10)
    fill(replay, 0, [100])
    saved, truth = replay.state_dict(), batches(replay)
    replay.close()
    smaller = make(tmp_path, slack_steps=5)
    smaller.load_state_dict(saved)
    assert_same(batches(smaller), truth)
    smaller.close()
    with pytest.warns(UserWarning, match="more frequent checkpoints"):
        make(tmp_path, slack_steps=50).load_state_dict(saved)


def test_damaged_folders_are_named(tmp_path: Path) -> None:
    make(tmp_path).close()
    meta = (tmp_path / "meta.json").read_text()
    os.truncate(tmp_path / "image.bin", 100)
    with pytest.raises(ValueError, match=r"image\.bin has 100 bytes where"):
        make(tmp_path)
    (tmp_path / "meta.json").write_text(meta[:50])
    with pytest.raises(ReplayError, match=r"meta\.json is damaged"):
        make(tmp_path)
    (tmp_path / "meta.json").write_text(meta.replace('"format": 1', '"format": 2'))
    with pytest.raises(ReplayError, match="has format 2 and this version of dreamer-nav reads 1"):
        make(tmp_path)


def test_files_are_sparse_until_rows_are_added(tmp_path: Path) -> None:
    specs = {**SPECS, "image": RowSpec((64, 64, 3), "uint8", 0.0, 255.0)}
    config = ReplayConfig(100_000, 8, 5)
    replay = Replay(tmp_path, specs, 1, config, 0)
    path = tmp_path / "image.bin"
    assert path.stat().st_size == 100_000 * 64 * 64 * 3
    assert path.stat().st_blocks * 512 < 2**20
    replay.add({**row(0, 0), "image": np.ones((1, 64, 64, 3), np.uint8)}, np.array([0]))
    assert path.stat().st_blocks * 512 < 80 * 2**20


WRITER = """
import sys, numpy as np
from pathlib import Path
sys.path.insert(0, {root!r})
from dreamer_nav.config import ReplayConfig
from dreamer_nav.replay import Replay, RowSpec
specs = {{"image": RowSpec((32, 32, 3), "uint8", 0.0, 255.0), "action": RowSpec((1,), "float32")}}
replay = Replay(Path({folder!r}), specs, 2, ReplayConfig(400, 16, 10), 10**5)
i = 0
while True:
    flags = {{k: np.array([False, False]) for k in ("is_first", "is_last", "is_terminal")}}
    replay.add(dict(flags, image=np.full((2, 32, 32, 3), i % 251, np.uint8),
               action=np.full((2, 1), i, np.float32), reward=np.zeros(2, np.float32)), np.arange(2))
    i += 1
    if i % 100 == 0:
        print(i, flush=True)
"""


def test_a_writer_killed_in_the_middle_loses_nothing_and_frees_the_lock(tmp_path: Path) -> None:
    specs = {"image": RowSpec((32, 32, 3), "uint8", 0.0, 255.0), "action": RowSpec((1,), "float32")}
    config = ReplayConfig(400, 16, 10)
    code = WRITER.format(root=str(ROOT), folder=str(tmp_path))
    for round_ in range(3):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(4 + round_):
                reached = int(writer.stdout.readline())
            with pytest.raises(ReplayError, match="in use by another process"):
                Replay(tmp_path, specs, 2, config, 10**5)
            writer.send_signal(signal.SIGKILL)
        replay = Replay(tmp_path, specs, 2, config, 10**5)
        replay.load_state_dict({"format": 1, "rows": [reached, reached], "oldest": [0, 0]})
        assert replay.num_rows == 400
        batch = replay.sample(np.random.default_rng(0))
        number = batch["action"][..., 0]
        assert (np.diff(number, axis=1) == 1).all()
        assert number.min() >= reached - 200
        assert (batch["image"] == (number % 251)[..., None, None, None]).all()
        replay.close()


# ------------------------------------------------- full disks, permissions


def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_the_replay_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = make(tmp_path, num_envs=2)
    fill(replay, 0, [20])
    truth = batches(replay)

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ring.os, "posix_fallocate", full, raising=False)
    monkeypatch.setattr(ring.shutil, "disk_usage", lambda _: SimpleNamespace(free=123))
    with pytest.raises(OSError, match=r"disk full: replay needs \d+ more bytes and 123 are free"):
        replay.add(row(1, 0, first=True), np.array([1]))
    with pytest.raises(OSError, match=r"image\.bin"):
        replay.add(row(1, 0, first=True), np.array([1]))
    assert replay.num_rows == 20
    assert_same(batches(replay), truth)


def test_without_fallocate_free_space_is_checked_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = make(tmp_path)
    monkeypatch.delattr(ring.os, "posix_fallocate", raising=False)
    monkeypatch.setattr(ring.shutil, "disk_usage", lambda _: SimpleNamespace(free=123))
    with pytest.raises(OSError, match=r"disk full.*123 are free") as caught:
        fill(replay, 0, [5])
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.setattr(ring.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30))
    fill(replay, 0, [5])
    assert replay.num_rows == 5


FILLER = """
import sys, numpy as np
from pathlib import Path
sys.path.insert(0, {root!r})
from dreamer_nav.config import ReplayConfig
from dreamer_nav.replay import Replay, RowSpec
specs = {{"image": RowSpec((64, 64, 3), "uint8", 0.0, 255.0), "action": RowSpec((1,), "float32")}}
replay = Replay(Path({folder!r}) / "replay", specs, 1, ReplayConfig(100_000, 2, 10), 0)
rows = {{k: np.array([False]) for k in ("is_first", "is_last", "is_terminal")}}
rows |= dict(image=np.ones((1, 64, 64, 3), np.uint8), action=np.ones((1, 1), np.float32),
             reward=np.zeros(1, np.float32))
try:
    for i in range(100_000):
        replay.add(rows, np.array([0]))
except OSError as error:
    assert replay.num_rows == i
    if i >= 10:
        assert replay.sample(np.random.default_rng(0))["image"].min() == 1
    print(i, error)
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("unshare"),
    reason="mounting a small file system needs Linux and root",
)
def test_filling_a_real_disk_ends_in_an_error_not_a_crash(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    code = FILLER.format(root=str(ROOT), folder=str(disk))
    printed = run_on_small_disk(disk, "80m", code)
    assert "disk full: replay needs" in printed
    assert "image.bin" in printed
    assert int(printed.split()[0]) > 4000


def test_a_folder_without_write_permission_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    tmp_path.chmod(0o755)
    code = (
        f"import sys, os; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from dreamer_nav.config import ReplayConfig\n"
        "from dreamer_nav.replay import Replay, RowSpec\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"  # root may write anywhere
        f"try: Replay(Path({str(folder)!r}), {{'action': RowSpec((1,), 'float32')}}, 1, "
        "ReplayConfig(60, 8, 5), 0)\n"
        "except PermissionError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Permission denied" in done.stdout
    assert str(folder) in done.stdout


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_closed_forgotten_and_failed_replays_leave_no_file_open(tmp_path: Path) -> None:
    gc.collect()  # what earlier tests dropped
    before = len(os.listdir("/proc/self/fd"))
    replay = make(tmp_path)
    assert len(os.listdir("/proc/self/fd")) > before
    replay.close()
    replay.close()
    assert len(os.listdir("/proc/self/fd")) == before
    replay = make(tmp_path)
    del replay
    os.truncate(tmp_path / "goal.bin", 8)
    with pytest.raises(ValueError, match=r"goal\.bin"):
        make(tmp_path)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
