"""Tests that need habitat-lab: `make test-habitat` runs them in its environment, and elsewhere they are left out."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("habitat") is None:
    # test_installed.py is left, whose one skipped test says why.
    here = ("test_installed.py", "test_other_python.py")
    collect_ignore = [p.name for p in Path(__file__).parent.glob("test_*.py") if p.name not in here]
else:
    from sim_adapters.habitat.importing import import_habitat

    with warnings.catch_warnings():  # an error each, while tests are collected
        warnings.simplefilter("ignore")
        import_habitat()

BODY = (
    "habitat.simulator.agents.main_agent.radius=0.18",
    "habitat.simulator.habitat_sim_v0.allow_sliding=False",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Warnings of habitat-lab and gym are not ours to mend."""
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of Bullet-v0: two training scenes, three validation scenes of four episodes."""
    from sim_adapters.habitat.episodes import write_episodes

    folder = tmp_path_factory.mktemp("bullet_apartment")
    train = [f"apartment-train-{n:05d}" for n in range(2)]
    val = [f"apartment-val-{n:05d}" for n in range(3)]
    write_episodes(folder, "train", train, 3, near_per_scene=2)
    write_episodes(folder, "val", val, 4)
    return folder


@pytest.fixture(scope="session")
def options(episodes: Path) -> Callable[..., dict[str, Any]]:
    """The arguments of a `HabitatEnv` on those episodes; more overrides and options on top."""

    def build(*overrides: str, **settings: Any) -> dict[str, Any]:
        data = (
            f"habitat.dataset.data_path='{episodes}/{{split}}/{{split}}.json.gz'",
            f"habitat.dataset.scenes_dir={episodes}",
        )
        chosen = {"simulator": "Bullet-v0", "split": "val", "image_size": 64, **settings}
        return {**chosen, "overrides": [*data, *BODY, *overrides]}

    return build


@pytest.fixture
def make_env(options: Callable[..., dict[str, Any]]) -> Any:
    """Builds a `HabitatEnv`; closes it after the test."""
    from sim_adapters.registry import make

    made = []

    def build(*overrides: str, **settings: Any) -> Any:
        made.append(make("habitat", **options(*overrides, **settings)))
        return made[-1]

    yield build
    for env in made:
        env.close()


@pytest.fixture(scope="session")
def made_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene and episodes of habitat-sim, which is needed for it."""
    from tests.habitat.made_scene import write_made_scene

    folder = tmp_path_factory.mktemp("made")
    write_made_scene(folder)
    return folder
