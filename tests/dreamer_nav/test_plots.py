from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dreamer_nav.failures import UsageError
from dreamer_nav.plots import main, plot_curves, read_curve, read_final

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


def test_a_curve_has_the_steps_at_which_the_metric_is_there(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    curve = read_curve(run, "episode/success_rate")
    assert curve.steps.tolist() == [1000.0, 2000.0, 3000.0, 4000.0]
    assert curve.values.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert len(read_curve(run, "episode/spl").steps) == 0


def test_the_last_step_and_the_run_s_own_set_come_first(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", final=0.5, step=4000)
    write_report(run / "eval" / "val-000002000.json", 2000, 0.1)
    write_report(run / "eval" / "val-tier_apartment-000004000.json", 4000, 0.2)
    final = read_final(run)
    assert final is not None
    assert final["policies"]["dreamer"]["success"]["mean"] == 0.5
    assert read_final(write_run(tmp_path / "b", final=None)) is None


def test_curves_of_several_runs_are_drawn_with_the_baselines(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *args: Any, **options: Any) -> Any:
        drawn.append(self)
        return save(self, *args, **options)

    runs = [write_run(tmp_path / "seed0"), write_run(tmp_path / "seed1", final=None)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", keep)
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
