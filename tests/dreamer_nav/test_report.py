from __future__ import annotations

import json
import re

import numpy as np
import pytest

from dreamer_nav import report
from dreamer_nav.report import (
    Interval,
    bootstrap_intervals,
    format_table,
    report_json,
    summarize,
)
from dreamer_nav.rollouts import EpisodeResult


def interval(values: object, **options: float) -> Interval:
    array = np.asarray(values, np.float64)[:, None]
    return bootstrap_intervals(array, **options)[0]  # type: ignore[arg-type]


def results(successes: list[float]) -> list[EpisodeResult]:
    return [
        EpisodeResult(i, 10 + i, f"e{i}", "home", {"success": s, "steps": 5.0 + i})
        for i, s in enumerate(successes)
    ]


def test_two_values_give_the_quantiles_of_their_four_resamples() -> None:
    # Resampled means: 0 with probability 1/4, 1/2 with 1/2, 1 with 1/4.
    assert interval([0.0, 1.0]) == Interval(0.5, 0.0, 1.0, 2)
    # The 30% and 70% quantiles of that distribution are both 1/2 ...
    assert interval([0.0, 1.0], level=0.4)[1:3] == (0.5, 0.5)
    # ... and the 20% and 80% quantiles are its ends.
    assert interval([0.0, 1.0], level=0.6)[1:3] == (0.0, 1.0)


def test_four_of_five_successes_give_the_binomial_quantiles() -> None:
    # Successes in a resample are binomial(5, 0.8): P(X <= 1) = 0.7%, P(X <= 2) = 5.8%, and
    # P(X = 5) = 32.8%, so that the 2.5% quantile is 2/5 and the 97.5% quantile is 1.
    low, high = interval([1.0, 1.0, 1.0, 1.0, 0.0])[1:3]
    assert (low, high) == pytest.approx((0.4, 1.0))


def test_of_many_values_it_is_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 600)
    mean, low, high, n = interval(values)
    half = 1.96 * values.std() / np.sqrt(600)
    assert n == 600
    assert mean == pytest.approx(values.mean())
    assert (mean - low, high - mean) == pytest.approx((half, half), rel=0.05)


@pytest.mark.parametrize("kind", ["success", "steps"])
def test_the_interval_covers_the_true_mean_about_as_often_as_it_says(kind: str) -> None:
    rng, hits = np.random.default_rng(1), 0
    for seed in range(400):
        draw = rng.random(60) < 0.7 if kind == "success" else rng.gamma(4.0, 0.25, 60)
        truth = 0.7 if kind == "success" else 1.0
        _, low, high, _ = interval(draw, resamples=1000, seed=seed)
        hits += low <= truth <= high
    # The percentile bootstrap is a little short at n = 60; a 90% interval would hit 360.
    assert 368 <= hits <= 392


@pytest.mark.parametrize("value", [0.1, 1.0, -7.3e-5, 1e6 / 3])
def test_equal_values_have_an_interval_without_width(value: float) -> None:
    assert interval([value] * 100) == Interval(value, value, value, 100)
    assert interval([value]) == Interval(value, value, value, 1)


def test_the_same_values_always_have_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=37)
    first = interval(values)
    assert interval(values) == first
    assert interval(values, seed=1) != first
    monkeypatch.setattr(report, "_CHUNK", 1000)  # resampled in 371 pieces
    assert interval(values) == first


def test_measures_are_resampled_with_their_episode() -> None:
    values = np.random.default_rng(0).normal(size=(30, 1))
    one, twice, negative = bootstrap_intervals(np.hstack([values, 2.0 * values, -values]))
    assert twice[:3] == pytest.approx(tuple(2.0 * x for x in one[:3]))
    assert (negative.low, negative.high) == pytest.approx((-one.high, -one.low))


@pytest.mark.parametrize("values", [np.zeros((0, 2)), np.zeros(3), np.array([[0.0], [np.nan]])])
def test_an_interval_of_nothing_or_of_nan_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="an interval needs"):
        bootstrap_intervals(values)


def test_a_summary_has_every_measure_with_its_mean_and_n() -> None:
    summary = summarize(results([1.0, 0.0, 1.0, 1.0]))
    assert summary["success"][::3] == (0.75, 4)
    assert summary["steps"][::3] == (6.5, 4)


def test_the_table_is_aligned_and_in_the_order_of_the_measures() -> None:
    narrow = {"return": Interval(-1.25, -2.0, 0.5, 9), "success": Interval(0.5, 0.25, 0.75, 9)}
    wide = {"success": Interval(1.0, 1.0, 1.0, 9), "steps": Interval(123.44, 99.0, 150.06, 9)}
    lines = format_table({"dreamer": narrow, "greedy": wide}).splitlines()
    assert lines == [
        "         dreamer              greedy",
        "success  0.50 [0.25, 0.75]    1.00 [1.00, 1.00]",
        "steps    -                    123.4 [99.0, 150.1]",
        "return   -1.25 [-2.00, 0.50]  -",
    ]


def test_a_measure_of_another_simulator_is_shown_under_its_own_name() -> None:
    table = format_table({"dreamer": {"score": Interval(7.0, 6.0, 8.0, 3)}})
    assert re.search(r"^score +7\.00 \[6\.00, 8\.00\]$", table, re.MULTILINE)


def test_the_report_holds_means_intervals_and_every_episode() -> None:
    played = {"dreamer": results([1.0, 0.0]), "random": results([0.0, 0.0])}
    summaries = {name: summarize(episodes) for name, episodes in played.items()}
    report = json.loads(json.dumps(report_json(summaries, played), allow_nan=False))
    assert report["interval"] == {
        "level": 0.95,
        "method": "percentile bootstrap",
        "resamples": 10_000,
    }
    success = {"mean": 0.5, "low": 0.0, "high": 1.0, "n": 2}
    assert report["policies"]["dreamer"]["success"] == success
    assert report["policies"]["random"]["success"]["mean"] == 0.0
    assert report["episodes"]["dreamer"][1] == {
        "index": 1,
        "seed": 11,
        "episode_id": "e1",
        "scene_id": "home",
        "measures": {"success": 0.0, "steps": 6.0},
    }
