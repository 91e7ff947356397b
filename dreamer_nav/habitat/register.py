"""Everything that habitat-baselines finds by name; importing this registers it."""

from __future__ import annotations

from dreamer_nav.habitat import policy, trainer
from dreamer_nav.habitat.settings import store

__all__ = ["policy", "trainer"]

store()
