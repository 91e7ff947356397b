"""Memory-mapped files of fixed-size rows: the disk side of replay.

One file holds one key (an observation, the action, ...) of all streams, stream after stream, as raw
numbers. The files are sparse; disk blocks are reserved ahead of the writer, because a write to an
unreserved page of a full disk kills the process (SIGBUS) instead of raising an error.
"""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["RowFile", "RowSpec"]

_QUANTA = 65535  # uint16 levels above zero
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class RowSpec:
    """Shape, dtype and bounds of one key of a row.

    Float images (rank-3 float32 with finite bounds, such as depth) are stored as uint16, quantised
    linearly over [low, high]; the error is at most (high - low) / 131070. Values outside the bounds
    are clipped to them. Everything else is stored as it is.
    """

    shape: tuple[int, ...]
    dtype: str
    low: float | int | None = None
    high: float | int | None = None

    def __post_init__(self) -> None:
        if any(size < 1 for size in self.shape):
            raise ValueError(f"a row of shape {self.shape} holds nothing; every size must be >= 1")
        if self.quantised and not self.bounds()[0] < self.bounds()[1]:
            raise ValueError(f"image bounds must satisfy low < high, not [{self.low}, {self.high}]")

    def bounds(self) -> tuple[float, float]:
        """Low and high of a quantised image."""
        assert self.low is not None
        assert self.high is not None
        return float(self.low), float(self.high)

    @property
    def quantised(self) -> bool:
        """Whether rows are stored as uint16 steps between the bounds."""
        bounded = self.low is not None and self.high is not None
        bounded = bounded and all(map(math.isfinite, self.bounds()))
        return len(self.shape) == 3 and np.dtype(self.dtype) == np.float32 and bounded

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The dtype on disk."""
        return np.dtype(np.uint16) if self.quantised else np.dtype(self.dtype)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row on disk."""
        return math.prod(self.shape) * self.stored_dtype.itemsize

    def describe(self) -> str:
        """What is stored, in words, such as `float32 (64, 64, 1) in [0.1, 10.0]`."""
        bounds = f" in [{self.low}, {self.high}]" if self.quantised else ""
        return f"{np.dtype(self.dtype).name} {tuple(self.shape)}{bounds}"

    def to_json(self) -> dict[str, Any]:
        """What decides the bytes on disk, for meta.json."""
        bounds = list(self.bounds()) if self.quantised else None
        return {"shape": list(self.shape), "dtype": np.dtype(self.dtype).str, "bounds": bounds}

    @staticmethod
    def from_json(entry: dict[str, Any]) -> RowSpec:
        """The inverse of `to_json`."""
        low, high = entry["bounds"] or (None, None)
        return RowSpec(tuple(entry["shape"]), str(entry["dtype"]), low, high)


class RowFile:
    """One key's rows, (streams * rows_per_stream, *shape), in a memory-mapped file.

    `rows` is the array itself in its stored dtype; `write` and `read` convert. Opening creates the
    file where it is missing and refuses one of another size.

    Raises:
        OSError: the file cannot be created, or (from `reserve`) the disk is full.
        ValueError: an existing file has another size.
    """

    def __init__(self, path: Path, spec: RowSpec, streams: int, rows_per_stream: int) -> None:
        self.path, self.spec, self.rows_per_stream = path, spec, rows_per_stream
        size = streams * rows_per_stream * spec.row_bytes
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            self._set_size(size)
            self._map = mmap.mmap(self._handle, size)
        except BaseException:
            os.close(self._handle)
            raise
        flat: np.ndarray = np.frombuffer(self._map, spec.stored_dtype)
        self.rows = flat.reshape(streams * rows_per_stream, *spec.shape)
        if spec.quantised:
            low, high = spec.bounds()
            self._low, self._high = np.float32(low), np.float32(high)
            self._step = np.float32((high - low) / _QUANTA)

    def _set_size(self, size: int) -> None:
        found = os.fstat(self._handle).st_size
        if found not in (0, size):
            raise ValueError(
                f"{self.path} has {found} bytes where its meta.json implies {size}: the file was "
                "cut or replaced; restore it, or delete the replay folder to start an empty one"
            )
        if found == 0:
            os.ftruncate(self._handle, size)

    def reserve(self, stream: int, start: int, stop: int) -> None:
        """Make sure the disk has blocks for rows [start, stop) of a stream; content stays."""
        first = stream * self.rows_per_stream + start
        needed = (stop - start) * self.spec.row_bytes
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._handle, first * self.spec.row_bytes, needed)
            elif shutil.disk_usage(self.path.parent).free < needed:
                raise OSError(errno.ENOSPC, "no space left")
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            free = shutil.disk_usage(self.path.parent).free
            raise OSError(
                error.errno,
                f"disk full: replay needs {needed} more bytes and {free} are free; free some "
                "space, or start a run with a smaller replay.capacity_steps or on another disk",
                str(self.path),
            ) from error

    def write(self, index: np.ndarray, values: np.ndarray) -> None:
        """Store values (n, *shape) in rows `index` (n,)."""
        if self.spec.quantised:
            low, high = self.spec.bounds()
            if np.isnan(values).any():
                raise ValueError(f"{self.path.stem}: an image with NaN pixels cannot be stored")
            steps = (np.clip(values, low, high) - low) * (_QUANTA / (high - low))
            values = np.rint(steps).astype(np.uint16)
        self.rows[index] = values

    def read(self, index: np.ndarray, out: np.ndarray, scratch: np.ndarray | None = None) -> None:
        """Gather rows `index` (B, T) into out (B, T, *shape); scratch: its uint16 twin."""
        # mode="clip" lets numpy write straight into `out`; the indices are valid by construction.
        if not self.spec.quantised:
            np.take(self.rows, index, axis=0, out=out, mode="clip")
            return
        if scratch is None:
            scratch = np.empty(out.shape, np.uint16)
        np.take(self.rows, index, axis=0, out=scratch, mode="clip")
        out[...] = scratch
        np.multiply(out, self._step, out=out)
        np.add(out, self._low, out=out)
        np.minimum(out, self._high, out=out)  # rounding must not leave the observation space

    def flush(self) -> None:
        """Write changed pages to the disk; needed against power loss, not a killed process."""
        self._map.flush()

    def close(self) -> None:
        """Release the mapping and the file; `rows` is empty afterwards."""
        if self._handle < 0:
            return
        self.rows = np.empty((0, *self.spec.shape), self.spec.stored_dtype)
        # A caller's view keeps the mapping alive; it goes when the view does.
        with contextlib.suppress(BufferError):
            self._map.close()
        os.close(self._handle)
        self._handle = -1
