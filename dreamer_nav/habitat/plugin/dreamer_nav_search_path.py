"""Shows Hydra where dreamer-nav's habitat-baselines configurations are.

The wheel puts this file into the namespace package `hydra_plugins`, all modules of which Hydra imports when it starts:
so unmodified `python -m habitat_baselines.run --config-name=pointnav/dreamer_pointnav` finds them.
"""

from __future__ import annotations

import importlib.util
import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class DreamerNavSearchPath(SearchPathPlugin):
    """Adds our configurations and registers our trainer, and only in programs that use habitat-baselines."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra before it composes; by then habitat-baselines is imported or not wanted."""
        if "habitat_baselines" not in sys.modules:
            return
        search_path.append(provider="dreamer-nav", path="pkg://dreamer_nav.habitat.config")
        if importlib.util.find_spec("habitat_sim") is None:  # dreamer_pointnav is dreamer_bullet
            search_path.prepend(
                provider="dreamer-nav", path="pkg://dreamer_nav.habitat.config_without_sim"
            )
        # Not before: Hydra imports this module in the middle of `import habitat`.
        import dreamer_nav.habitat.register  # noqa: F401
