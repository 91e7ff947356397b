"""Learning curves as pictures: `python -m dreamer_nav.plots curve RUN [RUN ...] -o curve.png`.

`published` instead of `curve` draws runs of Atari and DeepMind Control beside DreamerV2's curves.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamer_nav.atomic import atomic_path
from dreamer_nav.config import Config
from dreamer_nav.failures import UsageError, one_line
from dreamer_nav.published import curves
from dreamer_nav.run_records import read_curve, read_evaluations
from dreamer_nav.run_scores import PublishedTask, own_evaluations, read_task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["main", "plot_curves", "plot_published", "read_final"]

# A measure's metric while training (over the last episodes, 100 of them where they are short) and its label.
_MEASURES = {
    "success": ("episode/success_rate", "success"),
    "spl": ("episode/spl", "SPL"),
    "return": ("episode/return", "return"),
}
_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
_BASELINES = {"shortest path": "0.35", "greedy": "0.5", "random": "0.65"}


def read_final(run_dir: Path) -> dict[str, Any] | None:
    """What `dreamer-nav eval` wrote of the run's last evaluated step; None if it never ran."""
    return next(iter(read_evaluations(run_dir)), None)


def plot_curves(runs: Sequence[Path], output: Path, measure: str = "success") -> None:
    """Draw a measure against agent steps, one colour a run, the baselines dashed.

    Lines are training episodes, dots evaluations during training, and the diamond with its 95%
    interval the evaluation of `dreamer-nav eval`.

    Raises:
        UsageError: matplotlib is missing, or a run has no such figures.
    """
    figure = _make_figure(7.2, 4.2)
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
    _lighten(axes)
    _add_legend(axes)
    with atomic_path(Path(output)) as temporary:
        figure.savefig(temporary, dpi=150)


def _make_figure(width_in: float, height_in: float) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UsageError(
            "Plots need matplotlib, which is not installed: pip install 'dreamer-nav[plots]'"
        ) from error
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _lighten(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


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
        # Side by side, or the intervals of several seeds would hide each other.
        x = final["step"] * (1.0 + 0.015 * number)
        _draw_interval(axes, x, final["policies"]["dreamer"][measure], colour)


def _draw_interval(axes: Axes, x: float, value: Mapping[str, float], colour: str) -> None:
    spread = [[value["mean"] - value["low"]], [value["high"] - value["mean"]]]
    where = ([x], [value["mean"]], spread)
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


def plot_published(runs: Sequence[Path], output: Path) -> None:
    """Draw the return against environment frames beside DreamerV2's, a panel a task.

    The published mean and standard deviation over runs are grey; the runs look as in `plot_curves`.

    Raises:
        UsageError: matplotlib is missing, a run is of no published task or has no figures.
    """
    panels: dict[PublishedTask, list[tuple[Path, Config]]] = {}
    for run_dir in map(Path, runs):
        config, task = read_task(run_dir)
        panels.setdefault(task, []).append((run_dir, config))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _make_figure(max(7.2, 4.8 * columns), 4.2 * rows)
    for number, (task, of_task) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        _draw_published(axes, task, _draw_task_runs(axes, task, of_task))
        changes = f" ({task.changes})" if task.changes else ""
        title = f"{task.suite} {task.task}{changes}"
        axes.set(title=title, xlabel="million frames", ylabel="return")
        axes.set_xlim(left=0)
        _lighten(axes)
        _add_legend(axes)
    with atomic_path(Path(output)) as temporary:
        figure.savefig(temporary, dpi=150)


def _draw_task_runs(axes: Axes, task: PublishedTask, runs: Sequence[tuple[Path, Config]]) -> float:
    """The runs' returns against million frames; returns where the longest run ends."""
    furthest, scale = 0.0, task.action_repeat / 1e6
    for colour, (run_dir, config) in zip(cycle(_COLOURS), runs):
        training = read_curve(run_dir, "episode/return")
        evaluations = read_curve(run_dir, "eval/return")
        x = np.concatenate([training.steps, evaluations.steps]) * scale
        if not len(x):
            raise UsageError(f"{run_dir} has no returns yet: no episode has ended.")
        furthest = max(furthest, float(x.max()))
        axes.plot(training.steps * scale, training.values, color=colour, lw=1.4, label=run_dir.name)
        points = (evaluations.steps * scale, evaluations.values)
        axes.plot(*points, color=colour, marker="o", markersize=4, linestyle=":")
        for final in own_evaluations(run_dir, config)[:1]:
            value = final["policies"]["dreamer"]["return"]
            _draw_interval(axes, final["step"] * scale, value, colour)
    return furthest


def _draw_published(axes: Axes, task: PublishedTask, furthest: float) -> None:
    """The published curve as far as the runs go, its first points in any case."""
    curve = curves(task.suite)[task.task]
    x = curve.frames / 1e6
    shown = x <= max(1.1 * furthest, x[4])
    x, mean, std = x[shown], curve.mean[shown], curve.std[shown]
    counts = sorted({int(curve.runs[shown].min()), int(curve.runs[shown].max())})
    label = f"DreamerV2, mean ± std of {'-'.join(map(str, counts))} runs"
    axes.plot(x, mean, color="black", linestyle="-.", linewidth=1.2, label=label, zorder=1)
    axes.fill_between(x, mean - std, mean + std, color="0.88", linewidth=0, zorder=0)


def _add_legend(axes: Axes) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color="0.4", label="training, last episodes"),
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
    curve.set_defaults(plot=lambda args: plot_curves(args.runs, args.output, args.measure))
    published = verbs.add_parser("published", help="returns of runs beside DreamerV2's")
    published.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    published.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.png")
    published.set_defaults(plot=lambda args: plot_published(args.runs, args.output))
    args = parser.parse_args(argv)
    try:
        args.plot(args)
    except (OSError, ValueError) as error:
        print(f"dreamer_nav.plots: {one_line(error) or error}", file=sys.stderr)
        return 1
    print(f"Written: {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
