"""Checkpoints: every byte comes back or the reader is told which file is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dreamer_nav import checkpoint
from dreamer_nav.checkpoint import (
    CheckpointError,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    rng_state,
    save_checkpoint,
    set_rng_state,
)
from tests.dreamer_nav.small_disk import run_on_small_disk

ROOT = Path(__file__).parents[2]


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 4, generator=generator)
    return {
        "weight": weight,
        "tied": weight,
        "transposed": weight.T,
        "half": weight.to(torch.bfloat16),
        "count": torch.tensor(seed),
        "flag": torch.tensor(True),
        "empty": torch.zeros(0, 3),
        "random": generator.get_state(),
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    meta = {"updates": 7, "nested": {"list": [1, 2.5, None, "é"]}, "big": 2**127 + 1}
    path = save_checkpoint(tmp_path, 12_000, tensors(), meta, keep=2)
    assert path == tmp_path / "step-000012000"
    assert names(path) == ["meta.json", "state.safetensors"]
    found, found_meta = load_checkpoint(path)
    assert found_meta == meta
    assert found.keys() == tensors().keys()
    for key, value in tensors().items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value)
    assert json.loads((path / "meta.json").read_text())["step"] == 12_000


def test_only_the_newest_are_kept_and_nothing_else_is_left(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        save_checkpoint(tmp_path, step, tensors(step), {"step": step}, keep=2)
    assert names(tmp_path) == ["step-000000015", "step-000000020"]
    assert latest_checkpoint(tmp_path) == tmp_path / "step-000000020"
    assert [load_checkpoint(p)[1]["step"] for p in list_checkpoints(tmp_path)] == [15, 20]


def test_steps_beyond_nine_digits_stay_in_order(tmp_path: Path) -> None:
    for step in (999_999_999, 1_000_000_000, 1_000_000_001):
        save_checkpoint(tmp_path, step, {}, {}, keep=2)
    assert latest_checkpoint(tmp_path) == tmp_path / "step-1000000001"
    assert len(list_checkpoints(tmp_path)) == 2
    meta = tmp_path / "step-1000000001" / "meta.json"
    meta.write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(meta.parent)
    assert caught.value.fallback == tmp_path / "step-1000000000"


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5, tensors(1), {"try": 1}, keep=2)
    path = save_checkpoint(tmp_path, 5, tensors(2), {"try": 2}, keep=2)
    assert names(tmp_path) == ["step-000000005"]
    assert load_checkpoint(path)[1] == {"try": 2}


def test_going_back_removes_the_course_that_was_left(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, step, {}, {}, keep=3)
    save_checkpoint(tmp_path, 15, {}, {}, keep=3)
    assert names(tmp_path) == ["step-000000010", "step-000000015"]


def test_an_empty_or_missing_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert list_checkpoints(tmp_path / "missing") == []


def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "c", 5, tensors(), {"array": np.zeros(2)}, keep=2)
    assert not (tmp_path / "c").exists()
    with pytest.raises(ValueError, match="keep_checkpoints must be at least 1"):
        save_checkpoint(tmp_path / "c", 5, tensors(), {}, keep=0)


# -------------------------------------------------------------------- damage


@pytest.mark.parametrize("file", ["state.safetensors", "meta.json"])
def test_a_flipped_bit_anywhere_is_caught_and_the_file_named(tmp_path: Path, file: str) -> None:
    path = save_checkpoint(tmp_path, 5, tensors(), {"random": [1, 2, 3]}, keep=2)
    whole = (path / file).read_bytes()
    every = 1 if file == "meta.json" else 3
    for position in range(0, len(whole), every):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        (path / file).write_bytes(damaged)
        with pytest.raises(CheckpointError, match=file) as caught:
            load_checkpoint(path)
        assert "damaged" in str(caught.value)
    (path / file).write_bytes(whole)
    load_checkpoint(path)


@pytest.mark.parametrize("file", ["state.safetensors", "meta.json"])
def test_a_truncated_file_is_caught_at_any_length(tmp_path: Path, file: str) -> None:
    path = save_checkpoint(tmp_path, 5, tensors(), {}, keep=2)
    whole = (path / file).read_bytes()
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        (path / file).write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=f"{file} is damaged"):
            load_checkpoint(path)
    (path / file).write_bytes(whole + b"\n")
    with pytest.raises(CheckpointError, match=f"{file} is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("file", ["state.safetensors", "meta.json"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    path = save_checkpoint(tmp_path, 5, tensors(), {}, keep=2)
    (path / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file} is missing"):
        load_checkpoint(path)


def test_what_is_no_checkpoint_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*step-000000005"):
        load_checkpoint(tmp_path / "step-000000005")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("hello")
    for name in ("folder", "file"):
        with pytest.raises(CheckpointError, match=f"{name} is not a checkpoint"):
            load_checkpoint(tmp_path / name)


def test_a_newer_format_says_which_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_FORMAT", 2)
    path = save_checkpoint(tmp_path, 5, tensors(), {}, keep=2)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"has format 2 and .* reads 1; use the version"):
        load_checkpoint(path)


def test_the_newest_intact_older_checkpoint_is_offered(tmp_path: Path) -> None:
    paths = [save_checkpoint(tmp_path, step, tensors(), {}, keep=4) for step in (1, 2, 3, 4)]
    for path in paths[2:]:
        (path / "state.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(paths[3])
    assert caught.value.fallback == paths[1]  # 3 is damaged too
    assert f"{paths[1]} is older and intact" in str(caught.value)
    assert "\n" not in str(caught.value)
    load_checkpoint(caught.value.fallback)
    (paths[1] / "state.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(paths[1])  # not a later one, intact or not
    assert caught.value.fallback == paths[0]
    (paths[3] / "state.safetensors").write_bytes((paths[0] / "state.safetensors").read_bytes())
    (paths[0] / "meta.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(paths[1])
    assert caught.value.fallback is None
    (paths[3] / "state.safetensors").write_bytes(b"")
    (paths[1] / "meta.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(paths[3])
    assert caught.value.fallback is None


# --------------------------------------------------------------------- kills


class Killed(BaseException):
    """Stands for a kill: nothing catches it to tidy up."""


def interrupt_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Stop at the given call into the file system; nothing after it happens.

    A removal stops half-way.
    """
    left, rmtree = [calls], shutil.rmtree
    for module, name in ((os, "rename"), (os, "fsync"), (shutil, "rmtree"), (os, "mkdir")):
        original = getattr(module, name)

        def stop(*args: Any, _original: Any = original, **kwargs: Any) -> Any:
            if left[0] == 0:
                if _original is rmtree:
                    next(Path(args[0]).iterdir()).unlink()
                raise Killed
            left[0] -= 1
            return _original(*args, **kwargs)

        monkeypatch.setattr(module, name, stop)


@pytest.mark.parametrize("step", [10, 15], ids=["same step again", "next step"])
def test_a_kill_between_any_two_operations_leaves_a_whole_newest_checkpoint(
    tmp_path: Path, step: int
) -> None:
    for calls in range(30):
        folder = tmp_path / str(calls)
        save_checkpoint(folder, 5, tensors(5), {"of": 5}, keep=2)
        save_checkpoint(folder, 10, tensors(10), {"of": 10}, keep=2)
        with pytest.MonkeyPatch.context() as monkeypatch:
            interrupt_after(monkeypatch, calls)
            try:
                save_checkpoint(folder, step, tensors(11), {"of": 11}, keep=2)
                finished = True
            except Killed:
                finished = False
        found = latest_checkpoint(folder)
        assert found is not None
        assert load_checkpoint(found)[1]["of"] in (10, 11)
        for path in list_checkpoints(folder):
            load_checkpoint(path)
        save_checkpoint(folder, 20, tensors(), {}, keep=2)  # tidies up
        kept = ["step-000000010", "step-000000020"]
        assert names(folder) in (kept, [f"step-{step:09d}", "step-000000020"])
        if finished:
            assert calls > 5
            return
    pytest.fail("the save never got through")


SAVER = """
import sys, torch
from pathlib import Path
sys.path.insert(0, {root!r})
from dreamer_nav.checkpoint import save_checkpoint
step = int(sys.argv[1])
while True:
    step += 1
    tensor = torch.full((300_000,), float(step))
    save_checkpoint(Path({folder!r}), step, {{"a": tensor}}, {{"step": step}}, keep=2)
    print(step, flush=True)
"""


def test_a_killed_writer_always_leaves_a_checkpoint_that_loads(tmp_path: Path) -> None:
    code = SAVER.format(root=str(ROOT), folder=str(tmp_path))
    reached = 0
    for round_ in range(3):
        command = [sys.executable, "-c", code, str(reached)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(3):
                reached = int(writer.stdout.readline())
            time.sleep(0.004 * round_)
            writer.send_signal(signal.SIGKILL)
        path = latest_checkpoint(tmp_path)
        assert path is not None
        found, meta = load_checkpoint(path)
        assert meta["step"] >= reached
        assert (found["a"] == meta["step"]).all()
        reached = meta["step"]


# ------------------------------------------------- full disks, permissions


def test_a_full_disk_leaves_the_earlier_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 5, tensors(), {}, keep=1)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "fsync_file", full)
    with pytest.raises(CheckpointError, match=r"could not write .*step-000000010: .*No space left"):
        save_checkpoint(tmp_path, 10, tensors(), {}, keep=1)
    assert names(tmp_path) == ["step-000000005"]
    load_checkpoint(tmp_path / "step-000000005")


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("unshare"),
    reason="mounting a small file system needs Linux and root",
)
def test_filling_a_real_disk_ends_in_an_error_and_the_earlier_checkpoint_loads(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\nimport torch\n"
        "from dreamer_nav.checkpoint import *\n"
        f"folder = Path({str(disk)!r}) / 'c'\n"
        "save_checkpoint(folder, 1, {'a': torch.ones(10)}, {}, 2)\n"
        "try: save_checkpoint(folder, 2, {'a': torch.ones(10**6)}, {}, 2)\n"
        "except CheckpointError as error: print(error)\n"
        "print([p.name for p in folder.iterdir()], load_checkpoint(latest_checkpoint(folder)))\n"
    )
    printed = run_on_small_disk(disk, "1m", code)
    assert "could not write" in printed
    assert "No space left" in printed
    assert "['step-000000001'] ({'a': tensor([1.," in printed


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"could not write .*file/checkpoints/step-000000001"):
        save_checkpoint(tmp_path / "file" / "checkpoints", 1, tensors(), {}, keep=1)


# ------------------------------------------------------------- random states


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.Philox, np.random.MT19937])
def test_random_states_go_on_where_they_were(tmp_path: Path, kind: Any) -> None:
    generator = np.random.Generator(kind(3))
    generator.integers(10, dtype=np.int32)  # leaves half a word buffered
    path = save_checkpoint(tmp_path, 1, {}, {"rng": rng_state(generator)}, keep=1)
    truth = generator.integers(1000, size=9), generator.standard_normal(9)
    other = np.random.Generator(kind(4))
    set_rng_state(other, load_checkpoint(path)[1]["rng"])
    np.testing.assert_array_equal(other.integers(1000, size=9), truth[0])
    np.testing.assert_array_equal(other.standard_normal(9), truth[1])


def test_a_random_state_of_another_kind_is_refused() -> None:
    state = rng_state(np.random.Generator(np.random.Philox(0)))
    with pytest.raises(CheckpointError, match="of a Philox generator, this one is a PCG64"):
        set_rng_state(np.random.default_rng(0), state)
