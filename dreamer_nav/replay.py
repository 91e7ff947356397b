"""Replay on disk: a ring of transitions per environment, sampled as (B, T) slices.

Index t of a stream holds the action that led to observation t. The first row of an episode has zero
action, zero reward and `is_first`; rewards and discounts are read from the state at t.

The newest `capacity_steps // num_envs` rows of each stream can be sampled. The ring is longer than
that by a slack, so rows that could be sampled at the last checkpoint are still there when a killed
run rewinds to it. A killed process loses nothing that was added: the pages belong to the kernel,
and the counters come from the checkpoint.
"""

from __future__ import annotations

import os
import urllib.parse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamer_nav.config import ReplayConfig
from dreamer_nav.episode_table import EpisodeTable
from dreamer_nav.replay_folder import ReplayError, adopt_meta, lock_folder
from dreamer_nav.ring import RowFile, RowSpec

__all__ = ["Replay", "ReplayError", "RowSpec"]

_FORMAT = 1
_RESERVE_BYTES = 64 * 2**20  # disk reserved at once, all keys and streams together
_FLAGS = ("is_first", "is_last", "is_terminal")
_STANDARD = {"reward": RowSpec((), "float32")} | {name: RowSpec((), "bool") for name in _FLAGS}


class Replay:
    """Rows of `num_envs` independent streams on disk, and batches of slices from them.

    Args:
        folder: holds one file per key and meta.json; created when missing, reopened when it fits.
        specs: the observations and "action"; reward and the is_* flags are added.
        num_envs: number of streams.
        config: capacity, batch shape and the way of sampling.
        slack_steps: the most agent steps, all environments together, between two checkpoints.

    Slices start anywhere in the stream with `sample: steps`: each start is equally likely, and a
    slice may run over an episode's end into the next (`is_first` marks the boundary). With
    `sample: episodes` a finished episode is drawn uniformly, then a window inside it, as DreamerV2
    does; an episode shorter than the window is followed by the next rows of its stream, unless
    `min_episode_steps` excludes it. `prioritize_ends` favours the window at the end.

    One process and one thread may use it at a time.

    Raises:
        ReplayError: the folder holds other data or is in use; OSError: disk full or no permission.
    """

    def __init__(
        self,
        folder: Path,
        specs: dict[str, RowSpec],
        num_envs: int,
        config: ReplayConfig,
        slack_steps: int,
    ) -> None:
        self.folder, self.config, self.num_envs = Path(folder), config, num_envs
        self.specs = _complete(specs)
        self._window = config.capacity_steps // max(num_envs, 1)
        self._check_sizes(slack_steps)
        # A step adds one row and at most one more for the reset; one stream may have made them all.
        self._ring = self._window + 2 * slack_steps
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(self.folder)
        try:
            self._adopt_meta()
            self._open_files()
        except BaseException:
            self.close()
            raise
        self._rows = np.zeros(num_envs, np.int64)  # rows ever added, per stream
        self._oldest = np.zeros(num_envs, np.int64)  # rows before this one are lost
        self._reserved = np.zeros(num_envs, np.int64)  # ring rows that have disk blocks
        row_bytes = sum(spec.row_bytes for spec in self.specs.values()) + 8
        self._reserve_rows = max(1, _RESERVE_BYTES // row_bytes // num_envs)
        self._offsets = np.arange(config.batch_length)
        self._scratch: dict[str, np.ndarray] = {}
        self._episodes: EpisodeTable | None = None
        if config.sample == "episodes":
            self._episodes = EpisodeTable(num_envs, self._window, config)

    # ---------------------------------------------------------------- adding

    def add(self, rows: dict[str, np.ndarray], env_ids: np.ndarray) -> None:
        """Append one row to the stream of each named environment.

        Args:
            rows: every key's values, (n, *shape).
            env_ids: (n,) distinct stream numbers.

        Raises:
            ValueError: keys, shapes or stream numbers do not fit; OSError: the disk is full. The
                replay is unchanged after either.
        """
        env_ids = self._check_ids(np.asarray(env_ids))
        values = self._check_rows(rows, len(env_ids))
        position = self._rows[env_ids]
        slot = position % self._ring
        for env, row in zip(env_ids.tolist(), slot.tolist(), strict=True):
            if row >= self._reserved[env]:
                self._reserve(env, row)
        index = env_ids * self._ring + slot
        # An interrupted write must not leave a number that claims the row is whole.
        self._numbers.rows[index] = 0
        for key, file in self._files.items():
            file.write(index, values[key])
        self._numbers.rows[index] = position + 1
        self._rows[env_ids] += 1
        if self._episodes is not None:
            first, last = values["is_first"].tolist(), values["is_last"].tolist()
            for i, env in enumerate(env_ids.tolist()):
                self._episodes.add(env, int(position[i]), first[i], last[i])

    def _check_ids(self, env_ids: np.ndarray) -> np.ndarray:
        ids = env_ids.tolist()
        in_range = env_ids.ndim == 1 and all(0 <= i < self.num_envs for i in ids)
        if not in_range or len(set(ids)) != len(ids):
            raise ValueError(f"env_ids must be distinct, in 0..{self.num_envs - 1}; got {ids}")
        return env_ids.astype(np.int64)

    def _check_rows(self, rows: dict[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
        if rows.keys() != self.specs.keys():
            missing = sorted(self.specs.keys() - rows.keys())
            unknown = sorted(rows.keys() - self.specs.keys())
            raise ValueError(f"rows do not fit the replay: missing {missing}, unknown {unknown}")
        values = {key: np.asarray(value) for key, value in rows.items()}
        for key, value in values.items():
            spec = self.specs[key]
            if value.shape != (n, *spec.shape):
                raise ValueError(f"{key}: expected shape {(n, *spec.shape)}, got {value.shape}")
            if not np.can_cast(value.dtype, spec.dtype, "same_kind"):
                raise ValueError(f"{key}: expected {np.dtype(spec.dtype)}, got {value.dtype}")
        return values

    def _reserve(self, env: int, row: int) -> None:
        start = int(self._reserved[env])
        stop = min(self._ring, row + self._reserve_rows)
        for file in (*self._files.values(), self._numbers):
            file.reserve(env, start, stop)
        self._reserved[env] = stop

    # -------------------------------------------------------------- sampling

    def can_sample(self) -> bool:
        """Whether there is at least one slice to draw."""
        if self._episodes is not None:
            return bool(self._episodes.ready(self._low(), self._rows).sum() > 0)
        return bool(self._valid_starts().sum() > 0)

    def sample(
        self, rng: np.random.Generator, out: dict[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Draw a batch of slices, every key (B, T, *shape), images in their original dtype.

        `is_first[:, 0]` is True whatever is stored: the recurrent state before a slice is unknown.

        Args:
            rng: the only source of randomness; its state and `state_dict` decide all later batches.
            out: a batch from an earlier call to fill again.

        Raises:
            ReplayError: nothing can be sampled yet; ValueError: `out` has other shapes or dtypes.
        """
        if not self.can_sample():
            raise ReplayError(
                f"replay holds {self.num_rows} rows and no slice of {self.config.batch_length} "
                "yet; collect more steps before the first update"
            )
        env, start = self._draw(rng)
        index = env[:, None] * self._ring + (start[:, None] + self._offsets) % self._ring
        out = self._allocate() if out is None else self._check_out(out)
        for key, file in self._files.items():
            file.read(index, out[key], self._scratch.get(key))
        out["is_first"][:, 0] = True
        return out

    def newest(self, most: int, keys: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """The newest rows of every stream, (num_envs, length, *shape), as stored.

        The length is `most`, or what the shortest stream holds.
        """
        length = min(most, int((self._rows - self._low()).min()))
        envs = np.arange(self.num_envs)[:, None]
        index = envs * self._ring + (self._rows[:, None] - length + np.arange(length)) % self._ring
        out = {}
        for key in keys or self.specs:
            spec = self.specs[key]
            out[key] = np.empty((*index.shape, *spec.shape), spec.dtype)
            scratch = np.empty(out[key].shape, np.uint16) if spec.quantised else None
            self._files[key].read(index, out[key], scratch)
        return out

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Stream and first row (both (B,)) of each slice."""
        if self._episodes is not None:
            return self._episodes.draw(rng, self.config.batch_size)
        until = np.cumsum(self._valid_starts())
        pick = rng.integers(until[-1], size=self.config.batch_size)
        env = np.searchsorted(until, pick, side="right")
        return env, self._rows[env] - self.config.batch_length - (until[env] - 1 - pick)

    def _valid_starts(self) -> np.ndarray:
        held = self._rows - self._low()
        return np.maximum(held - self.config.batch_length + 1, 0)

    def _low(self) -> np.ndarray:
        """The oldest row of each stream that may be sampled."""
        return np.maximum(self._rows - self._window, self._oldest)

    def _allocate(self) -> dict[str, np.ndarray]:
        lead = (self.config.batch_size, self.config.batch_length)
        for key, spec in self.specs.items():
            if spec.quantised and key not in self._scratch:
                self._scratch[key] = np.empty((*lead, *spec.shape), np.uint16)
        return {key: np.empty((*lead, *s.shape), s.dtype) for key, s in self.specs.items()}

    def _check_out(self, out: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        lead = (self.config.batch_size, self.config.batch_length)
        for key, spec in self.specs.items():
            array = out.get(key)
            if array is None or array.shape != (*lead, *spec.shape) or array.dtype != spec.dtype:
                found = "nothing" if array is None else f"{array.dtype} {array.shape}"
                wanted = f"{np.dtype(spec.dtype)} {(*lead, *spec.shape)}"
                raise ValueError(f"out[{key!r}] must be {wanted}, got {found}")
        return out

    # -------------------------------------------------------- state and disk

    @property
    def num_rows(self) -> int:
        """Rows that may be sampled now, all streams together."""
        return int((self._rows - self._low()).sum())

    def state_dict(self) -> dict[str, Any]:
        """The position of every stream, as JSON numbers; with the files it is the whole replay."""
        return {"format": _FORMAT, "rows": self._rows.tolist(), "oldest": self._oldest.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a position saved by `state_dict`; rows added since are forgotten.

        Rows overwritten since (a checkpoint older than the last one, after the ring wrapped) are
        left out with a warning.

        Raises:
            ReplayError: the files do not hold what the position says.
        """
        rows = np.array(state["rows"], np.int64)
        if state.get("format") != _FORMAT or rows.shape != (self.num_envs,):
            raise ReplayError(
                f"{self.folder}: the saved position is of {len(rows)} environments (format "
                f"{state.get('format')}), this replay of {self.num_envs} (format {_FORMAT})"
            )
        oldest = np.array(state["oldest"], np.int64)
        for env in range(self.num_envs):
            oldest[env] = self._first_intact(env, int(oldest[env]), int(rows[env]))
        self._rows, self._oldest = rows, oldest
        if self._episodes is not None:
            self._rebuild_episodes(self._episodes)

    def _first_intact(self, env: int, oldest: int, rows: int) -> int:
        low = max(oldest, rows - self._window)
        position = np.arange(low, rows)
        found = self._numbers.rows[env * self._ring + position % self._ring]
        wrong = np.flatnonzero(found != position + 1)
        if len(wrong) == 0:
            return oldest
        if wrong[-1] == len(position) - 1:
            raise ReplayError(
                f"{self.folder}: row {rows - 1} of environment {env} is not in its files; they "
                "are another run's or were lost: restore the folder that goes with the checkpoint"
            )
        lost = int(wrong[-1]) + 1
        warnings.warn(
            f"{self.folder}: the oldest {lost} of {len(position)} rows of environment {env} were "
            "overwritten after this checkpoint; sampling goes on without them",
            stacklevel=3,
        )
        return low + lost

    def _rebuild_episodes(self, table: EpisodeTable) -> None:
        low = self._low()
        for env in range(self.num_envs):
            position = np.arange(low[env], self._rows[env])
            index = env * self._ring + position % self._ring
            first = self._files["is_first"].rows[index]
            last = self._files["is_last"].rows[index]
            table.rebuild(env, int(low[env]), first, last)

    def flush(self) -> None:
        """Write everything added so far to the disk, against power loss."""
        for file in (*self._files.values(), self._numbers):
            file.flush()

    def close(self) -> None:
        """Release the files and the folder's lock; the folder can be opened again."""
        for file in (*getattr(self, "_files", {}).values(), getattr(self, "_numbers", None)):
            if file is not None:
                file.close()
        lock, self._lock = getattr(self, "_lock", None), None
        if lock is not None:
            os.close(lock)

    def __del__(self) -> None:
        self.close()

    def _check_sizes(self, slack_steps: int) -> None:
        length = self.config.batch_length
        if self.num_envs < 1 or slack_steps < 0 or self.config.batch_size < 1 or length < 1:
            raise ValueError(
                "num_envs, replay.batch_size and replay.batch_length must be at least 1 and "
                f"slack_steps at least 0; got {self.num_envs}, {self.config.batch_size}, {length}, "
                f"{slack_steps}"
            )
        if self._window < length:
            raise ValueError(
                f"replay.capacity_steps {self.config.capacity_steps} over {self.num_envs} "
                f"environments keeps {self._window} rows each, fewer than "
                f"replay.batch_length {length}; raise it"
            )

    def _adopt_meta(self) -> None:
        """Write meta.json, or check that the one found describes this replay."""
        meta = {
            "format": _FORMAT,
            "num_envs": self.num_envs,
            "capacity_steps": self.config.capacity_steps,
            "ring_rows": self._ring,
            "specs": {key: spec.to_json() for key, spec in sorted(self.specs.items())},
        }
        found = adopt_meta(self.folder / "meta.json", meta)
        if found["ring_rows"] < self._ring:
            warnings.warn(
                f"{self.folder}: the files were made for more frequent checkpoints; resuming a "
                "killed run may lose the oldest rows",
                stacklevel=3,
            )
        self._ring = int(found["ring_rows"])

    def _open_files(self) -> None:
        self._files: dict[str, RowFile] = {}
        for key, spec in self.specs.items():
            # Quoted, so that an observation's name cannot leave the folder.
            path = self.folder / f"{urllib.parse.quote(key, safe='')}.bin"
            self._files[key] = RowFile(path, spec, self.num_envs, self._ring)
        numbers = RowSpec((), "int64")  # row number + 1, 0 where none was written
        path = self.folder / "rows.index"
        self._numbers = RowFile(path, numbers, self.num_envs, self._ring)


def _complete(specs: dict[str, RowSpec]) -> dict[str, RowSpec]:
    if "action" not in specs:
        raise ValueError(f'replay needs a spec for "action"; got only {sorted(specs)}')
    for key, standard in _STANDARD.items():
        if key in specs and specs[key].to_json() != standard.to_json():
            raise ValueError(f"{key} must be {standard.describe()}, not {specs[key].describe()}")
    return {**specs, **_STANDARD}
