from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

import sim_adapters
from sim_adapters import registry
from sim_adapters.dummy import Bandit
from sim_adapters.pointgoal import FixedEpisodes, PointGoalEnv
from tests.sim_adapters.flatland import Flatland, episode

HERE = "tests.sim_adapters.test_registry"


class FlatEnv(PointGoalEnv):
    """An adapter as there will be others: it builds its simulator and passes options on."""

    def __init__(self, *, size: int = 5, turn_deg: float = 90.0, **options: Any) -> None:
        self.size = size
        episodes = FixedEpisodes([episode((2.0, 1.0))])
        super().__init__(Flatland(), episodes, turn_deg=turn_deg, **options)


def needs_a_scene(*, size: int = 1, scene: str) -> Any:
    """An adapter with an option that has no default."""
    raise AssertionError("built without its scene")


@pytest.fixture(autouse=True)
def _own_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))


def test_make_builds_with_options() -> None:
    sim_adapters.register("flat", f"{HERE}:FlatEnv", "pip install flat", "flat")
    env = sim_adapters.make("flat", size=7, max_steps=3)
    assert isinstance(env, PointGoalEnv)
    assert (env.size, env.max_steps) == (7, 3)  # type: ignore[attr-defined]


def test_options_are_those_of_the_class_and_of_its_bases() -> None:
    registry.register("flat", f"{HERE}:FlatEnv", "pip install flat", "flat")
    options = registry.options("flat")
    assert (options["size"], options["turn_deg"], options["max_steps"]) == (5, 90.0, 500)
    assert not {"self", "simulator", "episodes", "options"} & set(options)


def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    registry.register("flat", f"{HERE}:FlatEnv", "pip install flat", "flat")
    with pytest.raises(
        registry.UnknownOption,
        match=r"flat has no option 'sucess_distance_m'. Did you mean 'success_distance_m'\? "
        r"Options: size, turn_deg,",
    ):
        registry.make("flat", sucess_distance_m=0.3)


def test_an_unknown_option_like_no_other_gets_the_list_only() -> None:
    with pytest.raises(registry.UnknownOption, match=r"'zzz'\. Options: task, image, vector"):
        registry.make("dummy", zzz=1)


def test_an_option_that_is_needed_and_not_given_is_named() -> None:
    registry.register("one", f"{HERE}:needs_a_scene", "pip install one", "one")
    with pytest.raises(
        registry.MissingOption, match=r"one needs the option 'scene'\. Options: size"
    ):
        registry.make("one", size=2)
    assert registry.options("one")["scene"] is inspect.Parameter.empty


def test_an_unknown_name_is_answered_with_the_nearest_and_the_list() -> None:
    with pytest.raises(
        registry.UnknownEnvironment,
        match=r"'bulet'\. Did you mean 'bullet'\? Known: .*bullet.*dummy",
    ):
        registry.make("bulet")
    with pytest.raises(registry.UnknownEnvironment):
        registry.describe("bulet")


def test_a_missing_simulator_is_one_sentence_with_the_install_line() -> None:
    registry.register("far", "far.env:Far", "pip install 'dreamer-nav[far]'", "", ["far_sim"])
    with pytest.raises(
        registry.SimulatorNotInstalled,
        match=r"^the environment 'far' needs the Python module 'far_sim', which is not installed: "
        r"pip install 'dreamer-nav\[far\]'$",
    ) as caught:
        registry.make("far")
    assert caught.value.name == "far_sim"
    assert isinstance(caught.value, ImportError)


def test_a_module_that_turns_out_missing_at_import_is_named_too() -> None:
    registry.register("far", "no_such_adapter.env:Far", "pip install far", "")
    with pytest.raises(registry.SimulatorNotInstalled, match=r"'no_such_adapter'.*pip install far"):
        registry.make("far")


def test_available_tells_what_is_missing() -> None:
    registry.register("far", "far.env:Far", "pip install far", "", ["json", "far_sim"])
    rows = {row.name: row for row in sim_adapters.available()}
    assert rows["far"] == ("far", False, "far_sim", "pip install far")
    assert rows["dummy"][1:3] == (True, None)
    assert list(rows) == sorted(rows)
    assert "bullet" in rows


def test_the_same_name_for_something_else_is_refused() -> None:
    registry.register("one", "a:B", "x", "y")
    registry.register("one", "a:B", "x", "y")
    with pytest.raises(ValueError, match="'one' is registered already, as a:B"):
        registry.register("one", "c:D", "x", "y")


@pytest.mark.parametrize("entry_point", ["module", ":Class", "module:"])
def test_a_malformed_entry_point_is_refused(entry_point: str) -> None:
    with pytest.raises(ValueError, match="'module:callable'"):
        registry.register("two", entry_point, "x", "y")


def test_the_dummy_is_registered() -> None:
    assert isinstance(sim_adapters.make("dummy", task="bandit"), Bandit)
    assert registry.options("dummy")["task"] == "bandit"
    assert registry.options("dummy")["vector"] is not inspect.Parameter.empty
    assert "bandit" in registry.describe("dummy")


def test_importing_the_package_imports_no_simulator_and_no_torch() -> None:
    code = (
        "import sys, sim_adapters, sim_adapters.pointgoal, sim_adapters.nav_baselines;"
        "sim_adapters.available();"
        "heavy = {'torch', 'pybullet', 'scipy', 'dreamer_nav', 'habitat', 'ale_py'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
