"""Imports go one way, and importing a package costs next to nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What a module of the agent may import: modules of earlier rows, and of its own row as long as no circle arises.
# A new module is added to the row that its purpose belongs to.
ROWS: tuple[frozenset[str], ...] = tuple(
    frozenset(names.split())
    for names in (
        "__init__ atomic failures process text_table",
        "config ops spaces",
        "distributions published scores settings",
        "limits nets optimizer presets",
        "rssm",
        "world_model",
        "behavior",
        "agent",
        "ring episode_table replay_folder replay driver checkpoint video metrics runs",
        "floor_map rollouts statistics run_records run_scores report score_report episode_video "
        "imagination",
        "train evaluate bench plots",
        "envs_report command_line run_choice",
        "cli",
        "__main__",
    )
)
HEAVY = {"torch", "tensorboard", "av", "matplotlib"}
SIMULATORS = {"pybullet", "scipy", "ale_py", "dm_control", "habitat", "habitat_sim", "igibson"}
# What an old simulator's interpreter has, besides the standard library.
WORKER_PACKAGES = {"numpy", "gymnasium", "sim_adapters"}
# A simulator of habitat-lab derives from its classes; other modules import these only in functions.
IN_HABITAT = {
    f"sim_adapters.habitat.{name}" for name in ("bullet_sensors", "bullet_sim", "velocity")
}
HABITAT_PACKAGES = {"habitat", "gym", "quaternion"}


def modules_of(package: str) -> dict[str, ast.Module]:
    """Dotted module names and their syntax trees."""
    folder = ROOT / package
    trees = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return trees


def imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Every dotted name that these nodes import; `from a import b` gives a.b, for b may be a module."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}: {ast.unparse(node)}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_time_nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: not function bodies, not `if TYPE_CHECKING`."""
    queue: list[ast.AST] = [tree]
    while queue:
        node = queue.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            queue.extend(node.orelse)
            continue
        queue.extend(ast.iter_child_nodes(node))


def tops(names: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


EVERY = modules_of("dreamer_nav")
# The plugin of habitat-baselines: on top of the agent, which does not know it; the one place that names a simulator.
PLUGIN = {name: tree for name, tree in EVERY.items() if name.startswith("dreamer_nav.habitat")}
AGENT = {name: tree for name, tree in EVERY.items() if name not in PLUGIN}
ADAPTERS = modules_of("sim_adapters")


def row_of(module: str) -> int:
    for row, names in enumerate(ROWS):
        if module in names:
            return row
    raise AssertionError(f"dreamer_nav.{module} is in no row of ROWS: say where it belongs")


def agent_imports(name: str) -> set[str]:
    """Modules of the agent that module `name` imports, also inside functions."""
    found = set()
    for target in imported(ast.walk(AGENT[name])):
        parts = target.split(".")
        if parts[0] != "dreamer_nav":
            continue
        module = parts[1] if len(parts) > 1 else "__init__"
        is_module = f"dreamer_nav.{module}" in AGENT
        # `from dreamer_nav import __version__` names an attribute of the package
        found.add(module if is_module or len(parts) > 2 else "__init__")
    return found


def short(name: str) -> str:
    return name.partition(".")[2] or "__init__"


@pytest.mark.parametrize("name", sorted(AGENT))
def test_the_agent_imports_only_earlier_rows(name: str) -> None:
    own = row_of(short(name))
    wrong = {m: row_of(m) for m in agent_imports(name) if row_of(m) > own}
    assert not wrong, f"{name} (row {own}) imports later rows: {wrong}"


def test_the_agent_has_no_circular_import() -> None:
    graph = {short(name): agent_imports(name) - {short(name)} for name in AGENT}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circular import: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("name", sorted(AGENT))
def test_the_agent_names_no_simulator(name: str) -> None:
    found = tops(imported(ast.walk(AGENT[name]))) & SIMULATORS
    inside = {
        target
        for target in imported(ast.walk(AGENT[name]))
        if target.startswith(
            ("sim_adapters.bullet", "sim_adapters.habitat", "sim_adapters.igibson")
        )
    }
    assert not found | inside


@pytest.mark.parametrize("name", sorted(AGENT))
def test_the_agent_does_not_import_the_plugin(name: str) -> None:
    found = set(imported(ast.walk(AGENT[name])))
    assert not {target for target in found if target.startswith("dreamer_nav.habitat")}


@pytest.mark.parametrize("name", sorted(PLUGIN))
def test_the_plugin_imports_neither_the_command_nor_the_exporter(name: str) -> None:
    found = set(imported(ast.walk(PLUGIN[name])))
    assert not {t for t in found if t.startswith(("dreamer_nav.cli", "dreamer_nav_export"))}


def test_what_hydra_imports_in_every_program_imports_next_to_nothing() -> None:
    (name,) = (name for name in PLUGIN if ".plugin." in name)
    assert tops(imported(import_time_nodes(PLUGIN[name]))) == {
        "__future__",
        "hydra",
        "importlib",
        "sys",
    }


@pytest.mark.parametrize("name", sorted(AGENT))
def test_only_the_command_imports_the_exporter(name: str) -> None:
    if name != "dreamer_nav.cli":
        assert "dreamer_nav_export" not in tops(imported(ast.walk(AGENT[name])))


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_adapters_import_nothing_of_the_agent(name: str) -> None:
    found = tops(imported(ast.walk(ADAPTERS[name])))
    assert not found & {"dreamer_nav", "dreamer_nav_export", "torch"}


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_adapters_import_simulators_on_first_use_only(name: str) -> None:
    names = set(imported(import_time_nodes(ADAPTERS[name])))
    allowed = WORKER_PACKAGES | sys.stdlib_module_names
    if name in IN_HABITAT:
        allowed = allowed | HABITAT_PACKAGES
    else:
        assert not {n for n in names if n.startswith(tuple(IN_HABITAT))}
    assert tops(names) <= allowed


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_adapters_are_python_38_syntax(name: str) -> None:
    path = ROOT.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    source = path.read_text(encoding="utf-8")
    ast.parse(source, filename=str(path), feature_version=(3, 8))
    only_docstring = all(isinstance(node, ast.Expr) for node in ADAPTERS[name].body)
    lazy = "__future__.annotations" in imported(ADAPTERS[name].body)
    assert lazy or only_docstring, "needs `from __future__ import annotations`"


@pytest.mark.parametrize("package", ["dreamer_nav", "dreamer_nav.cli", "sim_adapters"])
def test_importing_a_package_imports_neither_torch_nor_a_simulator(package: str) -> None:
    code = f"import sys, {package}; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert package.partition(".")[0] in loaded
    assert not loaded & (HEAVY | SIMULATORS)


def test_the_walker_sees_imports_in_functions_and_skips_them_at_import_time() -> None:
    tree = ast.parse(
        "import a.b\nif TYPE_CHECKING:\n    import c\ndef f():\n    from d import e\n"
        "class K:\n    import g\n"
    )
    assert set(imported(ast.walk(tree))) == {"a.b", "c", "d.e", "g"}
    assert set(imported(import_time_nodes(tree))) == {"a.b", "g"}


def test_relative_imports_are_refused() -> None:
    with pytest.raises(AssertionError, match="relative import"):
        list(imported(ast.walk(ast.parse("from . import x"))))
