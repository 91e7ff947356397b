"""Lets a bare `import habitat` work without habitat-sim, in every process of this environment.

The wheel puts this file and `dreamer_nav_habitat_hook.pth` into site-packages; Python runs the latter when it starts,
also in the workers of habitat-baselines. Nothing is imported and nothing happens until something imports `habitat`.
"""

from __future__ import annotations

import sys
from typing import Any


class _HabitatHook:
    """Answers `import habitat` in place of the usual finders."""

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> Any:
        """The spec of habitat-lab with its stand-ins in place; None for every other module."""
        if fullname != "habitat":
            return None
        try:
            from sim_adapters.habitat.importing import prepared_spec
        except ImportError:
            return None  # dreamer-nav is gone, or not meant for this Python: habitat-lab as it is
        return prepared_spec()


def install() -> None:
    """Called by the path file."""
    if _HabitatHook not in sys.meta_path:
        sys.meta_path.insert(0, _HabitatHook)
