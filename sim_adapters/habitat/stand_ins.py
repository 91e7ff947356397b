"""Stand-ins for what habitat-lab and habitat-baselines cannot import without habitat-sim.

habitat-lab 0.3.3 imports magnum and habitat_sim in four places that navigation does not use; habitat-baselines
imports names of the rearrangement tasks besides. `install` puts empty modules in their place, and only where
habitat_sim is missing. `import habitat_sim` itself still fails, so that whoever asks for it gets a true answer.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import logging
import os
import sys
import types
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence

_log = logging.getLogger(__name__)

REARRANGE = "habitat.tasks.rearrange"
_SAID = "DREAMER_NAV_HABITAT_STAND_INS"
"""Environment variable that workers inherit, so that one run says only once what is missing."""

Fill = Callable[[types.ModuleType], None]


def has_habitat_sim() -> bool:
    """Whether habitat_sim is installed, found without importing it."""
    return importlib.util.find_spec("habitat_sim") is not None


def install() -> bool:
    """Put the stand-ins in place, before `import habitat`; a second call does nothing.

    Returns:
        Whether any are in use: False where everything can be imported.
    """
    if any(isinstance(finder, _StandInFinder) for finder in sys.meta_path):
        return True
    fills: Dict[str, Fill] = {}
    if not has_habitat_sim():
        fills.update(_FILLS)
        _say(
            "habitat_sim is not installed: habitat-lab runs without it. Navigation works with "
            "habitat.simulator.type=Bullet-v0; Sim-v0 and the rearrangement tasks do not."
        )
    if _torchvision_lacks_its_torch():
        fills["torchvision"] = _fill_with_missing
    if not fills:
        return False
    sys.meta_path.insert(0, _StandInFinder(fills))
    return True


def missing(name: str) -> type:
    """A class to be imported, named in annotations and derived from, but not to be made."""

    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise ImportError(f"{name} is a stand-in: the module it belongs to cannot be imported here")

    return type(name, (), {"__init__": refuse, "cls_uuid": name, "__module__": __name__})


def _say(text: str) -> None:
    if _SAID not in os.environ:
        os.environ[_SAID] = "1"
        _log.warning(text)


def _torchvision_lacks_its_torch() -> bool:
    """Whether torchvision is the CUDA build beside a CPU torch, and so fails while it is imported.

    PyPI has no CPU build of torchvision for Linux. habitat-baselines imports its transforms, which
    only the CLIP encoder uses.
    """
    try:
        torch_version = importlib.metadata.version("torch")
        vision = importlib.metadata.distribution("torchvision")
        built_for = Path(str(vision.locate_file("torchvision/version.py"))).read_text("utf-8")
    except (importlib.metadata.PackageNotFoundError, OSError):
        return False
    return "+cpu" in torch_version and "+cu" in built_for.split("\n", 1)[0]


def _fill_with_missing(module: types.ModuleType) -> None:
    """Whatever is asked of the module is a missing class."""

    def find(name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        found = missing(name)
        setattr(module, name, found)
        return found

    vars(module)["__getattr__"] = find


def _fill_rearrange(module: types.ModuleType) -> None:
    _fill_with_missing(module)
    if module.__name__ == REARRANGE:
        vars(module)["_try_register_rearrange_task"] = lambda: None
    if module.__name__ == f"{REARRANGE}.rearrange_sim":
        vars(module)["add_perf_timing_func"] = lambda name=None: lambda function: function


# Modules and all below them.
_FILLS: Dict[str, Fill] = {
    "habitat.sims.habitat_simulator.object_state_machine": _fill_with_missing,
    "habitat.core.batch_rendering.env_batch_renderer": _fill_with_missing,
    "habitat.tasks.nav.instance_image_nav_task": _fill_with_missing,
    REARRANGE: _fill_rearrange,
}


class _StandInLoader(importlib.abc.Loader):
    """Fills an empty module."""

    def __init__(self, fill: Fill) -> None:
        self._fill = fill

    def exec_module(self, module: types.ModuleType) -> None:
        self._fill(module)


class _StandInFinder(importlib.abc.MetaPathFinder):
    """Finds stand-ins before the real modules are looked for."""

    def __init__(self, fills: Dict[str, Fill]) -> None:
        self._fills = fills

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]],
        target: Optional[types.ModuleType] = None,
    ) -> Optional[importlib.machinery.ModuleSpec]:
        for name, fill in self._fills.items():
            if fullname == name or fullname.startswith(name + "."):
                return importlib.machinery.ModuleSpec(
                    fullname, _StandInLoader(fill), is_package=True
                )
        return None
