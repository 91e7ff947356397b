from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import trim_mean

from dreamer_nav import scores as module
from dreamer_nav.published import atari_scores
from dreamer_nav.scores import (
    Anchors,
    aggregate,
    clipped_record,
    estimate_aggregates,
    human_normalized,
    interquartile_mean,
    record_normalized,
    run_matrix,
    stratified_bootstrap,
    task_mean,
    task_median,
)

# Random play 0, gamer 1: normalising changes nothing.
PLAIN = Anchors(np.zeros(2), np.ones(2), np.full(2, 10.0))


def tasks(*runs: list[float]) -> list[np.ndarray]:
    return [np.array(task, np.float64) for task in runs]


# -- the paper's figures -------------------------------------------------------------------------

# Table 1 of the paper; of DreamerV2 and the others with the digits that its authors' files give.
PAPER = {
    "dreamerv2": (2.15, 11.33, 0.438, 0.279),
    "iqn": (1.288, 8.852, 0.211, 0.209),
    "rainbow": (1.472, 9.116, 0.17, 0.17),
    "c51": (1.092, 7.697, 0.15, 0.15),
    "dqn": (0.653, 2.843, 0.12, 0.12),
}


@pytest.mark.parametrize("agent", list(PAPER))
def test_the_published_scores_of_an_agent_give_the_paper_s_aggregates(agent: str) -> None:
    games = list(atari_scores().values())
    anchors = Anchors(*np.array([(g.random, g.gamer, g.record) for g in games]).T)
    found = aggregate([np.array([game.agents[agent]]) for game in games], anchors)
    names = ("gamer_median", "gamer_mean", "record_mean", "clipped_record_mean")
    for name, expected in zip(names, PAPER[agent], strict=True):
        # To the last digit that is stated.
        digits = len(str(expected).partition(".")[2])
        assert found[name] == pytest.approx(expected, abs=0.5001 * 10**-digits), name


# -- normalising ---------------------------------------------------------------------------------


def test_scores_are_normalised_by_each_task_s_anchors() -> None:
    anchors = Anchors(np.array([10.0, -20.0]), np.array([20.0, 0.0]), np.array([110.0, 30.0]))
    scores = np.array([[15.0, 0.0], [5.0, 55.0]])
    assert human_normalized(scores, anchors).tolist() == [[0.5, 1.0], [-0.5, 3.75]]
    assert record_normalized(scores, anchors).tolist() == [[0.05, 0.4], [-0.05, 1.5]]
    # Clipped at the record, not at random play.
    assert clipped_record(scores, anchors).tolist() == [[0.05, 0.4], [-0.05, 1.0]]


# -- aggregates ----------------------------------------------------------------------------------


def test_tasks_are_aggregated_before_runs() -> None:
    # The runs' medians are 1, 1, 9, with the mean 11/3; of the tasks' means the median is 13/3.
    scores = np.array([[0.0, 1.0, 5.0], [4.0, 1.0, 0.0], [9.0, 9.0, 9.0]])
    assert task_median(scores) == pytest.approx(11 / 3)
    assert task_mean(scores) == pytest.approx(38 / 9)


def test_the_interquartile_mean_is_of_the_middle_half_of_all_scores() -> None:
    # 1, 2 and 90, 1000 are cut; within each column nothing would be, or other scores.
    scores = np.array([[1.0, 90.0], [2.0, 3.0], [4.0, 5.0], [1000.0, 7.0]])
    assert interquartile_mean(scores) == pytest.approx((3 + 4 + 5 + 7) / 4)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 30])
def test_the_interquartile_mean_is_scipy_s_trimmed_mean(size: int) -> None:
    batch = np.random.default_rng(size).normal(size=(3, size, 5)) ** 3
    expected = [trim_mean(scores, 0.25, axis=None) for scores in batch]
    assert interquartile_mean(batch) == pytest.approx(np.array(expected))


def test_equal_numbers_of_runs_are_paired_in_their_order() -> None:
    assert run_matrix(tasks([1, 2], [3, 4])).tolist() == [[1, 3], [2, 4]]


def test_unequal_numbers_of_runs_all_count_alike() -> None:
    matrix = run_matrix(tasks([1, 2], [10, 20, 30]))
    pairs = {tuple(row) for row in matrix.tolist()}
    assert pairs == {(a, b) for a in (1, 2) for b in (10, 20, 30)}
    assert len(matrix) == 6
    # So a mean is the mean of the tasks' means.
    found = aggregate(tasks([1, 2], [10, 20, 30]), PLAIN)
    assert found["gamer_mean"] == pytest.approx((1.5 + 20.0) / 2)
    assert found["record_mean"] == pytest.approx((1.5 + 20.0) / 20)


def test_a_run_matrix_stays_small_with_any_numbers_of_runs() -> None:
    runs = [np.arange(n, dtype=np.float64) for n in (7, 11, 13, 17)]
    matrix = run_matrix(runs)
    assert matrix.shape == (1000, 4)
    # The last cycle of 17 may be cut, which shifts the mean by half of 17 / 1000 of its range.
    assert matrix.mean(axis=0) == pytest.approx(np.array([3.0, 5.0, 6.0, 8.0]), abs=0.15)


# -- intervals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [2**22, 4000])
@pytest.mark.parametrize(
    ("level", "expected"), [(0.95, (0.0, 5.5)), (0.8, (0.25, 5.25)), (0.4, (2.5, 3.0))]
)
def test_the_interval_has_the_quantiles_of_all_resamples(
    level: float, expected: tuple[float, float], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A task's mean is 0, a half or all of its larger run with probability 1/4, 1/2, 1/4; of the
    # mean over both tasks, P(<= 0) = 1/16, P(<= 0.25) = 3/16, P(<= 2.5) = 6/16,
    # P(<= 2.75) = 10/16, P(<= 3) = 12/16, P(<= 5) = 13/16, P(<= 5.25) = 15/16.
    monkeypatch.setattr(module, "_CHUNK", chunk)
    ((low, high),) = stratified_bootstrap(tasks([0, 1], [0, 10]), [task_mean], level=level)
    assert (low, high) == expected


def test_runs_are_drawn_within_their_task() -> None:
    # Every resample has task 1's 3 and task 2's 50, however they are drawn.
    ((low, high),) = stratified_bootstrap(tasks([3, 3, 3], [50, 50]), [task_mean])
    assert (low, high) == (26.5, 26.5)


def test_runs_are_drawn_anew_for_every_task() -> None:
    # The same numbers for both would always give one 0 and one 1, a mean of a half.
    ((low, high),) = stratified_bootstrap(tasks([0, 1], [1, 0]), [task_mean])
    assert (low, high) == (0.0, 1.0)


def test_a_task_keeps_its_number_of_runs() -> None:
    # One run of 100: drawn from 4 of them the interval is a normal one of width 2 * 1.96 / 2.
    rng = np.random.default_rng(0)
    widths = []
    for n in (25, 100):
        ((low, high),) = stratified_bootstrap([rng.normal(size=n)], [task_mean])
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(2.0, rel=0.3)


def test_intervals_and_values_are_those_of_rliable() -> None:
    # rliable 1.2.0, get_interval_estimates with 20,000 resamples of these very scores.
    scores = np.random.default_rng(0).gamma(1.0, 1.0, (5, 7)) * np.arange(1, 8)
    assert interquartile_mean(scores) == pytest.approx(2.7802182961799398)
    assert task_mean(scores) == pytest.approx(4.242915935075832)
    found = stratified_bootstrap(list(scores.T.copy()), [interquartile_mean, task_mean])
    # The quantiles of 10,000 and of 20,000 draws of these spreads differ by up to 0.07 (3 sigma).
    assert found[0] == pytest.approx((1.728, 4.327), abs=0.07)
    assert found[1] == pytest.approx((2.987, 5.602), abs=0.07)


def test_estimates_have_intervals_around_their_values() -> None:
    runs = tasks([1.0, 2.0, 1.5], [0.5, 3.0, 2.0])
    found = estimate_aggregates(runs, PLAIN)
    values = aggregate(runs, PLAIN)
    assert set(found) == set(values) == set(module.AGGREGATES)
    for name, estimate in found.items():
        assert estimate.value == values[name]
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < estimate.value < estimate.high, name
    # Each has its own: those of the record are a tenth of the gamer's, exactly.
    mean, record = found["gamer_mean"], found["record_mean"]
    assert (record.low, record.high) == pytest.approx((mean.low / 10, mean.high / 10))


def test_a_single_run_of_a_task_leaves_the_intervals_open() -> None:
    found = estimate_aggregates(tasks([1.0, 2.0], [0.5]), PLAIN)
    assert found["gamer_mean"][1:] == (None, None)
    assert found["gamer_mean"].value == 1.0


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], r"every task needs a run, got \[\]"),
        ([[1.0], []], r"every task needs a run, got \[1, 0\]"),
        ([[1.0], [float("nan")]], "scores must be finite"),
    ],
)
def test_nothing_and_nan_are_refused(runs: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        aggregate(tasks(*runs), PLAIN)
