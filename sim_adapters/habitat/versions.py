"""Which releases of habitat-lab and of what it needs work together."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from typing import Optional, Tuple

from sim_adapters.habitat.errors import HabitatError

TESTED = "0.3.320260507"
OLDEST, NEWEST = (0, 3), (0, 4)
FIRST_FOR_PYTHON_311 = 20260507

# What breaks habitat-lab, found by running it: distribution, first release that breaks, what is seen.
_BREAKS = (
    ("gym", (0, 24), "habitat-lab fails with it (registry.env_specs)", "gym==0.23.0"),
    ("opencv-python", (5,), "habitat-lab fails with it (colour maps)", "opencv-python<5"),
    ("opencv-python-headless", (5,), "habitat-lab fails with it", "opencv-python-headless<5"),
)


def check_versions() -> None:
    """Refuse releases that are known not to work.

    Raises:
        HabitatError: one is too old or too new; the message has the line that installs another.
    """
    lab = _version("habitat-lab")
    if lab is not None:
        _check_lab(lab, sys.version_info[:2])
    for name, limit, symptom, remedy in _BREAKS:
        found = _version(name)
        if found is not None and _numbers(found) >= limit:
            raise HabitatError(
                f"{name} {found} is too new: {symptom}. Install another: pip install '{remedy}'"
            )


def _check_lab(found: str, python: Tuple[int, ...]) -> None:
    install = f"pip install habitat-lab=={TESTED} (with habitat-sim see docs/habitat.md)"
    numbers = _numbers(found)
    if numbers[:2] < OLDEST or numbers[:2] >= NEWEST:
        age = "old" if numbers[:2] < OLDEST else "new"
        raise HabitatError(
            f"habitat-lab {found} is too {age}: this adapter works with 0.3.x. Install one: {install}"
        )
    # PyPI's releases are numbered 0.3.3YYYYMMDD; the repository's own is 0.3.3.
    dated = re.fullmatch(r"0\.3\.3(\d{8})", found)
    if dated and int(dated.group(1)) < FIRST_FOR_PYTHON_311 and python >= (3, 11):
        raise HabitatError(
            f"habitat-lab {found} is too old for Python {python[0]}.{python[1]}: it cannot be "
            f"imported there. Install another: {install}"
        )


def _version(distribution: str) -> Optional[str]:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
