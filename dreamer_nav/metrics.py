"""What a run writes down: metrics.jsonl, TensorBoard scalars, videos, and the means behind them.

Names of metrics carry their units (`episode/length_steps`, `time/updates_per_s`); losses and
entropies are in nats. Times and rates, which differ between two runs of the same seed, live under
`time/`.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dreamer_nav.atomic import write_atomic

if TYPE_CHECKING:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

__all__ = ["EpisodeStats", "Mean", "MetricsLogger"]


class MetricsLogger:
    """Appends to `run_dir`/metrics.jsonl and to TensorBoard events in `run_dir`/tensorboard.

    Args:
        run_dir: the run's folder; created when missing.
        resume_step: the step of the checkpoint the run goes on from. Lines of later steps are
            dropped, so that the file of a killed and resumed run equals an uninterrupted one's.
            None appends to what is there.

    Raises:
        OSError: no permission, or the disk is full.
    """

    def __init__(self, run_dir: Path, resume_step: int | None = None) -> None:
        self.run_dir = Path(run_dir)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.path = self.run_dir / "metrics.jsonl"
        if self.path.exists():
            _keep_until(self.path, resume_step)
        self._file = self.path.open("a", encoding="utf-8")
        self._resume_step = resume_step
        self._events: EventFileWriter | None = None

    def log(self, step: int, values: Mapping[str, float | int]) -> None:
        """Write one line of metrics, safe from a killed process; non-finite values become null."""
        line: dict[str, float | None] = {"step": step}
        line.update((key, _finite(float(value))) for key, value in values.items())
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()
        self._log_events(step, values)

    def _log_events(self, step: int, values: Mapping[str, float | int]) -> None:
        # Imported here: `--help` must not wait for it.
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._events is None:
            self._events = self._open_events()
        scalars = [Summary.Value(tag=k, simple_value=float(v)) for k, v in values.items()]
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=scalars))
        self._events.add_event(event)
        self._events.flush()

    def _open_events(self) -> EventFileWriter:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        events = EventFileWriter(str(self.run_dir / "tensorboard"))
        if self._resume_step is not None:
            # TensorBoard hides what older files hold from this step on.
            start = SessionLog(status=SessionLog.START)
            step = self._resume_step + 1
            events.add_event(Event(wall_time=time.time(), step=step, file_version="brain.Event:2"))
            events.add_event(Event(wall_time=time.time(), step=step, session_log=start))
        return events

    def video(self, step: int, name: str, frames: np.ndarray, fps: float | int) -> Path:
        """Write frames, uint8 (T, H, W, 3), to `run_dir`/videos/<name>-<step>.mp4."""
        from dreamer_nav.video import write_mp4

        path = self.run_dir / "videos" / f"{name}-{step:09d}.mp4"
        path.parent.mkdir(exist_ok=True)
        write_mp4(path, frames, fps)
        return path

    def close(self) -> None:
        """Close the files; more than once is harmless."""
        self._file.close()
        if self._events is not None:
            self._events.close()
            self._events = None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _keep_until(path: Path, resume_step: int | None) -> None:
    """Drop lines of later steps, and the torn line of a killed or full-disk write."""
    content = path.read_bytes()
    kept = []
    for line in content.splitlines(keepends=True):
        step = _step_of(line)
        if step is not None and (resume_step is None or step <= resume_step):
            kept.append(line)
    if b"".join(kept) != content:
        write_atomic(path, b"".join(kept))


def _step_of(line: bytes) -> int | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    whole = line.endswith(b"\n") and isinstance(entry, dict) and isinstance(entry.get("step"), int)
    return int(entry["step"]) if whole else None


class Mean:
    """Running means of named scalars that stay on their device until they are asked for.

    Tensors are summed where they are, one stack and one addition a call, so the host never waits
    for the device; `pop` makes one transfer. A name's mean is over the calls that had it.
    """

    def __init__(self) -> None:
        # Sums by the names that came together, so that a call is one operation on one vector.
        self._tensors: dict[tuple[str, ...], tuple[torch.Tensor, int]] = {}
        self._floats: dict[str, tuple[float, int]] = {}

    def add(self, values: Mapping[str, torch.Tensor | float | int]) -> None:
        """Add one value of each name; a tensor of several elements counts as their mean."""
        named = {}
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                value = value.detach().float()
                named[key] = value if value.ndim == 0 else value.mean()
            else:
                total, count = self._floats.get(key, (0.0, 0))
                self._floats[key] = total + float(value), count + 1
        if named:
            self._add_tensors(named)

    def _add_tensors(self, named: dict[str, torch.Tensor]) -> None:
        names = tuple(named)
        stack = torch.stack(list(named.values()))
        if names in self._tensors:
            sums, count = self._tensors[names]
            self._tensors[names] = sums.to(stack.device) + stack, count + 1
        else:
            self._tensors[names] = stack, 1

    def pop(self) -> dict[str, float]:
        """The means of everything added since the last `pop`, and start again."""
        totals: dict[str, tuple[float, int]] = {}
        for names, sums, count in self._groups():
            for name, total in zip(names, sums, strict=True):
                before, times = totals.get(name, (0.0, 0))
                totals[name] = before + total, times + count
        self._tensors.clear()
        self._floats.clear()
        return {name: total / count for name, (total, count) in totals.items()}

    def _groups(self) -> list[tuple[list[str], list[float], int]]:
        groups: list[tuple[list[str], list[float], int]] = []
        if self._tensors:
            device = next(iter(self._tensors.values()))[0].device
            vectors = [sums.to(device) for sums, _ in self._tensors.values()]
            host = torch.cat(vectors).tolist()
            for names, (_, count) in self._tensors.items():
                groups.append((list(names), host[: len(names)], count))
                host = host[len(names) :]
        groups.extend(([name], [total], count) for name, (total, count) in self._floats.items())
        return groups

    def state_dict(self) -> dict[str, Any]:
        """The sums so far as JSON values, for a resume in the middle of a logging interval."""
        tensors = len(self._tensors)
        groups = [list(group) for group in self._groups()]
        return {"tensors": groups[:tensors], "floats": groups[tensors:]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from sums saved by `state_dict`."""
        self._tensors = {
            tuple(names): (torch.tensor(sums, dtype=torch.float32), int(count))
            for names, sums, count in state["tensors"]
        }
        self._floats = {
            names[0]: (float(sums[0]), int(count)) for names, sums, count in state["floats"]
        }


class EpisodeStats:
    """Means over the last finished episodes.

    Args:
        window: at most so many episodes;
        steps: fewer where these last longer than so many agent steps in all, or the mean of long episodes would
            show what the policy was like long ago;
        least: but never fewer than these.
    """

    def __init__(self, window: int = 100, steps: int = 5000, least: int = 5) -> None:
        self._window, self._steps, self._least = window, steps, least
        self._values: dict[str, deque[float]] = {}
        self._total = 0

    def add(
        self,
        episode_return: float | int,
        length_steps: int,
        success: float | int | None = None,
        spl: float | int | None = None,
    ) -> None:
        """Count a finished episode; success and SPL (both 0..1) where the task has them."""
        entries = {"return": episode_return, "length_steps": length_steps}
        optional = {"success_rate": success, "spl": spl}
        for name, value in {**entries, **optional}.items():
            if value is not None:
                self._values.setdefault(name, deque()).append(float(value))
        self._total += 1
        self._forget()

    def _forget(self) -> None:
        lengths = self._values["length_steps"]
        count = min(len(lengths), self._window)
        while count > self._least and sum(islice(reversed(lengths), count)) > self._steps:
            count -= 1
        for values in self._values.values():
            while len(values) > count:
                values.popleft()

    @property
    def total(self) -> int:
        """Episodes ever counted."""
        return self._total

    def means(self) -> dict[str, float]:
        """`episode/return`, `episode/length_steps`, ... over the window; empty without any."""
        means = {f"episode/{k}": sum(v) / len(v) for k, v in self._values.items()}
        return {**means, "episode/total": float(self._total)} if means else {}

    def state_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        values = {name: list(window) for name, window in self._values.items()}
        return {"total": self._total, "values": values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._total = int(state["total"])
        self._values = {k: deque(v) for k, v in state["values"].items()}
