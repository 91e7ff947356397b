from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreamer_nav.failures import UsageError
from dreamer_nav.run_records import read_config, read_curve, read_evaluations
from tests.dreamer_nav.scored_runs import write_run


def test_the_settings_are_the_resolved_ones(tmp_path: Path) -> None:
    config = read_config(write_run(tmp_path / "a", env__game="breakout", seed=3))
    assert (config.env["name"], config.env["game"], config.seed) == ("atari", "breakout", 3)


def test_a_curve_has_the_steps_at_which_the_metric_is_there(tmp_path: Path) -> None:
    lines = [
        {"step": 500, "loss/model": 3.0},
        {"step": 1000, "episode/spl": None, "episode/return": 0.25},
        {"step": 2000, "episode/return": 0.5},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 9000, "epis')
    curve = read_curve(tmp_path, "episode/return")
    assert curve.steps.tolist() == [1000.0, 2000.0]
    assert curve.values.tolist() == [0.25, 0.5]
    assert len(read_curve(tmp_path, "episode/spl").steps) == 0


def test_evaluations_are_the_newest_first_and_the_run_s_own_set_before_others(
    tmp_path: Path,
) -> None:
    assert read_evaluations(tmp_path) == []
    (tmp_path / "eval").mkdir()
    names = ("val-000002000", "val-tier_apartment-000004000", "val-000004000")
    for name in names:
        content = {"step": int(name[-9:]), "name": name}
        (tmp_path / "eval" / f"{name}.json").write_text(json.dumps(content))
    assert [e["name"] for e in read_evaluations(tmp_path)] == list(reversed(names))


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no run: it has no config\.yaml"):
        read_config(tmp_path)
    with pytest.raises(UsageError, match=r"is no run: it has no metrics\.jsonl"):
        read_curve(tmp_path, "episode/return")
