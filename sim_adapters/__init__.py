"""Simulators as Gymnasium environments; importing this package imports no simulator."""

from __future__ import annotations

__all__ = [
    "SimulatorNotInstalled",
    "available",
    "make",
    "register",
]

from sim_adapters.registry import SimulatorNotInstalled, available, make, register
