"""Our training loop with a listener, through which habitat-baselines logs and saves its way."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dreamer_nav.config import Config
from dreamer_nav.train import Trainer

__all__ = ["HabitatRun", "Listener", "MeasureWindow"]

# What `HabitatEnv` adds to habitat-lab's measures, and what is no measure.
_NOT_MEASURES = frozenset(("collided", "path_length", "steps", "length", "return"))
_THEIR_NAMES = {"collisions": "collisions.count"}


@runtime_checkable
class Listener(Protocol):
    """Who is told of a run."""

    def on_episode(self, info: Mapping[str, Any]) -> None:
        """An episode ended; `info` is its last, with "return" and "length" (agent steps)."""

    def on_step(self, run: HabitatRun) -> None:
        """Every environment made a step, and the updates due were made."""

    def on_log(self, run: HabitatRun, values: Mapping[str, float]) -> None:
        """The run wrote these metrics."""

    def on_save(self, run: HabitatRun, checkpoint: Path) -> None:
        """The run wrote a checkpoint that it can go on from."""


class HabitatRun(Trainer):
    """A `Trainer` that tells a listener what happens; arguments as there."""

    def __init__(
        self, config: Config, run_dir: Path, listener: Listener, checkpoint: Path | None = None
    ) -> None:
        self._listener = listener
        super().__init__(config, run_dir, resume=checkpoint is not None, checkpoint=checkpoint)

    def _tick(self) -> None:
        super()._tick()
        self._listener.on_step(self)

    def _on_episode(self, info: dict[str, Any]) -> None:
        super()._on_episode(info)
        if "worker_failed" not in info:
            self._listener.on_episode(info)

    def _log(self) -> dict[str, float]:
        values = super()._log()
        self._listener.on_log(self, values)
        return values

    def save(self) -> Path:
        """Write a checkpoint and say so."""
        path = super().save()
        self._listener.on_save(self, path)
        return path


class MeasureWindow:
    """Means of habitat-lab's measures and the reward over the last `length` episodes."""

    def __init__(self, length: int) -> None:
        self._episodes: deque[dict[str, float]] = deque(maxlen=max(1, length))

    def add(self, info: Mapping[str, Any]) -> None:
        """Count an episode by its last info."""
        numbers = {k: float(v) for k, v in info.items() if isinstance(v, (int, float))}
        episode = {_THEIR_NAMES.get(k, k): v for k, v in numbers.items() if k not in _NOT_MEASURES}
        self._episodes.append({**episode, "reward": float(info["return"])})

    def means(self) -> dict[str, float]:
        """By name, "reward" among them; empty before the first episode."""
        names = {name for episode in self._episodes for name in episode}
        means = {}
        for name in sorted(names):
            values = [e[name] for e in self._episodes if name in e]
            means[name] = sum(values) / len(values)
        return means

    def state_dict(self) -> list[dict[str, float]]:
        """The episodes as plain containers."""
        return [dict(episode) for episode in self._episodes]

    def load_state_dict(self, state: list[dict[str, float]]) -> None:
        """Go on from what `state_dict` returned."""
        self._episodes.clear()
        self._episodes.extend(state)
