"""Which finished episodes of which stream can be sampled, in constant time per draw."""

from __future__ import annotations

import numpy as np

from dreamer_nav.config import ReplayConfig

__all__ = ["EpisodeTable"]


class EpisodeTable:
    """First row and number of rows of each finished episode, a ring per stream.

    Entries are in order of their first row, so the ones that can be sampled (still held, and
    followed by a whole slice) are always a run of the ring: drawing is arithmetic, whatever
    their number.

    Args:
        streams: number of streams.
        window_rows: rows of a stream that can be sampled.
        config: batch length, minimum length, prioritised ends.
    """

    def __init__(self, streams: int, window_rows: int, config: ReplayConfig) -> None:
        self._length = config.batch_length
        # An episode of n steps has n + 1 rows: the reset has one too.
        self._min_rows = config.min_episode_steps + 1
        self._end_bonus = 0
        if config.prioritize_ends:
            self._end_bonus = config.min_episode_steps or config.batch_length
        self._size = window_rows // self._min_rows + 2
        self._start = np.zeros((streams, self._size), np.int64)
        self._count = np.zeros((streams, self._size), np.int64)
        self._tail = np.zeros(streams, np.int64)  # oldest entry that is still held
        self._ready = np.zeros(streams, np.int64)  # entries before this one have a whole slice
        self._head = np.zeros(streams, np.int64)  # entries ever written
        self._open = np.full(streams, -1, np.int64)  # first row of the unfinished episode
        self._window = window_rows

    def add(self, stream: int, row: int, is_first: bool, is_last: bool) -> None:
        """Take note of a row's flags, in order."""
        if is_first:
            if self._open[stream] >= 0:  # the episode before was cut off
                self._append(stream, int(self._open[stream]), row)
            self._open[stream] = row
        if is_last and self._open[stream] >= 0:
            self._append(stream, int(self._open[stream]), row + 1)
            self._open[stream] = -1

    def _append(self, stream: int, start: int, stop: int) -> None:
        if stop - start < self._min_rows or start < stop - self._window:
            return
        self._drop_before(stream, stop - self._window)
        slot = self._head[stream] % self._size
        self._start[stream, slot] = start
        self._count[stream, slot] = stop - start
        self._head[stream] += 1

    def _drop_before(self, stream: int, low: int) -> None:
        tail, head = int(self._tail[stream]), int(self._head[stream])
        while tail < head and self._start[stream, tail % self._size] < low:
            tail += 1
        self._tail[stream] = tail
        self._ready[stream] = max(int(self._ready[stream]), tail)

    def ready(self, low: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Number of episodes of each stream that can be sampled, (streams,).

        Args:
            low: the oldest row held, per stream.
            rows: rows ever added, per stream.
        """
        for stream in range(len(low)):
            self._drop_before(stream, int(low[stream]))
            ready, head = int(self._ready[stream]), int(self._head[stream])
            limit = int(rows[stream]) - self._length
            while ready < head and self._start[stream, ready % self._size] <= limit:
                ready += 1
            self._ready[stream] = ready
        return self._ready - self._tail

    def draw(self, rng: np.random.Generator, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Stream and first row, both (B,), of slices of the episodes last found `ready`.

        An episode is uniform among all; in one of N rows the first row of a slice of L is
        min(uniform(N - L + 1 + bonus), N - L), as in DreamerV2's replay, where the bonus of
        prioritised ends is its minimum length (the slice's length where none is set).
        """
        number = self._ready - self._tail
        until = np.cumsum(number)
        pick = rng.integers(until[-1], size=batch)
        stream = np.searchsorted(until, pick, side="right")
        entry = self._tail[stream] + pick - (until[stream] - number[stream])
        slot = entry % self._size
        last = np.maximum(self._count[stream, slot] - self._length, 0)
        offset = np.minimum(rng.integers(last + 1 + self._end_bonus), last)
        return stream, self._start[stream, slot] + offset

    def rebuild(self, stream: int, low: int, is_first: np.ndarray, is_last: np.ndarray) -> None:
        """Find the episodes again from the flags of the rows low, low + 1, ... of a stream."""
        self._tail[stream] = self._ready[stream] = self._head[stream] = 0
        self._open[stream] = -1
        first = np.flatnonzero(is_first)
        if len(first) == 0:
            return
        last = np.append(np.flatnonzero(is_last), len(is_first))
        following = np.append(first[1:], len(is_first))
        ended = last[np.searchsorted(last, first)] + 1
        stop = np.minimum(ended, following)
        if ended[-1] > len(is_first):
            self._open[stream] = low + first[-1]
            first, stop = first[:-1], stop[:-1]
        long = stop - first >= self._min_rows
        start, count = first[long] + low, (stop - first)[long]
        self._start[stream, : len(start)] = start
        self._count[stream, : len(start)] = count
        self._head[stream] = len(start)
