"""A replay folder's identity: its lock and the meta.json that says what its files hold."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from dreamer_nav.atomic import write_atomic
from dreamer_nav.ring import RowSpec

__all__ = ["ReplayError", "adopt_meta", "lock_folder"]

_META = ("format", "num_envs", "capacity_steps", "ring_rows", "specs")


class ReplayError(Exception):
    """A replay folder that cannot be used; the message says which and what to do."""


def adopt_meta(path: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Write `wanted` to meta.json where there is none; otherwise check the one found against it.

    Returns:
        What the file now holds; its `ring_rows` may differ from the wanted ones.

    Raises:
        ReplayError: the file is damaged or of a replay with other contents.
    """
    if not path.exists():
        write_atomic(path, (json.dumps(wanted, indent=1) + "\n").encode())
        return wanted
    found = _read_meta(path)
    _check_same(path, found, wanted)
    return found


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        return {key: found[key] for key in _META}
    except (ValueError, KeyError, TypeError) as error:
        raise ReplayError(
            f"{path} is damaged ({error}); restore it, or delete the folder to start anew"
        ) from error


def _check_same(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    if found["format"] != wanted["format"]:
        raise ReplayError(
            f"{path} has format {found['format']} and this version of dreamer-nav reads "
            f"{wanted['format']}; use the version that wrote it"
        )
    for key in ("num_envs", "capacity_steps"):
        if found[key] != wanted[key]:
            raise ReplayError(
                f"{path} was made with {key} {found[key]}, this run has {wanted[key]}; use the "
                "same setting or another run folder"
            )
    for key in sorted(found["specs"].keys() | wanted["specs"].keys()):
        if found["specs"].get(key) != wanted["specs"].get(key):
            old, new = _describe(found["specs"].get(key)), _describe(wanted["specs"].get(key))
            raise ReplayError(
                f"{path} holds {old} for {key!r}, this run has {new}; use the environment settings "
                "of the run that wrote it, or another run folder"
            )


def _describe(spec: dict[str, Any] | None) -> str:
    return RowSpec.from_json(spec).describe() if spec else "nothing"


def lock_folder(folder: Path) -> int | None:
    """Lock a folder against other processes until this one ends, however it ends.

    Returns:
        A file handle to close when done, or None where the system has no such locks.

    Raises:
        ReplayError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        return None
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        # A record lock, not flock: forked children must not keep it when the trainer is killed.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        os.close(handle)
        raise ReplayError(f"{folder} is in use by another process; stop that run first") from error
    except OSError:  # a file system without locks
        with contextlib.suppress(OSError):
            os.close(handle)
        return None
    return handle
