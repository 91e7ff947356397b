"""The wheel, installed where nothing of the checkout is in reach."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXPORT = ROOT / "export"
HOOK = ("dreamer_nav_habitat_hook.py", "dreamer_nav_habitat_hook.pth")
PLUGIN = "hydra_plugins/dreamer_nav_search_path.py"

pytestmark = pytest.mark.slow


def build_wheel(project: Path, out: Path) -> Path:
    """Build with the hatchling that is installed: no network."""
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, project],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def shipped(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def make_environment(folder: Path, *wheels: Path) -> Path:
    """A virtual environment that has our dependencies but not our checkout; returns its bin folder.

    The dependencies come from a path file at their installed place: torch is not copied. A path file inside that
    place, such as an editable install leaves, is not followed from there.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    target = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    installed |= {path for path in site.getsitepackages() if Path(path).is_dir()}
    (target / "dependencies.pth").write_text("\n".join(sorted(installed)) + "\n")
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    # Without --ignore-installed, pip would take the checkout's own editable install for an old version to remove.
    options = ["--no-deps", "--no-index", "--ignore-installed"]
    for wheel in wheels:
        subprocess.run([*pip, *options, wheel], check=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("empty") / "venv", wheel)


def run(command: list[str | Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run outside the checkout, without the variables that could lead back into it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def test_the_wheel_ships_the_presets(shipped: set[str]) -> None:
    presets = {path.name for path in (ROOT / "configs").glob("*.yaml")}
    assert presets
    assert {f"dreamer_nav/configs/{name}" for name in presets} <= shipped


def test_the_wheel_ships_the_configurations_for_habitat_baselines(shipped: set[str]) -> None:
    names = {
        f"pointnav/{name}.yaml" for name in ("dreamer_bullet", "dreamer_pointnav", "ppo_bullet")
    }
    names.add("benchmark/nav/pointnav/pointnav_bullet.yaml")
    assert {f"dreamer_nav/habitat/config/{name}" for name in names} <= shipped
    assert "dreamer_nav/habitat/config_without_sim/pointnav/dreamer_pointnav.yaml" in shipped


def test_the_wheel_ships_the_episode_files_and_type_markers(shipped: set[str]) -> None:
    bullet = ROOT / "sim_adapters" / "bullet" / "data"
    files = [
        path for path in bullet.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    assert any(path.name.endswith(".json.gz") for path in files), (
        "the validation episodes are missing"
    )
    assert {path.relative_to(ROOT).as_posix() for path in files} <= shipped
    assert {"dreamer_nav/py.typed", "sim_adapters/py.typed"} <= shipped


def test_the_wheel_ships_the_published_scores_with_their_licence(shipped: set[str]) -> None:
    names = ("atari_scores.csv", "atari_curves.csv", "dmc_curves.csv", "LICENSE", "README.md")
    assert {f"dreamer_nav/reference/{name}" for name in names} <= shipped


def test_the_wheel_has_no_other_top_level_name(shipped: set[str]) -> None:
    tops = {name.partition("/")[0] for name in shipped}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "dreamer_nav",
        "sim_adapters",
        "hydra_plugins",
        *HOOK,
    }
    # A namespace package: with an __init__.py it would hide the plugins of others.
    assert {name for name in shipped if name.startswith("hydra_plugins")} == {PLUGIN}
    assert not {name for name in shipped if "__pycache__" in name or name.endswith(".pyc")}


def test_every_module_of_the_checkout_is_in_the_wheel(shipped: set[str]) -> None:
    modules = {
        path.relative_to(ROOT).as_posix()
        for package in ("dreamer_nav", "sim_adapters")
        for path in (ROOT / package).rglob("*.py")
        if path.name not in (*HOOK, Path(PLUGIN).name)  # beside the packages
    }
    assert modules <= shipped
    assert set(HOOK) <= shipped


def test_the_hook_of_habitat_waits_in_every_python(bin_folder: Path, tmp_path: Path) -> None:
    code = "import sys; print('dreamer_nav_habitat_hook' in sys.modules, 'sim_adapters' in sys.modules)"
    done = run([bin_folder / "python", "-c", code], tmp_path)
    assert (done.stdout, done.stderr) == ("True False\n", "")
    code = "import importlib.util as u; print(u.find_spec('habitat')); import json, habitat"
    done = run([bin_folder / "python", "-c", code], tmp_path)
    if done.returncode:  # habitat-lab is not installed: the usual error, and nothing said before
        assert done.stdout == "None\n"
        assert "No module named 'habitat'" in done.stderr.splitlines()[-1]
        assert "stand-in" not in done.stderr


def test_packages_are_imported_from_the_wheel(bin_folder: Path, tmp_path: Path) -> None:
    code = "import dreamer_nav, sim_adapters; print(dreamer_nav.__file__); print(sim_adapters.__file__)"
    done = run([bin_folder / "python", "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        assert Path(line).is_relative_to(bin_folder.parent), line


@pytest.mark.parametrize("name", ["configs", "export", "tests"])
def test_no_foreign_name_lands_among_the_packages(
    name: str, bin_folder: Path, tmp_path: Path
) -> None:
    code = f"import importlib.util as u; s = u.find_spec('{name}'); print(s and s.submodule_search_locations)"
    done = run([bin_folder / "python", "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(bin_folder.parent) not in done.stdout
    assert str(ROOT / name) not in done.stdout


def test_the_command_answers_help(bin_folder: Path, tmp_path: Path) -> None:
    done = run([bin_folder / "dreamer-nav", "--help"], tmp_path)
    assert done.returncode == 0, done.stderr
    for verb in ("train", "eval", "export", "envs", "bench"):
        assert verb in done.stdout


def test_the_command_lists_environments(bin_folder: Path, tmp_path: Path) -> None:
    done = run([bin_folder / "dreamer-nav", "envs"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bullet" in done.stdout
    assert "dummy" in done.stdout


def test_the_command_finds_its_presets(bin_folder: Path, tmp_path: Path) -> None:
    done = run([bin_folder / "dreamer-nav", "train", "--preset", "no_such_preset"], tmp_path)
    assert done.returncode != 0
    assert "pointgoal_room" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_installed_agent_trains_and_is_evaluated(bin_folder: Path, tmp_path: Path) -> None:
    command = bin_folder / "dreamer-nav"
    done = run([command, "train", "--preset", "debug", "--run", "r"], tmp_path)
    assert done.returncode == 0, done.stderr
    done = run([command, "eval", "r", "--json", "result.json"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "result.json").stat().st_size > 0


def test_an_installed_apartment_can_be_entered(bin_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sim_adapters\n"
        "env = sim_adapters.make('bullet', tier='room', split='val')\n"
        "observation, info = env.reset(seed=0)\n"
        "print(*observation['depth'].shape, info['episode_id'])\n"
    )
    done = run([bin_folder / "python", "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "64 64 1" in done.stdout


def test_the_exporter_is_a_distribution_of_its_own(tmp_path: Path) -> None:
    wheel = build_wheel(EXPORT, tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
        (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        requires = [
            line.removeprefix("Requires-Dist: ")
            for line in archive.read(metadata).decode().splitlines()
            if line.startswith("Requires-Dist") and "extra ==" not in line
        ]
    assert {top for top in tops if not top.endswith(".dist-info")} == {"dreamer_nav_export"}
    # ONNX Runtime is an extra: it is one module under several distributions' names.
    assert [r.partition(">")[0] for r in requires] == ["numpy"]
    bin_folder = make_environment(tmp_path / "venv", wheel)
    code = (
        "import sys, dreamer_nav_export; print(dreamer_nav_export.__file__)\n"
        "assert not {'torch', 'dreamer_nav'} & set(sys.modules)"
    )
    done = run([bin_folder / "python", "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)
