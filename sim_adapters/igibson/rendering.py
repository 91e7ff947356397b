"""How iGibson renders here: on a GPU as it is made for, or in software, which its defaults turn black."""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any, List, NamedTuple, Optional, Tuple

from sim_adapters.igibson.errors import IGibsonError

RENDERERS = ("auto", "gpu", "software")
_SOFTWARE = re.compile("llvmpipe|softpipe|swrast|SWR", re.IGNORECASE)
_NEEDED_GLSL = 4.6  # of iGibson's own shaders; with 4.5 they compile to black pictures


class Device(NamedTuple):
    """An EGL device: its number, what OpenGL calls it, and its version of the shading language."""

    number: int
    name: str
    glsl: float

    @property
    def is_software(self) -> bool:
        """Whether the processor does the work."""
        return _SOFTWARE.search(self.name) is not None

    @property
    def can_run_defaults(self) -> bool:
        """Whether iGibson's own settings give pictures on it."""
        return not self.is_software and self.glsl >= _NEEDED_GLSL


def choose_renderer(renderer: str) -> Tuple[Any, str]:
    """Settings for iGibson's renderer, and one line that says what they are.

    Args:
        renderer: "gpu" (the first GPU that can, iGibson's own settings), "software" (GLSL 4.50 and no texture
            bindings, which every driver can), "auto" (the first if there is such a GPU). The variable
            GIBSON_DEVICE_ID, if set, names the EGL device.

    Raises:
        IGibsonError: an unknown renderer, no such GPU, or nothing to render with.
    """
    if renderer not in RENDERERS:
        raise IGibsonError(f"renderer must be one of {', '.join(RENDERERS)}, got {renderer!r}")
    devices = _devices()
    able = [device for device in devices if device.can_run_defaults]
    if renderer == "gpu" and not able:
        names = ", ".join(f"{d.name} (GLSL {d.glsl})" for d in devices)
        raise IGibsonError(
            f"renderer: no GPU with GLSL {_NEEDED_GLSL} among {names}; use renderer=auto"
        )
    is_gpu = bool(able) and renderer != "software"
    slow = [device for device in devices if device.is_software] or devices
    device = able[0] if is_gpu else slow[0]
    os.environ["GIBSON_DEVICE_ID"] = str(device.number)  # else iGibson probes them all again
    from igibson.render.mesh_renderer.mesh_renderer_settings import MeshRendererSettings

    settings = MeshRendererSettings(
        enable_shadow=False,
        enable_pbr=False,
        msaa=False,
        optimized=is_gpu,
        hide_robot=True,
        glsl_version_override=460 if is_gpu else 450,
    )
    kind = "iGibson's own settings" if is_gpu else "GLSL 4.50, not optimized"
    return settings, f"{device.name}, {kind}"


def _devices() -> List[Device]:
    """All EGL devices that OpenGL runs on; probed in processes, for iGibson exits where it fails."""
    wanted = os.environ.get("GIBSON_DEVICE_ID")
    if wanted is not None and not wanted.isdigit():
        raise IGibsonError(f"GIBSON_DEVICE_ID must be the number of an EGL device, got {wanted!r}")
    output = _probe("query_devices")
    count = int(output) if output.strip().isdigit() else 0
    numbers = range(count) if wanted is None else [int(wanted)]
    found = [_device(number) for number in numbers if number < count]
    devices = [device for device in found if device is not None]
    if devices:
        return devices
    if wanted is not None and count:
        raise IGibsonError(
            f"GIBSON_DEVICE_ID={wanted} cannot be rendered on; EGL has {count} devices"
        )
    raise IGibsonError(
        "iGibson cannot render: EGL has no device with OpenGL here; install a driver, or one that renders "
        "in software (Debian, Ubuntu: apt install libegl1 libgl1-mesa-dri)"
    )


def _device(number: int) -> Optional[Device]:
    output = _probe("test_device", str(number))
    name = re.search("GL_RENDERER=(.*)", output)
    glsl = re.search(r"GL_SHADING_LANGUAGE_VERSION=(\d+\.\d)", output)
    if name is None or glsl is None:
        return None
    return Device(number, name.group(1).strip(), float(glsl.group(1)))


def _probe(program: str, *arguments: str) -> str:
    """What one of iGibson's probes prints; nothing where it fails."""
    import igibson

    path = os.path.join(igibson.root_path, "render", "mesh_renderer", "build", program)
    try:
        done = subprocess.run([path, *arguments], capture_output=True, timeout=60, check=False)
    except FileNotFoundError as error:
        raise IGibsonError(f"iGibson was built without its renderer: {path} is missing") from error
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""
