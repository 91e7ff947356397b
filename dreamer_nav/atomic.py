"""Files that appear whole or not at all, whenever the process is killed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["atomic_path", "fsync_file", "fsync_folder", "write_atomic", "write_report"]


def fsync_file(path: Path) -> None:
    """Force a file's content to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_folder(folder: Path) -> None:
    """Force a folder's entries (renames, new files) to the disk, where the system can."""
    if os.name == "nt":
        return
    fsync_file(folder)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling with the same suffix; it replaces `path` when the block succeeds.

    When the block raises, the temporary file is removed and `path` is as it was.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        fsync_file(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old one or the new one, never a part."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_report(path: Path, report: Any) -> None:
    """Write figures as JSON, likewise; ValueError if one is not finite."""
    write_atomic(path, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
