"""Replay: what goes in comes out, where it may come from, how often, and what survives."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from dreamer_nav import ring
from dreamer_nav.config import ReplayConfig
from dreamer_nav.replay import Replay, ReplayError, RowSpec
from tests.dreamer_nav.small_disk import run_on_small_disk

ROOT = Path(__file__).parents[2]
SPECS = {
    "image": RowSpec((4, 4, 3), "uint8", 0.0, 255.0),
    "goal": RowSpec((2,), "float32", -np.inf, np.inf),
    "action": RowSpec((3,), "float32"),
}
SMALL = ReplayConfig(capacity_steps=60, batch_size=8, batch_length=5)
# The goal's first number is the row's number and its second the stream's: every slice shows where
# it came from.


def row(env: int, number: int, first: bool = False, last: bool = False) -> dict[str, np.ndarray]:
    return {
        "image": np.full((1, 4, 4, 3), number % 256, np.uint8),
        "goal": np.array([[number, env]], np.float32),
        "action": np.full((1, 3), 0 if first else number, np.float32),
        "reward": np.array([0 if first else number / 10], np.float32),
        "is_first": np.array([first]),
        "is_last": np.array([last]),
        "is_terminal": np.array([last]),
    }


def fill(replay: Replay, env: int, episodes: list[int], start: int = 0) -> int:
    """Add episodes of the given numbers of rows; returns the next row's number."""
    number = start
    for rows in episodes:
        for i in range(rows):
            replay.add(row(env, number, i == 0, i == rows - 1), np.array([env]))
            number += 1
    return number


def make(
    folder: Path, config: ReplayConfig = SMALL, num_envs: int = 1, slack_steps: int = 10
) -> Replay:
    return Replay(folder, SPECS, num_envs, config, slack_steps)


def starts(replay: Replay, seed: int, batches: int) -> np.ndarray:
    """(batches * B, 2): first row and stream of every slice drawn."""
    rng = np.random.default_rng(seed)
    drawn = [replay.sample(rng)["goal"][:, 0].copy() for _ in range(batches)]
    return np.concatenate(drawn).astype(int)


# ------------------------------------------------------------------- content


def test_slices_hold_consecutive_rows_of_one_stream_as_they_were_added(tmp_path: Path) -> None:
    replay = make(tmp_path, num_envs=2)
    fill(replay, 0, [7, 9])
    fill(replay, 1, [20], start=100)
    batch = replay.sample(np.random.default_rng(0))
    number, env = batch["goal"][..., 0], batch["goal"][..., 1]
    assert number.shape == (8, 5)
    assert (np.diff(number, axis=1) == 1).all()
    assert (env == env[:, :1]).all()
    assert set(env[:, 0]) == {0.0, 1.0}
    assert (batch["image"] == number[..., None, None, None]).all()
    assert batch["image"].dtype == np.uint8
    begins = np.isin(number, [0, 7, 100])
    np.testing.assert_array_equal(batch["action"][..., 0], np.where(begins, 0, number))
    np.testing.assert_allclose(batch["reward"], np.where(begins, 0, number / 10), rtol=1e-6)
    np.testing.assert_array_equal(batch["is_last"], np.isin(number, [6, 15, 119]))
    np.testing.assert_array_equal(batch["is_terminal"], batch["is_last"])
    begins[:, 0] = True  # the recurrent state before a slice is unknown
    np.testing.assert_array_equal(batch["is_first"], begins)


def test_marking_slices_starts_leaves_the_stored_flags_alone(tmp_path: Path) -> None:
    replay = make(tmp_path)
    fill(replay, 0, [40])
    rng = np.random.default_rng(0)
    for _ in range(20):
        batch = replay.sample(rng)
        np.testing.assert_array_equal(batch["is_first"][:, 1:], batch["goal"][:, 1:, 0] == 0)


def test_depth_is_kept_in_two_bytes_within_half_a_step_and_inside_its_bounds(
    tmp_path: Path,
) -> None:
    low, high = 0.1, 10.0
    specs = {"depth": RowSpec((6, 6, 1), "float32", low, high), "action": RowSpec((1,), "float32")}
    config = ReplayConfig(capacity_steps=40, batch_size=4, batch_length=1)
    replay = Replay(tmp_path, specs, 1, config, 0)
    depth = np.random.default_rng(0).uniform(low, high, (40, 6, 6, 1)).astype(np.float32)
    depth[:, 0, 0] = low
    depth[:, 0, 1] = high
    for i in range(40):
        values = {"depth": depth[i : i + 1], "action": np.array([[i]], np.float32)}
        flags = {key: np.array([False]) for key in ("is_first", "is_last", "is_terminal")}
        replay.add({**values, **flags, "reward": np.zeros(1, np.float32)}, np.array([0]))
    batch = replay.sample(np.random.default_rng(1))
    truth = depth[batch["action"][:, 0, 0].astype(int)]
    assert batch["depth"].dtype == np.float32
    assert np.abs(batch["depth"][:, 0] - truth).max() <= (high - low) / 65535 / 2 + 1e-6
    assert batch["depth"].min() == np.float32(low)
    assert batch["depth"].max() == np.float32(high)
    assert (tmp_path / "depth.bin").stat().st_size == 40 * 6 * 6 * 2


def test_depth_outside_its_bounds_is_clipped_and_nan_is_refused(tmp_path: Path) -> None:
    specs = {"depth": RowSpec((1, 2, 1), "float32", 0.0, 1.0), "action": RowSpec((1,), "float32")}
    config = ReplayConfig(capacity_steps=4, batch_size=1, batch_length=1)
    replay = Replay(tmp_path, specs, 1, config, 0)
    rows = {key: np.array([False]) for key in ("is_first", "is_last", "is_terminal")}
    rows |= {"reward": np.zeros(1, np.float32), "action": np.zeros((1, 1), np.float32)}
    with pytest.raises(ValueError, match=r"depth: .*NaN"):
        replay.add({**rows, "depth": np.full((1, 1, 2, 1), np.nan, np.float32)}, np.array([0]))
    assert replay.num_rows == 0
    replay.add(
        {**rows, "depth": np.array([-3.0, np.inf], np.float32).reshape(1, 1, 2, 1)}, np.array([0])
    )
    batch = replay.sample(np.random.default_rng(0))
    assert batch["depth"].ravel().tolist() == [0.0, 1.0]


def test_a_given_batch_is_filled_in_place_with_the_same_numbers(tmp_path: Path) -> None:
    replay = make(tmp_path)
    fill(replay, 0, [30])
    fresh = replay.sample(np.random.default_rng(3))
    out = replay.sample(np.random.default_rng(4))
    kept = dict(out)
    again = replay.sample(np.random.default_rng(3), out)
    for key in fresh:
        assert again[key] is kept[key]
        np.testing.assert_array_equal(again[key], fresh[key])
    out["image"] = out["image"].astype(np.float32)
    with pytest.raises(ValueError, match=r"out\['image'\] must be uint8 \(8, 5, 4, 4, 3\)"):
        replay.sample(np.random.default_rng(3), out)


def test_a_depth_batch_made_elsewhere_can_be_filled(tmp_path: Path) -> None:
    specs = {"depth": RowSpec((2, 2, 1), "float32", 0.0, 1.0), "action": RowSpec((1,), "float32")}
    config = ReplayConfig(capacity_steps=4, batch_size=2, batch_length=1)
    replay = Replay(tmp_path, specs, 1, config, 0)
    rows = {key: np.array([False]) for key in ("is_first", "is_last", "is_terminal")}
    rows |= {"reward": np.zeros(1, np.float32), "action": np.zeros((1, 1), np.float32)}
    replay.add({**rows, "depth": np.full((1, 2, 2, 1), 0.25, np.float32)}, np.array([0]))
    out = {key: np.zeros((2, 1, *s.shape), s.dtype) for key, s in replay.specs.items()}
    replay.sample(np.random.default_rng(0), out)
    np.testing.assert_allclose(out["depth"], 0.25, atol=1e-5)


# --------------------------------------------------------------- where from


def test_nothing_can_be_sampled_before_a_whole_slice_is_there(tmp_path: Path) -> None:
    replay = make(tmp_path, num_envs=2)
    fill(replay, 0, [4])
    fill(replay, 1, [4])
    assert not replay.can_sample()
    with pytest.raises(ReplayError, match="8 rows and no slice of 5"):
        replay.sample(np.random.default_rng(0))
    fill(replay, 1, [1], start=4)
    assert replay.can_sample()
    assert (starts(replay, 0, 4) == [0, 1]).all()


def test_only_the_newest_rows_within_capacity_are_sampled_and_never_across_the_write_head(
    tmp_path: Path,
) -> None:
    replay = make(tmp_path, slack_steps=0)  # the ring is exactly the window
    number = 0
    for _ in range(40):
        number = fill(replay, 0, [7], start=number)
        if not replay.can_sample():
            continue
        batch = replay.sample(np.random.default_rng(number))
        numbers = batch["goal"][..., 0]
        assert (np.diff(numbers, axis=1) == 1).all()
        assert numbers.min() >= max(0, number - 60)
        assert numbers.max() < number
    assert replay.num_rows == 60


def test_every_start_is_equally_likely_over_streams_of_unequal_length(tmp_path: Path) -> None:
    replay = make(tmp_path, ReplayConfig(180, batch_size=100, batch_length=5), num_envs=3)
    fill(replay, 0, [130])  # wrapped: rows 70..129 are left
    fill(replay, 1, [4, 3, 13])
    fill(replay, 2, [3])  # too short for any slice
    drawn = starts(replay, seed=0, batches=200)
    expected = {(r, 0) for r in range(70, 126)} | {(r, 1) for r in range(16)}
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    assert {tuple(pair) for pair in found.tolist()} == expected
    assert stats.chisquare(counts).pvalue > 0.01


def test_uniform_over_episodes_draws_a_short_episode_as_often_as_a_long_one(
    tmp_path: Path,
) -> None:
    config = ReplayConfig(200, batch_size=100, batch_length=10, sample="episodes")
    replay = make(tmp_path, config, slack_steps=0)
    fill(replay, 0, [21, 101])  # episodes of 20 and 100 steps
    drawn = starts(replay, seed=0, batches=200)[:, 0]
    short = (drawn < 21).mean()
    assert abs(short - 0.5) < 4 * np.sqrt(0.25 / len(drawn))
    # And inside an episode every window is equally likely.
    inside = np.unique(drawn[drawn < 21], return_counts=True)
    assert inside[0].tolist() == list(range(12))
    assert stats.chisquare(inside[1]).pvalue > 0.01
    steps = make(tmp_path / "steps", ReplayConfig(200, 100, 10), slack_steps=0)
    fill(steps, 0, [21, 101])
    assert (starts(steps, 0, 50)[:, 0] < 21).mean() == pytest.approx(21 / 113, abs=0.02)


@pytest.mark.parametrize(
    ("prioritize", "chance"), [(True, 51 / 501), (False, 1 / 451)], ids=["ends", "uniform"]
)
def test_prioritised_ends_favour_the_last_window_as_the_original_does(
    tmp_path: Path, prioritize: bool, chance: float
) -> None:
    config = ReplayConfig(
        600, 1000, 50, sample="episodes", prioritize_ends=prioritize, min_episode_steps=50
    )
    specs = {"goal": SPECS["goal"], "action": SPECS["action"]}
    replay = Replay(tmp_path, specs, 1, config, 0)
    for i in range(500):
        values = row(0, i, i == 0, i == 499)
        del values["image"]
        replay.add(values, np.array([0]))
    rng, out = np.random.default_rng(0), None
    counts = np.zeros(451, int)
    for _ in range(100):
        out = replay.sample(rng, out)
        counts += np.bincount(out["goal"][:, 0, 0].astype(int), minlength=451)
    assert counts[-1] / counts.sum() == pytest.approx(
        chance, abs=4 * np.sqrt(chance / counts.sum())
    )
    assert stats.chisquare(counts[:-1]).pvalue > 0.01  # all other windows are equally likely


def test_without_a_minimum_length_prioritised_ends_use_the_slice_length(tmp_path: Path) -> None:
    config = ReplayConfig(300, 1000, 10, sample="episodes", prioritize_ends=True)
    replay = make(tmp_path, config, slack_steps=0)
    fill(replay, 0, [100])
    last = (starts(replay, 0, 20)[:, 0] == 90).mean()
    assert last == pytest.approx(11 / 101, abs=0.01)


def test_short_episodes_are_dropped_or_followed_by_the_next_rows(tmp_path: Path) -> None:
    kept = make(tmp_path / "kept", ReplayConfig(60, 50, 5, sample="episodes"))
    fill(kept, 0, [3, 3, 12])
    drawn = starts(kept, 0, 20)[:, 0]
    assert set(drawn) == {0, 3, *range(6, 14)}
    assert (drawn < 6).mean() == pytest.approx(2 / 3, abs=0.06)
    batch = kept.sample(np.random.default_rng(0))
    number = batch["goal"][..., 0]
    inside = batch["is_first"][:, 1:]
    np.testing.assert_array_equal(inside, np.isin(number[:, 1:], [3, 6]))
    assert inside.any()

    config = ReplayConfig(60, 50, 5, sample="episodes", min_episode_steps=5)
    dropped = make(tmp_path / "dropped", config)
    fill(dropped, 0, [5, 6, 12])  # 4, 5 and 11 steps
    assert set(starts(dropped, 0, 20)[:, 0]) == {5, 6, *range(11, 19)}


def test_unfinished_episodes_are_not_drawn_by_episode(tmp_path: Path) -> None:
    replay = make(tmp_path, ReplayConfig(60, 50, 5, sample="episodes"))
    for i in range(20):
        replay.add(row(0, i, first=i == 0), np.array([0]))
    assert not replay.can_sample()
    replay.add(row(0, 20, last=True), np.array([0]))
    assert replay.can_sample()
    assert set(starts(replay, 0, 20)[:, 0]) == set(range(17))


def test_a_short_episode_at_the_write_head_waits_for_the_rows_behind_it(tmp_path: Path) -> None:
    replay = make(tmp_path, ReplayConfig(60, 50, 5, sample="episodes"))
    fill(replay, 0, [3])
    assert not replay.can_sample()
    replay.add(row(0, 3, first=True), np.array([0]))
    assert not replay.can_sample()
    replay.add(row(0, 4), np.array([0]))
    assert (starts(replay, 0, 1)[:, 0] == 0).all()


def test_an_episode_partly_overwritten_is_not_drawn(tmp_path: Path) -> None:
    replay = make(tmp_path, ReplayConfig(40, 50, 5, sample="episodes"), slack_steps=0)
    number = fill(replay, 0, [20, 10])
    for length in [6, 8, 15, 7, 39, 5, 5, 30]:
        number = fill(replay, 0, [length], start=number)
        rng = np.random.default_rng(number)
        numbers = replay.sample(rng)["goal"][..., 0]
        assert numbers.min() >= number - 40
        assert (np.diff(numbers, axis=1) == 1).all()


def test_an_episode_longer_than_the_capacity_is_never_drawn_by_episode(tmp_path: Path) -> None:
    replay = make(tmp_path, ReplayConfig(20, 50, 5, sample="episodes"), slack_steps=0)
    number = fill(replay, 0, [50])
    assert not replay.can_sample()
    number = fill(replay, 0, [12], start=number)
    assert set(starts(replay, 0, 10)[:, 0]) == set(range(50, 58))


def test_sampling_costs_no_more_with_many_episodes(tmp_path: Path) -> None:
    def seconds(episode_rows: int) -> float:
        config = ReplayConfig(20_000, 16, 50, sample="episodes", prioritize_ends=True)
        specs = {"action": RowSpec((1,), "float32")}
        replay = Replay(tmp_path / str(episode_rows), specs, 20, config, 0)
        rows = {"action": np.zeros((20, 1), np.float32), "reward": np.zeros(20, np.float32)}
        for i in range(1000):
            flags = {"is_first": i % episode_rows == 0, "is_last": (i + 1) % episode_rows == 0}
            flags["is_terminal"] = False
            replay.add({**rows, **{k: np.full(20, v) for k, v in flags.items()}}, np.arange(20))
        rng = np.random.default_rng(0)
        out = replay.sample(rng)
        times = []
        for _ in range(200):
            begin = time.perf_counter()
            replay.sample(rng, out)
            times.append(time.perf_counter() - begin)
        replay.close()
        return float(np.min(times))

    few, many = seconds(500), seconds(4)  # 40 and 5000 episodes
    assert many < 3 * few


def test_the_same_random_state_draws_the_same_batches(tmp_path: Path) -> None:
    replay = make(tmp_path)
    fill(replay, 0, [30, 25])
    np.testing.assert_array_equal(starts(replay, 5, 10), starts(replay, 5, 10))
    assert (starts(replay, 5, 10) != starts(replay, 6, 10)).any()


# -------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"goal": None}, r"missing \['goal'\]"),
        ({"sound": np.zeros((1, 2))}, r"unknown \['sound'\]"),
        ({"goal": np.zeros((1, 3), np.float32)}, r"goal: expected shape \(1, 2\), got \(1, 3\)"),
        ({"image": np.zeros((1, 4, 4, 3), np.float32)}, "image: expected uint8, got float32"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_change_nothing(
    tmp_path: Path, change: dict[str, np.ndarray | None], message: str
) -> None:
    replay = make(tmp_path)
    rows = {k: v for k, v in {**row(0, 0), **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        replay.add(rows, np.array([0]))
    assert replay.num_rows == 0


@pytest.mark.parametrize("ids", [[2], [-1], [0, 0]])
def test_wrong_stream_numbers_are_refused(tmp_path: Path, ids: list[int]) -> None:
    replay = make(tmp_path, num_envs=2)
    one = row(0, 0)
    rows = {key: np.concatenate([value] * len(ids)) for key, value in one.items()}
    with pytest.raises(ValueError, match=r"distinct, in 0\.\.1"):
        replay.add(rows, np.array(ids))


def test_sizes_that_cannot_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"capacity_steps 60 over 20 environments keeps 3 rows"):
        make(tmp_path, num_envs=20)
    with pytest.raises(ValueError, match=r'needs a spec for "action"'):
        Replay(tmp_path, {"image": SPECS["image"]}, 1, SMALL, 0)
    with pytest.raises(ValueError, match=r"low < high"):
        RowSpec((4, 4, 1), "float32", 1.0, 1.0)


def test_observation_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    specs = {"../evil/x": RowSpec((2,), "float32"), "action": RowSpec((1,), "float32")}
    folder = tmp_path / "replay"
    replay = Replay(folder, specs, 1, SMALL, 0)
    replay.close()
    assert [path.name for path in tmp_path.iterdir()] == ["replay"]
    assert (folder / "..%2Fevil%2Fx.bin").exists()


# -------------------------------------------------------- reopening, rewind


def batches(replay: Replay, seed: int = 9) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [replay.sample(rng) for _ in range(10)]


def assert_same(a: list[dict[str, np.ndarray]], b: list[dict[str, np.ndarray]]) -> None:
    for x, y in zip(a, b, strict=True):
        for key in x:
            np.testing.assert_array_equal(x[key], y[key])


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
