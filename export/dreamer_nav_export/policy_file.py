"""Reads a policy file's bytes: capped, hashed, and only then handed to ONNX Runtime.

The file carries a seal, the SHA-256 of itself with the seal's digits as zeros: a damaged file must not reach ONNX
Runtime, which loads most single flipped bits without an error.

Bytes and not a path: ONNX Runtime before 1.26 follows references to files outside the model's folder when it opens
a path, and between hashing a path and opening it the file may change.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Match, Optional, Union

from dreamer_nav_export.errors import PolicyFileError

__all__ = ["MAX_FILE_BYTES", "SEAL_KEY", "SEAL_ZEROS", "read_policy_file", "seal", "sidecar_path"]

SEAL_KEY = "dreamer_nav.seal"
SEAL_ZEROS = "0" * 64
# A metadata entry in the file's own encoding: the key, then field 2 with 64 characters.
_SEAL = re.compile(SEAL_KEY.replace(".", "[.]").encode() + b"\x12\x40([0-9a-f]{64})")

MAX_FILE_BYTES = 512 * 2**20
_SIDECAR = re.compile(r"([0-9a-fA-F]{64})(?:[ \t][^\r\n]*)?\r?\n?")
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_MAX_SIDECAR_BYTES = 4096

PathLike = Union[str, "os.PathLike[str]"]


def sidecar_path(path: PathLike) -> str:
    """Where the SHA-256 of a policy file lies: `policy.onnx.sha256`, in the form of `sha256sum`."""
    return "{}.sha256".format(os.fspath(path))


def read_policy_file(
    path: PathLike, expected_sha256: Optional[str] = None, max_bytes: int = MAX_FILE_BYTES
) -> bytes:
    """The file's bytes.

    Args:
        path: the file.
        expected_sha256: 64 hexadecimal digits, checked besides the sidecar's.
        max_bytes: a bigger file is refused before it is read.

    Raises:
        PolicyFileError: no such file, too big, or not as a hash says.
    """
    if expected_sha256 is not None and not _HASH.fullmatch(expected_sha256):
        raise PolicyFileError(
            "expected_sha256 must be 64 hexadecimal digits, got {!r}".format(expected_sha256)
        )
    data = _read(path, max_bytes)
    found = hashlib.sha256(data).hexdigest()
    beside = _read_sidecar(path)
    for said, source in ((expected_sha256, "expected"), (beside, sidecar_path(path))):
        if said is not None and said.lower() != found:
            raise PolicyFileError(
                "{} has SHA-256 {} and {} says {}: the file is damaged or another one; "
                "copy it again together with its .sha256".format(path, found, source, said.lower())
            )
    _check_seal(path, data)
    return data


def seal(data: bytes) -> bytes:
    """A serialised model whose metadata has `SEAL_KEY: SEAL_ZEROS`, with its hash in that place."""
    match = _find_seal(data)
    if match is None or match.group(1) != SEAL_ZEROS.encode():
        raise ValueError("the model has no place for a seal: set {} to zeros".format(SEAL_KEY))
    digest = hashlib.sha256(data).hexdigest().encode()
    return data[: match.start(1)] + digest + data[match.end(1) :]


def _find_seal(data: bytes) -> Optional[Match[bytes]]:
    """Its only place; None if there is none, or more than one."""
    found = list(_SEAL.finditer(data))
    return found[0] if len(found) == 1 else None


def _check_seal(path: PathLike, data: bytes) -> None:
    match = _find_seal(data)
    if match is None:
        raise PolicyFileError(
            "{} has no seal: it is not a policy file of dreamer-nav, or damaged".format(path)
        )
    digest = hashlib.sha256(data[: match.start(1)])
    digest.update(SEAL_ZEROS.encode())
    digest.update(data[match.end(1) :])
    if digest.hexdigest().encode() != match.group(1):
        raise PolicyFileError("{} is damaged: its content does not fit its seal".format(path))


def _read(path: PathLike, max_bytes: int) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise PolicyFileError("{} cannot be read: {}".format(path, error)) from error
    if len(data) > max_bytes:
        raise PolicyFileError("{} has more than {} bytes, the limit".format(path, max_bytes))
    if not data:
        raise PolicyFileError("{} is empty".format(path))
    return data


def _read_sidecar(path: PathLike) -> Optional[str]:
    name = sidecar_path(path)
    try:
        with open(name, "rb") as file:
            raw = file.read(_MAX_SIDECAR_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PolicyFileError("{} cannot be read: {}".format(name, error)) from error
    match = _SIDECAR.fullmatch(raw.decode("utf-8", "replace"))
    if match is None:
        raise PolicyFileError(
            "{} is not the output of sha256sum: one line that begins with 64 hexadecimal "
            "digits".format(name)
        )
    return match.group(1)
