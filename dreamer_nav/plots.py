"""Learning curves as pictures: `python -m dreamer_nav.plots curve RUN [RUN ...] -o curve.png`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dreamer_nav.atomic import atomic_path
from dreamer_nav.failures import UsageError, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Curve", "main", "plot_curves", "read_curve", "read_final"]

# A measure's metric while training (over the last 100 episodes) and its label.
_MEASURES = {
    "success": ("episode/success_rate", "success"),
    "spl": ("episode/spl", "SPL"),
    "return": ("episode/return", "return"),
}
_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
_BASELINES = {"shortest path": "0.35", "greedy": "0.5", "random": "0.65"}


class Curve(NamedTuple):
    """A metric against agent steps, both (n,)."""

    steps: np.ndarray
    values: np.ndarray


def read_curve(run_dir: Path, metric: str) -> Curve:
    """A metric's values in a run's metrics.jsonl; empty where it never has it.

    Raises:
        UsageError: the run has no metrics.
    """
    path = run_dir / "metrics.jsonl"
    if not path.is_file():
        raise UsageError(f"{run_dir} is no run: it has no metrics.jsonl.")
    points = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # the torn last line of a run that is being written
        if line.get(metric) is not None:
            points.append((line["step"], line[metric]))
    array = np.array(points, np.float64).reshape(-1, 2)
    return Curve(array[:, 0], array[:, 1])


def read_final(run_dir: Path) -> dict[str, Any] | None:
    """What `dreamer-nav eval` wrote of the run's last evaluated step; None if it never ran.

    Of several sets at that step, the one with the shortest name: the run's own before others.
    """
    reports = [(path, json.loads(path.read_text())) for path in run_dir.glob("eval/*.json")]
    reports.sort(key=lambda pair: (-pair[1]["step"], len(pair[0].name), pair[0].name))
    return reports[0][1] if reports else None


def plot_curves(runs: Sequence[Path], output: Path, measure: str = "success") -> None:
    """Draw a measure against agent steps, one colour a run, the baselines dashed.

    Lines are training episodes, dots evaluations during training, and the diamond with its 95%
    interval the evaluation of `dreamer-nav eval`.

    Raises:
        UsageError: matplotlib is missing, or a run has no such figures.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UsageError(
            "Plots need matplotlib, which is not installed: pip install 'dreamer-nav[plots]'"
        ) from error
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, run_dir in enumerate(runs):
        _draw_run(axes, Path(run_dir), measure, number)
    _draw_baselines(axes, [Path(run) for run in runs], measure)
    axes.set_xlabel("agent steps")
    axes.set_ylabel(_MEASURES[measure][1])
    if measure != "return":
        axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    _add_legend(axes)
    with atomic_path(Path(output)) as temporary:
        figure.savefig(temporary, dpi=150)


def _draw_run(axes: Axes, run_dir: Path, measure: str, number: int) -> None:
    colour = _COLOURS[number % len(_COLOURS)]
    metric, label = _MEASURES[measure]
    training, evaluations = read_curve(run_dir, metric), read_curve(run_dir, f"eval/{measure}")
    if not len(training.steps) and not len(evaluations.steps):
        raise UsageError(
            f"{run_dir} has no figures of {label}: its task has none, or no episode ended."
        )
    axes.plot(*training, color=colour, linewidth=1.4, label=run_dir.name)
    axes.plot(*evaluations, color=colour, marker="o", markersize=4, linestyle=":")
    final = read_final(run_dir)
    if final is not None and measure in final["policies"]["dreamer"]:
        value = final["policies"]["dreamer"][measure]
        spread = [[value["mean"] - value["low"]], [value["high"] - value["mean"]]]
        # Side by side, or the intervals of several seeds would hide each other.
        where = ([final["step"] * (1.0 + 0.015 * number)], [value["mean"]], spread)
        axes.errorbar(*where, color=colour, marker="D", markersize=6, capsize=4, clip_on=False)


def _draw_baselines(axes: Axes, runs: Sequence[Path], measure: str) -> None:
    """Dashed lines from the first run that was evaluated; all meet the same episodes."""
    reports = [report for report in map(read_final, runs) if report is not None]
    policies = reports[0]["policies"] if reports else {}
    for name, grey in _BASELINES.items():
        if measure in policies.get(name, {}):
            mean = policies[name][measure]["mean"]
            axes.axhline(mean, color=grey, linestyle="--", linewidth=1)
            end = (1.0, mean)
            axes.annotate(
                f" {name}",
                xy=end,
                xycoords=("axes fraction", "data"),
                color=grey,
                fontsize=8,
                va="center",
            )


def _add_legend(axes: Axes) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color="0.4", label="training, last 100 episodes"),
        Line2D([], [], color="0.4", marker="o", ls=":", ms=4, label="evaluation during training"),
        Line2D([], [], color="0.4", marker="D", ls="", ms=6, label="evaluation, 95% interval"),
    ]
    runs, _ = axes.get_legend_handles_labels()
    axes.legend(handles=[*runs, *marks], frameon=False, fontsize=8, loc="best")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m dreamer_nav.plots", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    curve = verbs.add_parser("curve", help="learning curves of several runs with the baselines")
    curve.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    curve.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.png")
    curve.add_argument("--measure", choices=list(_MEASURES), default="success")
    args = parser.parse_args(argv)
    try:
        plot_curves(args.runs, args.output, args.measure)
    except (OSError, ValueError) as error:
        print(f"dreamer_nav.plots: {one_line(error) or error}", file=sys.stderr)
        return 1
    print(f"Written: {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
