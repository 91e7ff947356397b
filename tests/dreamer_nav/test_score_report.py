from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dreamer_nav.published import atari_scores
from dreamer_nav.run_scores import RunScore
from dreamer_nav.score_report import format_report, score_report

PONG = RunScore(
    "runs/pong", "atari", "pong", 0, 2_500_000, 10_000_000, 14.6, 13.0, 16.0, 50, "", ""
)
BOXING = replace(PONG, run="runs/boxing", task="boxing", mean=121.0)
WALK = replace(PONG, run="runs/walk", suite="dmc", task="walker_walk", frames=990_000, mean=500.0)


def report(*scores: RunScore) -> dict[str, Any]:
    """As a reader of the JSON file meets it."""
    loaded: dict[str, Any] = json.loads(json.dumps(score_report(scores), allow_nan=False))
    return loaded


def test_a_game_has_normalised_scores_and_the_published_ones() -> None:
    found = report(PONG)
    assert list(found["tasks"]) == ["atari"]
    # Random play -20.7, gamer 14.6, record 21; DreamerV2 17.6 +- 1.7 after 10M frames, 20 at last.
    assert found["tasks"]["atari"]["pong"] == {
        "frames": [10_000_000, 10_000_000],
        "runs": 1,
        "episodes": 50,
        "return": {"mean": 14.6, "low": 13.0, "high": 16.0},
        "human_normalized": pytest.approx(1.0),
        "record_normalized": pytest.approx(35.3 / 41.7),
        "clipped_record": pytest.approx(35.3 / 41.7),
        "dreamerv2": {
            "same_frames": {"return": 17.56, "std": 1.68},
            "end": {"frames": 200_000_000, "return": 20.0},
        },
    }
    assert found["runs"][0]["run"] == "runs/pong"


def test_a_record_is_clipped_run_by_run() -> None:
    # Boxing: random play 0.1, gamer 12.1, record 100.
    high, low = BOXING, replace(BOXING, run="runs/b2", seed=1, mean=0.1)
    figures = report(high, low)["tasks"]["atari"]["boxing"]
    assert figures["record_normalized"] == pytest.approx((120.9 / 99.9 + 0.0) / 2)
    assert figures["clipped_record"] == 0.5
    assert figures["human_normalized"] == pytest.approx(120.9 / 12.0 / 2)


def test_runs_of_a_task_are_averaged_with_an_interval_over_runs() -> None:
    later = replace(PONG, run="runs/p2", seed=1, mean=16.6, frames=11_000_000)
    figures = report(later, PONG)["tasks"]["atari"]["pong"]
    assert (figures["runs"], figures["episodes"]) == (2, 100)
    assert figures["frames"] == [10_000_000, 11_000_000]
    assert figures["return"] == {"mean": pytest.approx(15.6), "low": 14.6, "high": 16.6}
    # The published curve at each run's own frames: 17.56 +- 1.68 and 17.45 +- 1.74.
    same = {"return": pytest.approx(17.505), "std": pytest.approx(1.71)}
    assert figures["dreamerv2"]["same_frames"] == same


def test_before_the_first_published_point_there_is_nothing_to_compare() -> None:
    early = replace(PONG, frames=999_999)
    found = report(early, BOXING)
    assert found["tasks"]["atari"]["pong"]["dreamerv2"]["same_frames"] is None
    assert "dreamerv2_same_frames" not in found["aggregates"]
    line = next(x for x in format_report(found).splitlines() if x.startswith("pong"))
    assert line.split()[-3:] == ["-", "20.0", "(200M)"]


def test_published_agents_are_aggregated_over_the_runs_games_only() -> None:
    aggregates = report(PONG, BOXING)["aggregates"]
    assert aggregates["games"] == 2
    own = aggregates["dreamer"]
    assert own["gamer_mean"]["value"] == pytest.approx((1.0 + 120.9 / 12.0) / 2)
    assert own["clipped_record_mean"]["value"] == pytest.approx((35.3 / 41.7 + 1.0) / 2)
    # DQN: Pong 16.61, Boxing 77.99 in the source; DreamerV2 after 10M frames: 17.56 and 85.51.
    assert aggregates["dqn"]["gamer_mean"] == pytest.approx(
        ((16.61 + 20.7) / 35.3 + (77.99 - 0.1) / 12.0) / 2
    )
    assert aggregates["dreamerv2_same_frames"]["gamer_mean"] == pytest.approx(
        ((17.56 + 20.7) / 35.3 + (85.51 - 0.1) / 12.0) / 2
    )


def test_the_tables_of_several_games() -> None:
    second = replace(PONG, run="runs/pong2", seed=1, mean=16.6, episodes=1, low=None, high=None)
    text = format_report(report(PONG, second, BOXING))
    lines = text.splitlines()
    assert lines[2].split()[:5] == ["game", "frames", "runs", "n", "return"]
    boxing, pong = (line.split("  ") for line in lines[3:5])
    cells = [cell.strip() for cell in pong if cell.strip()]
    assert cells == [
        *("pong", "10M", "2", "51", "15.6 [14.6, 16.6]", "1.028", "0.871"),
        *("17.6 ± 1.7", "20.0 (200M)"),
    ]
    assert boxing[0] == "boxing"
    assert "Intervals are over the runs of a task, or the episodes of its only run." in text
    assert "Over 2 of the 55 games, all agents:" in text
    (median,) = (line for line in lines if line.startswith("human-normalised, median"))
    assert len(median.split()) == 2 + 1 + 6
    assert "No intervals here: one run of a game tells nothing of other seeds." in text
    assert lines[-1] == (
        "Of fewer than 10 episodes, so noisy: runs/pong2. "
        "More: dreamer-nav eval runs/pong2 --episodes 100"
    )


def test_intervals_of_the_aggregates_where_every_game_has_several_runs() -> None:
    again = [replace(score, run="x", mean=score.mean - 1.0) for score in (PONG, BOXING)]
    text = format_report(report(PONG, BOXING, *again))
    (mean,) = (line for line in text.splitlines() if line.startswith("human-normalised, mean"))
    # Both runs' lower or both runs' higher scores are the ends.
    low, high = ((35.3 - d) / 35.3 / 2 + (120.9 - d) / 24.0 for d in (1.0, 0.0))
    assert f"{(low + high) / 2:.3f} [{low:.3f}, {high:.3f}]" in mean
    assert "No intervals here" not in text


def test_all_55_games_are_called_so() -> None:
    runs = [
        replace(PONG, run=game, task=game, mean=scores.agents["iqn"])
        for game, scores in atari_scores().items()
    ]
    text = format_report(report(*runs))
    assert "Over all 55 games:" in text
    (median,) = (line for line in text.splitlines() if line.startswith("human-normalised, median"))
    assert median.split()[2] == "1.288"


def test_a_task_of_dmc_has_the_curve_s_end_and_no_normalised_score() -> None:
    found = report(WALK)
    figures = found["tasks"]["dmc"]["walker_walk"]
    assert not {"human_normalized", "record_normalized", "clipped_record"} & set(figures)
    assert figures["dreamerv2"]["end"]["frames"] == 1_980_000
    assert "aggregates" not in found
    head, row = format_report(found).splitlines()[2:4]
    assert head.split("  ")[0] == "task"
    assert "500.0 [13.0, 16.0]" in row
    assert row.endswith("(1.98M)")


def test_settings_of_a_run_s_own_are_pointed_out() -> None:
    note = "Settings that the published agents may not have had: runs/boxing (sticky=0.0)"
    assert note in format_report(report(PONG, replace(BOXING, changes="sticky=0.0")))
    assert "Settings that" not in format_report(report(PONG, BOXING))


def test_suites_have_a_table_each() -> None:
    text = format_report(report(WALK, PONG))
    assert text.index("Atari: return") < text.index("DeepMind Control: return")
    assert "Over 1 of the 55 games" in text
    assert "Over 1 of" not in format_report(report(WALK, PONG), aggregates=False)
