"""Tests of the iGibson adapter, driven from this Python through workers of the one of `make igibson-env`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sim_adapters.igibson.tiny import write_data
from sim_adapters.vector import EnvSpec, VectorEnv

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-igibson" / "bin" / "python"

Build = Callable[..., VectorEnv]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The robot, two training rooms and a held-out one."""
    folder = tmp_path_factory.mktemp("igibson_tiny")
    write_data(folder, train=2, val=1)
    return folder


@pytest.fixture(scope="session")
def tiny(data: Path) -> dict[str, Any]:
    """The arguments of an `IGibsonEnv` in the first room."""
    return {
        "data": str(data),
        "scene": "tiny_train_0",
        "robot": "Tinybot",
        "image_size": 64,
        "sensors": ["rgb", "depth"],
        "overrides": {
            "scene": "gibson",
            "trav_map_erosion": 5,
            "vertical_fov": 79,
            "collision_ignore_link_a_ids": [0, 1, 2, 3],
        },
    }


@pytest.fixture
def build() -> Iterator[Build]:
    """Makes a vector of specs, closed after the test; it waits long, for the machine may be busy."""
    made: list[VectorEnv] = []

    def make(*specs: EnvSpec, **options: Any) -> VectorEnv:
        patient = {"start_timeout_s": 300.0, "step_timeout_s": 600.0, **options}
        made.append(VectorEnv(specs, **patient))
        return made[-1]

    yield make
    for vector in made:
        vector.close()


@pytest.fixture
def spec(tiny: dict[str, Any]) -> Callable[..., EnvSpec]:
    """A worker's environment: an adapter's name or one of probe.py, with changed options."""
    if not PYTHON.exists():
        pytest.skip("no .venv-igibson: make igibson-env")

    def make(name: str = "igibson", **changes: Any) -> EnvSpec:
        return EnvSpec(name, {**tiny, **changes}, python=str(PYTHON), path=[str(HERE)])

    return make
