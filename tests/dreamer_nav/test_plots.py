from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dreamer_nav.failures import UsageError
from dreamer_nav.plots import main, plot_curves, plot_published, read_final
from dreamer_nav.presets import load_config
from tests.dreamer_nav import scored_runs

matplotlib = pytest.importorskip("matplotlib")


def write_run(folder: Path, final: float | None = 0.8, step: int = 4000) -> Path:
    folder.mkdir(parents=True)
    lines: list[dict[str, Any]] = [{"step": 500, "loss/model": 3.0}]
    lines += [
        {"step": s, "episode/success_rate": s / step, "episode/spl": None}
        for s in range(1000, step + 1, 1000)
    ]
    lines.append({"step": step, "eval/success": 0.7})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 9000, "epis')
    if final is not None:
        write_report(folder / "eval" / f"val-{step:09d}.json", step, final)
    return folder


def write_report(path: Path, step: int, success: float) -> None:
    path.parent.mkdir(exist_ok=True)
    policies = {
        name: {"success": {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 100}}
        for name, mean in (("dreamer", success), ("greedy", 0.4), ("random", 0.02))
    }
    path.write_text(json.dumps({"step": step, "policies": policies}))


def test_the_last_step_and_the_run_s_own_set_come_first(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", final=0.5, step=4000)
    write_report(run / "eval" / "val-000002000.json", 2000, 0.1)
    write_report(run / "eval" / "val-tier_apartment-000004000.json", 4000, 0.2)
    final = read_final(run)
    assert final is not None
    assert final["policies"]["dreamer"]["success"]["mean"] == 0.5
    assert read_final(write_run(tmp_path / "b", final=None)) is None


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved."""
    from matplotlib.figure import Figure

    figures: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *args: Any, **options: Any) -> Any:
        figures.append(self)
        return save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_curves_of_several_runs_are_drawn_with_the_baselines(
    tmp_path: Path, drawn: list[Any]
) -> None:
    runs = [write_run(tmp_path / "seed0"), write_run(tmp_path / "seed1", final=None)]
    plot_curves(runs, tmp_path / "curve.png")
    (axes,) = drawn[0].axes
    solid = [line for line in axes.lines if line.get_label() in ("seed0", "seed1")]
    assert [np.asarray(line.get_ydata()).tolist() for line in solid] == [[0.25, 0.5, 0.75, 1.0]] * 2
    dashed = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert dashed == [0.4, 0.02]
    assert [text.get_text().strip() for text in axes.texts] == ["greedy", "random"]
    (diamond,) = [
        line for line in axes.lines if line.get_marker() == "D" and line.get_label()[0] == "_"
    ]
    assert np.asarray(diamond.get_ydata()).tolist() == [0.8]
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.size == (1080, 630)
        assert np.asarray(picture.convert("L")).std() > 5


def points(axes: Any, label: str) -> tuple[list[float], list[float]]:
    (line,) = (line for line in axes.lines if line.get_label() == label)
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def test_runs_are_drawn_by_frames_beside_the_published_curve_of_their_task(
    tmp_path: Path, drawn: list[Any]
) -> None:
    from matplotlib.collections import PolyCollection

    training = {250_000: -19.0, 1_000_000: -15.0, 2_500_000: 15.0}
    pong = scored_runs.write_run(tmp_path / "pong0", training=training)
    scored_runs.write_evaluation(pong, load_config("atari"), 2_500_000, 16.5)
    other = scored_runs.write_run(tmp_path / "pong1", training={500_000: -13.0}, seed=1)
    walk = scored_runs.write_run(tmp_path / "walk", "dmc_vision", {300_000: 900.0})
    plot_published([pong, walk, other], tmp_path / "curve.png")
    left, right = drawn[0].axes
    assert (left.get_title(), right.get_title()) == ("atari pong", "dmc walker_walk")
    assert left.get_xlabel() == "million frames"
    # Four frames an agent step in Atari, two here in DeepMind Control.
    assert points(left, "pong0") == ([1.0, 4.0, 10.0], [-20.0, -16.0, 14.0])
    assert points(left, "pong1") == ([2.0], [-14.0])
    assert points(right, "walk") == ([0.6], [899.0])
    dots = [line for line in left.lines if line.get_marker() == "o"]
    assert np.asarray(dots[0].get_ydata()).tolist() == list(training.values())
    diamonds = [line for line in left.lines if line.get_marker() == "D"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in diamonds] == [(10.0, 16.5)]
    # Published: 1M bins, as far as the longest run and a tenth.
    frames, mean = points(left, "DreamerV2, mean ± std of 11 runs")
    assert frames == [float(x) for x in range(1, 12)]
    assert mean[9] == 17.56
    (band,) = (shape for shape in left.collections if isinstance(shape, PolyCollection))
    edges = band.get_paths()[0].vertices
    at_ten = edges[edges[:, 0] == 10.0][:, 1]
    assert (at_ten.min(), at_ten.max()) == pytest.approx((17.56 - 1.68, 17.56 + 1.68))
    assert points(right, "DreamerV2, mean ± std of 5 runs")[0][-1] == 0.66


def test_a_young_run_is_drawn_beside_the_first_published_points(
    tmp_path: Path, drawn: list[Any]
) -> None:
    run = scored_runs.write_run(tmp_path / "a", training={1000: -21.0}, env__sticky=0.0)
    assert main(["published", str(run), "-o", str(tmp_path / "curve.png")]) == 0
    (axes,) = drawn[0].axes
    assert axes.get_title() == "atari pong (sticky=0.0)"
    assert points(axes, "DreamerV2, mean ± std of 11 runs")[0] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_runs_that_cannot_be_drawn_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    debug = scored_runs.write_run(tmp_path / "debug", "debug")
    empty = scored_runs.write_run(tmp_path / "empty")
    for run, message in (
        (debug, "is a run of dummy; published scores are of atari and dmc only"),
        (empty, "has no returns yet: no episode has ended"),
        (tmp_path / "none", "is no run: it has no config.yaml"),
    ):
        assert main(["published", str(run), "-o", str(tmp_path / "x.png")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_the_command_writes_the_file_or_says_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, output = write_run(tmp_path / "a"), tmp_path / "curve.png"
    assert main(["curve", str(run), "-o", str(output)]) == 0
    assert output.exists()
    for wrong, message in (
        ([str(tmp_path / "none"), "-o", str(output)], "is no run: it has no metrics.jsonl"),
        ([str(run), "-o", str(tmp_path / "x.jpog")], "jpog"),
        ([str(run), "-o", str(tmp_path / "no" / "x.png")], "No such file or directory"),
        ([str(run), "-o", str(output), "--measure", "spl"], "has no figures of SPL"),
    ):
        capsys.readouterr()
        assert main(["curve", *wrong]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_without_matplotlib_the_install_line_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'dreamer-nav\[plots\]'"):
        plot_curves([write_run(tmp_path / "a")], tmp_path / "curve.png")
