"""An 8-bit policy file, kept only if it plays the benchmark about as well as the float32 one.

Its actions differ from torch's at some steps, and after the first of them the episodes differ, so that comparing
numbers says nothing; what counts is success.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dreamer_nav.evaluate import evaluate_policy
from dreamer_nav.runs import load_run
from dreamer_nav_export.contract import Evaluation
from dreamer_nav_export.evaluation import FilePolicy, file_subject
from dreamer_nav_export.runtime import Policy
from dreamer_nav_export.session import PolicySession
from dreamer_nav_export.task_facts import ExportError
from dreamer_nav_export.writer import ExportOptions, export_policy, with_contract, write_policy

__all__ = ["export_int8", "losses"]

Measures = Mapping[str, Mapping[str, float]]


def export_int8(
    path: Path,
    float32: Path,
    output: Path,
    options: ExportOptions,
    *,
    episodes: int,
    max_loss: float,
) -> None:
    """Quantise, play the same episodes with both files, print the figures, and write the file if it is good enough.

    Args:
        path: the run or checkpoint.
        float32: its policy file.
        output: the 8-bit one.
        options: of the float32 export.
        episodes: played with each.
        max_loss: of the means of success and of SPL, or of the return as a share of it where there are none.

    Raises:
        ExportError: it loses more; nothing is written.
    """
    data, contract = export_policy(load_run(Path(path), "cpu"), replace(options, int8=True))
    report = evaluate_policy(
        file_subject(float32, name="float32"),
        others={"int8": FilePolicy(Policy(PolicySession(data)))},
        episodes=episodes,
        baselines=False,
    )
    figures = report["policies"]
    lost = losses(figures["float32"], figures["int8"])
    text = ", ".join(f"{name} {loss:+.3f}" for name, loss in lost.items())
    if max(lost.values()) > max_loss:
        raise ExportError(
            f"the int8 file loses {text} over {episodes} episodes, allowed is {max_loss}: it is not kept"
        )
    print(f"int8 loses {text} over {episodes} episodes, allowed is {max_loss}")
    entry = _entry(report, contract.variant.name)
    write_policy(output, with_contract(data, replace(contract, evaluations=(entry,))))


def losses(float32: Measures, int8: Measures) -> dict[str, float]:
    """How much lower the means of the 8-bit policy are; negative where they are higher."""
    goals = [name for name in ("success", "spl") if name in float32]
    if goals:
        return {name: float32[name]["mean"] - int8[name]["mean"] for name in goals}
    before, after = float32["return"]["mean"], int8["return"]["mean"]
    return {"return": (before - after) / max(abs(before), 1e-9)}


def _entry(report: Mapping[str, Any], variant: str) -> Evaluation:
    return Evaluation(
        name="int8 gate",
        by="policy file",
        variant=variant,
        environment=report["env"],
        seed=report["seed"],
        measures=report["policies"]["int8"],
    )
