"""Open-loop prediction: a few frames of context, then the world model alone, beside what really happened."""

from __future__ import annotations

import numpy as np
import torch

from dreamer_nav.agent import Agent
from dreamer_nav.replay import Replay
from dreamer_nav.video import open_loop_frames

__all__ = ["longest_stretches", "open_loop_videos"]

_RECENT_ROWS = 1000  # of each stream, among which episodes are looked for


def longest_stretches(is_first: np.ndarray, length: int, count: int) -> list[tuple[int, int]]:
    """(stream, first row) of up to `count` windows of `length` rows that no new episode begins inside.

    At most one window an episode; empty when no episode is that long.
    """
    found = []
    for stream, firsts in enumerate(is_first):
        starts = np.flatnonzero(firsts)
        ends = np.append(starts[1:], len(firsts))
        found += [(stream, int(a)) for a, b in zip(starts, ends, strict=True) if b - a >= length]
    return found[:count]


def open_loop_videos(
    agent: Agent, replay: Replay, *, context: int = 5, length: int = 50, count: int = 6
) -> dict[str, np.ndarray]:
    """Frames (T, H, W, 3), uint8, for each image observation: truth, model and error, a column an episode.

    T is `length`, or shorter where recent episodes are. Empty without images or without episodes longer than the
    context. Draws no randomness from the agent's own generator, so filming never changes a run.
    """
    images = [s.name for s in agent.obs if s.is_image]
    if not images:
        return {}
    is_first = replay.newest(_RECENT_ROWS, ["is_first"])["is_first"]
    while not (windows := longest_stretches(is_first, length, count)):
        length = length * 3 // 4
        if length <= context:
            return {}
    rows = replay.newest(_RECENT_ROWS)
    batch = {
        k: torch.from_numpy(np.stack([v[i, t : t + length] for i, t in windows])).to(agent.device)
        for k, v in rows.items()
    }
    generator = torch.Generator(device=agent.device).manual_seed(0)
    shape = (length, len(windows), agent.config.rssm.stoch)
    noise = torch.rand(shape, generator=generator, device=agent.device)
    predicted = agent.model.open_loop(batch, context, noise)
    truth = agent.model.preprocess(batch)
    return {
        name: open_loop_frames(_shown(truth[name]), _shown(predicted[name]), context)
        for name in images
    }


def _shown(image: torch.Tensor) -> np.ndarray:
    """Network units [-0.5, 0.5] as [0, 1]."""
    return (image.float() + 0.5).clamp(0, 1).cpu().numpy()
