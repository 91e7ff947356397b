"""Which OpenGL library draws dm_control's pictures.

dm_control binds the library when it is imported, from the environment variable MUJOCO_GL, and
takes one that loads for one that works: without a screen it takes GLFW and fails at the first
picture. So a library is tried in a process of its own before it is chosen.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional, Tuple

VARIABLE = "MUJOCO_GL"

#: tried in this order where the user has not set MUJOCO_GL
CANDIDATES: Tuple[str, ...] = ("egl", "osmesa") if sys.platform.startswith("linux") else ("glfw",)

#: values with which dm_control draws nothing
_OFF = ("off", "disable", "disabled", "false", "0")
_TRY_TIMEOUT_S = 60.0
_TRY = """
from dm_control import mujoco
world = "<mujoco><worldbody><light pos='0 0 3'/><geom size='.3'/></worldbody></mujoco>"
print("pixels", int(mujoco.Physics.from_xml_string(world).render(16, 16).max()))
"""
_INSTALL = (
    "on Debian and Ubuntu: apt install libegl1 libgl1-mesa-dri (EGL, with or without a GPU), or "
    "apt install libosmesa6 (OSMesa, software)"
)


class RenderingUnavailable(RuntimeError):
    """No picture can be drawn here; the message says why and what to install."""


def import_without_rendering() -> None:
    """Import dm_control without an OpenGL library, where none is bound yet.

    `import_for_rendering` still works afterwards.
    """
    if "dm_control._render" not in sys.modules:
        with _variable("disabled"):
            importlib.import_module("dm_control._render")


def import_for_rendering() -> str:
    """Import dm_control with an OpenGL library that draws, and return which.

    A library that was bound before, and one named in MUJOCO_GL, are left as they are. Otherwise
    MUJOCO_GL is set to the first of `CANDIDATES` that draws a picture, here and so for the
    processes started from here.

    Raises:
        RenderingUnavailable: none draws, or the one named in MUJOCO_GL does not load.
    """
    module = sys.modules.get("dm_control._render")
    bound: Optional[str] = getattr(module, "BACKEND", None)
    if module is not None and bound is not None and bound not in _OFF:
        return bound
    named = os.environ.get(VARIABLE)
    if named in _OFF:
        raise RenderingUnavailable(
            f"{VARIABLE}={named} forbids rendering: unset it, or set it to egl or osmesa, or "
            "observe without pixels"
        )
    if named is None:
        os.environ[VARIABLE] = named = find_backend()
    try:
        return str(_bind(module).BACKEND)
    except (ImportError, RuntimeError, AttributeError) as error:
        raise unavailable(named, error) from error


def unavailable(backend: str, error: BaseException) -> RenderingUnavailable:
    """The error to raise when `backend`, which was chosen, does not draw."""
    return RenderingUnavailable(
        f"{VARIABLE}={backend} does not render here ({error}). Unset {VARIABLE} to let another "
        f"library be found, or install what is missing; {_INSTALL}"
    )


def find_backend() -> str:
    """Return the first of `CANDIDATES` that draws a picture, each tried in its own process.

    Raises:
        RenderingUnavailable: none does.
    """
    reasons: Dict[str, str] = {}
    for backend in CANDIDATES:
        reason = _try(backend)
        if reason is None:
            return backend
        reasons[backend] = reason
    tried = "; ".join(f"{backend}: {reason}" for backend, reason in reasons.items())
    raise RenderingUnavailable(
        f"pictures cannot be drawn here, neither OpenGL library works ({tried}). Install one; "
        f"{_INSTALL}. Without pictures: sensors=['proprioception']"
    )


def _try(backend: str) -> Optional[str]:
    """Return None if `backend` draws a picture that is not black, else why not."""
    # The process must find the same dm_control, however this one came by it.
    path = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, VARIABLE: backend, "PYTHONPATH": path}
    command = [sys.executable, "-c", _TRY]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TRY_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no picture within {_TRY_TIMEOUT_S:.0f} s"
    last = done.stdout.strip().rpartition("\n")[2]
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"the process ended with status {done.returncode}"
    return None if last.startswith("pixels ") and last != "pixels 0" else "the picture is black"


def _bind(module: Any) -> Any:
    """Import dm_control's rendering, or again if it was imported without a library."""
    if module is None:
        return importlib.import_module("dm_control._render")
    return importlib.reload(module)


@contextmanager
def _variable(value: str) -> Iterator[None]:
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
