"""Interactive scenes and other textures, in a tiny room that is described as iGibson describes its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim_adapters.igibson.tiny import write_data
from sim_adapters.vector import EnvSpec
from tests.igibson.conftest import Build
from tests.igibson.interactive import write_interactive

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the interactive scene tiny_int."""
    folder = tmp_path_factory.mktemp("igibson_interactive")
    write_data(folder, train=1, val=0)
    write_interactive(folder, "tiny_train_0", "tiny_int")
    return folder


@pytest.fixture
def options(home: Path, tiny: dict[str, Any]) -> dict[str, Any]:
    overrides = {**tiny["overrides"], "scene": "igibson"}
    return {"data": str(home), "scene": "tiny_int", "overrides": overrides}


def test_the_shortest_path_arrives_in_an_interactive_scene(
    build: Build, spec: Callable[..., EnvSpec], options: dict[str, Any], home: Path
) -> None:
    vector = build(spec("probe:ProbeEnv", **options))
    assert len(list((home / "ig_dataset" / "scene_instances").iterdir())) == 1
    for info in vector.call_at(0, "play", 2):
        assert info["scene_id"] == "tiny_int"
        assert info["success"] == 1.0
        assert info["return"] == pytest.approx(info["expected_return"], abs=1e-9)
    vector.close()
    assert list((home / "ig_dataset" / "scene_instances").iterdir()) == []


def test_textures_change_with_the_seed_and_with_it_alone(
    build: Build, spec: Callable[..., EnvSpec], options: dict[str, Any]
) -> None:
    changing = build(spec(**options, texture_randomization=1))
    colours = []
    for seed in (1, 2, 3, 4, 1, 2, 3, 4):
        observation, _ = changing.reset(seed=[seed])
        colours.append(observation["rgb"][0].mean(axis=(0, 1)))
    np.testing.assert_array_equal(colours[:4], colours[4:])
    # Pictures of plain colour, as interactive.py made them: no trace of the room's own.
    assert len({tuple(np.round(colour)) for colour in colours}) >= 3
    assert all(colour.max() - colour.min() > 60 for colour in colours)
