"""What `dreamer-nav envs` prints: which simulators can be used here, and how to get the others."""

from __future__ import annotations

import importlib.metadata
import inspect
import platform

from sim_adapters.registry import available, describe, options

__all__ = ["option_report", "report"]

_DISTRIBUTIONS = ("dreamer-nav", "torch", "numpy", "gymnasium", "pybullet", "ale-py", "dm-control")


def report() -> str:
    """Every registered environment: installed, or the line that installs it."""
    lines = [_versions(), ""]
    rows = available()
    width = max(len(row.name) for row in rows)
    for row in rows:
        state = "installed" if row.installed else f"missing {row.missing}"
        lines.append(f"{row.name:<{width}}  {state:<18}  {describe(row.name)}")
        if not row.installed:
            lines.append(f"{'':<{width}}  {'':<18}  install it with: {row.install}")
    lines += ["", "`dreamer-nav envs NAME` lists the options of one, for --env.OPTION VALUE"]
    return "\n".join(lines)


def option_report(name: str) -> str:
    """The options of environment `name` and their defaults.

    Raises:
        UnknownEnvironment: no such name.
        SimulatorNotInstalled: what it needs is missing; says how to install it.
    """
    lines = [f"{name}: {describe(name)}", ""]
    for option, default in options(name).items():
        shown = "(needed)" if default is inspect.Parameter.empty else repr(default)
        lines.append(f"  --env.{option:<24} {shown}")
    return "\n".join(lines)


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in _DISTRIBUTIONS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
