"""Which failures are the user's to mend, and the one line that says so."""

from __future__ import annotations

import errno
import os

__all__ = ["USER_ERRORS", "UsageError", "one_line"]

# By name, so that telling them apart imports none of these modules.
USER_ERRORS = {
    "dreamer_nav.failures": ("UsageError",),
    "dreamer_nav.settings": ("ConfigError",),
    "dreamer_nav.checkpoint": ("CheckpointError",),
    "dreamer_nav.replay_folder": ("ReplayError",),
    "dreamer_nav.train": ("NonFiniteLoss",),
    "sim_adapters.mujoco_gl": ("RenderingUnavailable",),
    "sim_adapters.registry": (
        "MissingOption",
        "SimulatorNotInstalled",
        "UnknownEnvironment",
        "UnknownOption",
    ),
    "sim_adapters.episodes": ("EpisodeFileError",),
    "sim_adapters.habitat.errors": ("HabitatError",),
    "sim_adapters.igibson.errors": ("IGibsonError",),
    "sim_adapters.remote": ("EnvStartError", "WorkerError"),
    "sim_adapters.vector": ("WorkerFailed",),
    "dreamer_nav_export.errors": ("PolicyError",),
    "torch": ("OutOfMemoryError",),
}
# What the machine refuses; other OSErrors (a closed pipe inside, a bad descriptor) are our bugs.
_REFUSALS = {
    errno.ENOENT: "",
    errno.EEXIST: "",
    errno.ENOTDIR: "",
    errno.EISDIR: "",
    errno.ENOTEMPTY: "",
    errno.ENAMETOOLONG: "",
    errno.EACCES: "choose a place you may write to, or change its permissions",
    errno.EPERM: "choose a place you may write to, or change its permissions",
    errno.EROFS: "choose a place you may write to",
    errno.ENOSPC: "free some space; what was saved before is intact",
    errno.EDQUOT: "free some space; what was saved before is intact",
    errno.EFBIG: "the file system or `ulimit -f` allows no bigger file",
    errno.EMFILE: "raise the limit with `ulimit -n`, or use fewer environments",
    errno.EBUSY: "",
}


class UsageError(ValueError):
    """A command line that cannot be understood or carried out."""


def one_line(error: BaseException) -> str | None:
    """The line for the user if the failure is theirs to mend; None if it is a bug of ours."""
    if isinstance(error, OSError) and not _is_listed(error):
        return _refusal(error)
    return _first_line(str(error)) if _is_listed(error) else None


def _is_listed(error: BaseException) -> bool:
    return any(t.__name__ in USER_ERRORS.get(t.__module__, ()) for t in type(error).__mro__)


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    more = " (--traceback shows all of it)" if len(lines) > 1 else ""
    return (lines[0] if lines else "failed without a reason") + more


def _refusal(error: OSError) -> str | None:
    if error.errno is None and isinstance(error, (FileNotFoundError, FileExistsError)):
        return _first_line(str(error))  # raised with a sentence of its own
    if error.errno is None or error.errno not in _REFUSALS:
        return None
    place = f"{error.filename}: " if error.filename is not None else ""
    hint = _REFUSALS[error.errno]
    if not hint or error.strerror != os.strerror(error.errno):  # a sentence of its own
        return _first_line(f"{place}{error.strerror}")
    return _first_line(f"{place}{error.strerror}; {hint}")
