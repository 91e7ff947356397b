"""Checkpoints: a folder per step, whole or absent, checked when read, without pickle.

`step-000012000/` holds `state.safetensors` (every tensor) and `meta.json` (step, format version,
the SHA-256 of the tensors, the caller's own JSON, and last the SHA-256 of all that precedes it).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from dreamer_nav.atomic import fsync_file, fsync_folder

__all__ = [
    "CheckpointError",
    "latest_checkpoint",
    "list_checkpoints",
    "load_checkpoint",
    "rng_state",
    "save_checkpoint",
    "set_rng_state",
]

_FORMAT = 1
_NAME = re.compile(r"step-(\d{9,})")
_SEAL = re.compile(rb',\n "sha256": "([0-9a-f]{64})"\n\}\n')
_SEAL_BYTES = len(b',\n "sha256": ""\n}\n') + 64
_TEMPORARY = ".tmp-"
_REPLACED = ".replaced-"


class CheckpointError(Exception):
    """A checkpoint that cannot be read or written.

    `fallback` is the newest older checkpoint beside it that is intact, or None.
    """

    def __init__(self, message: str, fallback: Path | None = None) -> None:
        super().__init__(message)
        self.fallback = fallback


def save_checkpoint(
    folder: Path, step: int, tensors: dict[str, torch.Tensor], meta: dict[str, Any], keep: int
) -> Path:
    """Write checkpoint `step` and remove the ones beyond the newest `keep`.

    A kill at any moment leaves either the checkpoints of before or the new one too, never a part.
    Checkpoints of later steps are of a course the run has left by going back, and are removed.

    Args:
        folder: holds the checkpoints; created when missing.
        step: names the checkpoint.
        tensors: flat names to tensors of any dtype and device; tensors may share memory.
        meta: anything JSON can hold, random states as integers included.
        keep: at least 1.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written; what was there remains.
        TypeError: meta holds something JSON cannot.
    """
    if keep < 1:
        raise ValueError(f"keep_checkpoints must be at least 1, got {keep}")
    json.dumps(meta)  # refuse what cannot be written before anything is
    target = folder / f"step-{step:09d}"
    temporary = folder / f"{_TEMPORARY}{target.name}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clean(folder)
        _write(temporary, step, tensors, meta)
        _put_in_place(temporary, target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"could not write {target}: {error}; earlier checkpoints are untouched"
        ) from error
    found = list_checkpoints(folder)
    position = found.index(target)
    for path in found[: max(0, position + 1 - keep)] + found[position + 1 :]:
        _remove(path)
    return target


def _write(
    temporary: Path, step: int, tensors: dict[str, torch.Tensor], meta: dict[str, Any]
) -> None:
    temporary.mkdir()
    # Clones, because safetensors refuses tensors that share memory (tied weights).
    state = {k: t.detach().to("cpu").contiguous().clone() for k, t in tensors.items()}
    path = temporary / "state.safetensors"
    safetensors.torch.save_file(state, path)
    content = {"format": _FORMAT, "step": step, "state_sha256": _sha256(path), "meta": meta}
    (temporary / "meta.json").write_bytes(_seal(content))
    for file in (path, temporary / "meta.json"):
        fsync_file(file)
    fsync_folder(temporary)


def _seal(content: dict[str, Any]) -> bytes:
    body = json.dumps(content, indent=1).encode().removesuffix(b"\n}")
    return body + b',\n "sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _put_in_place(temporary: Path, target: Path) -> None:
    """Rename; one of the same step moves aside first, and `_clean` brings it back if needed."""
    replaced = target.with_name(f"{_REPLACED}{target.name}")
    if target.exists():
        os.rename(target, replaced)
    os.rename(temporary, target)
    fsync_folder(target.parent)
    if replaced.exists():
        shutil.rmtree(replaced)


def _remove(path: Path) -> None:
    """Remove a checkpoint; a kill meanwhile does not leave a part of it under its name."""
    doomed = path.with_name(f"{_TEMPORARY}{path.name}-{os.getpid()}")
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def _clean(folder: Path) -> None:
    """Remove what killed writers left behind."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path)
    for path in folder.glob(f"{_REPLACED}*"):
        original = folder / path.name.removeprefix(_REPLACED)
        if original.exists():
            shutil.rmtree(path)
        else:
            os.rename(path, original)


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder by ascending step; not verified. Empty if there is no such folder."""
    found: dict[int, Path] = {}
    for path in sorted(folder.glob(f"{_REPLACED}*")) + sorted(folder.glob("step-*")):
        match = _NAME.fullmatch(path.name.removeprefix(_REPLACED))
        if match and path.is_dir():
            found[int(match[1])] = path
    return [found[step] for step in sorted(found)]


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step, or None."""
    found = list_checkpoints(folder)
    return found[-1] if found else None


def load_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a checkpoint and verify every byte of it.

    Returns:
        Tensors on the CPU, and the caller's meta.

    Raises:
        CheckpointError: one sentence naming the file and what is wrong with it, and the newest
            older checkpoint that is intact, if any.
    """
    path = Path(path)
    try:
        content = _verify(path)
        tensors = safetensors.torch.load_file(path / "state.safetensors")
    except (CheckpointError, OSError, SafetensorError) as error:
        fallback = next(_intact_before(path), None)
        hint = f"; {fallback} is older and intact: use that one instead" if fallback else ""
        raise CheckpointError(f"{error}{hint}", fallback) from error
    return tensors, content["meta"]


def _verify(path: Path) -> dict[str, Any]:
    state, description = path / "state.safetensors", path / "meta.json"
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint {path}")
    if not path.is_dir() or not (state.exists() or description.exists()):
        raise CheckpointError(
            f"{path} is not a checkpoint: one is a folder with state.safetensors and meta.json"
        )
    for file in (state, description):
        if not file.exists():
            raise CheckpointError(f"{file} is missing")
    content = _unseal(description)
    if content["format"] != _FORMAT:
        raise CheckpointError(
            f"{description} has format {content['format']} and this version of dreamer-nav reads "
            f"{_FORMAT}; use the version that wrote it"
        )
    if _sha256(state) != content["state_sha256"]:
        raise CheckpointError(f"{state} is damaged: its checksum is not the one in meta.json")
    return content


def _unseal(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    body, seal = raw[:-_SEAL_BYTES], _SEAL.fullmatch(raw[-_SEAL_BYTES:])
    if seal is None or hashlib.sha256(body).hexdigest().encode() != seal[1]:
        raise CheckpointError(f"{path} is damaged: its content does not fit its checksum")
    content = json.loads(raw)
    if not isinstance(content, dict) or not {"format", "meta", "state_sha256"} <= content.keys():
        raise CheckpointError(f"{path} is not the description of a checkpoint")
    return content


def _intact_before(path: Path) -> Iterator[Path]:
    """Checkpoints beside `path` of earlier steps that verify, newest first."""
    found = list_checkpoints(path.parent)
    older = found[: found.index(path)] if path in found else []
    for other in reversed(older):
        try:
            _verify(other)
        except (CheckpointError, OSError):
            continue
        yield other


def rng_state(generator: np.random.Generator) -> dict[str, Any]:
    """The generator's state as JSON values (integers of any size, lists for arrays)."""
    return _plain(dict(generator.bit_generator.state))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.name}
    return value.item() if isinstance(value, np.generic) else value


def set_rng_state(generator: np.random.Generator, state: dict[str, Any]) -> None:
    """Put a state from `rng_state` into a generator of the same kind.

    Raises:
        CheckpointError: the state is of another kind of generator.
    """
    own = type(generator.bit_generator).__name__
    if state.get("bit_generator") != own:
        raise CheckpointError(
            f"the random state is of a {state.get('bit_generator')} generator, this one is a {own}"
        )
    generator.bit_generator.state = _unplain(state)


def _unplain(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"array", "dtype"}:
            return np.array(value["array"], value["dtype"])
        return {key: _unplain(item) for key, item in value.items()}
    return value
