"""Replay: what goes in comes out, where it may come from and how often."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dreamer_nav.config import ReplayConfig
from dreamer_nav.replay import Replay, ReplayError, RowSpec
from tests.dreamer_nav.replay_rows import (
    SMALL,
    SPECS,
    fill,
    make,
    row,
    starts,
)

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
