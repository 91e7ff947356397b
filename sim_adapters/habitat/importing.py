"""Imports habitat-lab: with stand-ins where habitat-sim is missing, and with `Bullet-v0` registered."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import types
from typing import Any, Optional

from sim_adapters.habitat import stand_ins


def import_habitat() -> Any:
    """The module `habitat`, ready for `Bullet-v0`."""
    stand_ins.install()
    habitat = importlib.import_module("habitat")
    importlib.import_module("sim_adapters.habitat.bullet_sim")
    return habitat


def prepared_spec() -> Optional[importlib.machinery.ModuleSpec]:
    """How to import `habitat` so that all that `import_habitat` does is done; None if it is not there.

    What the import hook of an installed dreamer-nav answers to a bare `import habitat`.
    """
    spec = importlib.machinery.PathFinder.find_spec("habitat")
    if spec is None or spec.loader is None:
        return spec
    spec.loader = _PreparedLoader(spec.loader)
    return spec


class _PreparedLoader(importlib.abc.Loader):
    """Puts the stand-ins in place, loads habitat with its own loader, and registers `Bullet-v0`."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)  # resources of the package are read through the loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        stand_ins.install()
        self._loader.exec_module(module)
        importlib.import_module("sim_adapters.habitat.bullet_sim")
