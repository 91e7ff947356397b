from __future__ import annotations

import numpy as np
import pytest

from dreamer_nav.published import AGENTS, SUITES, LearningCurve, atari_scores, curves, find_task


def test_the_55_games_have_scores_and_curves() -> None:
    games = atari_scores()
    assert len(games) == 55
    assert set(games) == set(curves("atari"))
    for name, game in games.items():
        assert game.random < game.gamer, name
        assert game.random < game.record, name
        assert set(game.agents) == set(AGENTS), name


@pytest.mark.parametrize(
    ("game", "random", "gamer", "record", "agents"),
    [
        ("alien", 228.8, 7127.7, 251916, (3967, 4961.42, 3456.95, 2474.88, 2484.49)),
        ("pong", -20.7, 14.6, 21, (20, 20.13, 20.18, 19.34, 16.61)),
        ("skiing", -17098.1, -4336.9, -3272, (-9299, -11161.85, -28707.56, -22231.09, -15824.61)),
    ],
)
def test_a_game_has_each_score_under_its_name(
    game: str, random: float, gamer: float, record: float, agents: tuple[float, ...]
) -> None:
    scores = atari_scores()[game]
    assert (scores.random, scores.gamer, scores.record) == (random, gamer, record)
    order = ("dreamerv2", "iqn", "rainbow", "c51", "dqn")
    assert tuple(scores.agents[agent] for agent in order) == agents


def test_the_gamer_of_james_bond_is_the_paper_s_not_the_shifted_one() -> None:
    assert atari_scores()["james_bond"].gamer == 302.8


# Means and deviations over the runs in the original files, computed apart from this code.
@pytest.mark.parametrize(
    ("suite", "task", "frames", "mean", "std", "runs"),
    [
        ("atari", "pong", 2e6, -9.3, 3.9, 11),
        ("atari", "pong", 10e6, 17.6, 1.7, 11),
        ("atari", "breakout", 2e6, 2.2, 1.4, 11),
        ("atari", "breakout", 50e6, 263.0, 72.0, 8),
        ("atari", "freeway", 50e6, 32.7, 0.6, 11),
        ("dmc", "reacher_hard", 0.99e6, 564.0, 74.0, 5),
        ("dmc", "humanoid_walk", 30e6, 737.0, 42.0, 10),
    ],
)
def test_curves_have_the_means_and_deviations_over_the_runs(
    suite: str, task: str, frames: float, mean: float, std: float, runs: int
) -> None:
    curve = curves(suite)[task]
    (index,) = np.flatnonzero(curve.frames == frames)
    # The expected values are rounded to one decimal below 100, to whole numbers above.
    tolerance = 0.051 if abs(mean) < 100 else 0.51
    assert (curve.mean[index], curve.std[index]) == pytest.approx((mean, std), abs=tolerance)
    assert curve.runs[index] == runs


@pytest.mark.parametrize(("suite", "tasks", "end"), [("atari", 55, 200e6), ("dmc", 21, 1.98e6)])
def test_every_curve_goes_to_the_end_in_ascending_frames(
    suite: str, tasks: int, end: float
) -> None:
    assert len(curves(suite)) == tasks
    for task, curve in curves(suite).items():
        assert (np.diff(curve.frames) > 0).all(), task
        assert (curve.std >= 0).all(), task
        assert curve.runs.min() >= 1, task
        assert curve.frames[-1] == (44.1e6 if task == "humanoid_walk" else end), task


def test_between_points_a_curve_is_linear() -> None:
    curve = LearningCurve(*(np.array(x) for x in ([1e6, 2e6], [5, 5], [10.0, 20.0], [1.0, 3.0])))
    assert curve.at(1e6) == (10.0, 1.0)
    assert curve.at(1.25e6) == (12.5, 1.5)
    assert curve.at(9e6) == (20.0, 3.0)
    assert curve.at(0.99e6) is None


@pytest.mark.parametrize(
    ("suite", "name", "task"),
    [
        ("atari", "james_bond", "james_bond"),
        ("atari", "jamesbond", "james_bond"),
        ("atari", "MontezumaRevenge", "montezuma_revenge"),
        ("atari", "air_raid", None),
        ("dmc", "walker-walk", "walker_walk"),
        ("dmc", "ball_in_cup_catch", "cup_catch"),
        ("dmc", "dog_run", None),
    ],
)
def test_a_task_is_found_however_it_is_spelled(suite: str, name: str, task: str | None) -> None:
    assert find_task(suite, name) == task


def test_every_suite_has_curves() -> None:
    assert [suite for suite in SUITES if curves(suite)] == ["atari", "dmc"]
