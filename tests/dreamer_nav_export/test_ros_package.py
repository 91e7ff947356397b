"""The ament package: what its files say of one another, and the imports of its modules."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dreamer_nav_ros import __version__
from dreamer_nav_ros.policy_source import load_policy
from dreamer_nav_ros.settings import parameters, read_settings

ROS2 = Path(__file__).parents[2] / "export" / "ros2"
PACKAGE = ROS2 / "dreamer_nav_ros"
MODULES = sorted((PACKAGE / "dreamer_nav_ros").glob("*.py"))
README = (ROS2 / "README.md").read_text(encoding="utf-8")
ROS_MODULES = {"rclpy", "tf2_ros", "rcl_interfaces"}


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name.partition(".")[0] for name in found}


def is_ros(name: str) -> bool:
    return name in ROS_MODULES or name.endswith(("_msgs", "_srvs"))


@pytest.fixture(scope="module")
def manifest() -> ET.Element:
    return ET.parse(PACKAGE / "package.xml").getroot()


@pytest.fixture(scope="module")
def setup_call() -> dict[str, Any]:
    """The keyword arguments of setup.py's call of setup."""
    source = (PACKAGE / "setup.py").read_text(encoding="utf-8")
    source = source.replace("from setuptools import setup", "def setup(**k): CALL.update(k)")
    call: dict[str, Any] = {}
    exec(compile(source, "setup.py", "exec"), {"CALL": call})
    return call


def test_only_the_node_imports_ros() -> None:
    assert {path.name for path in MODULES if any(map(is_ros, imports(path)))} == {"node.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_modules_are_python_38_with_numpy_alone(path: Path) -> None:
    allowed = {"numpy", "dreamer_nav_ros"} | set(sys.stdlib_module_names)
    foreign = {name for name in imports(path) if name not in allowed and not is_ros(name)}
    assert foreign <= ({"dreamer_nav_export"} if path.stem == "policy_source" else set())


def test_the_core_can_be_imported_without_ros_and_the_policys_runtime() -> None:
    names = [path.stem for path in MODULES if path.stem not in ("node", "__init__")]
    code = "import sys, " + ", ".join(f"dreamer_nav_ros.{name}" for name in names)
    code += "; assert not {'rclpy', 'dreamer_nav_export', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=PACKAGE, check=True)


def test_the_manifest_depends_on_what_the_node_imports(manifest: ET.Element) -> None:
    declared = {element.text for element in manifest.findall("exec_depend")}
    launched = {name for name in imports(PACKAGE / "launch" / "dreamer_nav.launch.py")}
    needed = {name for path in MODULES for name in imports(path) if is_ros(name)}
    assert needed | launched | {"python3-numpy"} == declared


def test_name_version_and_licence_agree(manifest: ET.Element, setup_call: dict[str, Any]) -> None:
    assert manifest.findtext("name") == setup_call["name"] == PACKAGE.name
    assert manifest.findtext("version") == setup_call["version"] == __version__
    assert manifest.findtext("license") == setup_call["license"] == "MIT"
    assert manifest.findtext("export/build_type") == "ament_python"


def test_every_installed_file_exists_and_the_marker_is_there(setup_call: dict[str, Any]) -> None:
    files = dict(setup_call["data_files"])
    assert f"resource/{PACKAGE.name}" in files["share/ament_index/resource_index/packages"]
    for name in (name for names in files.values() for name in names):
        assert (PACKAGE / name).is_file(), name
    assert setup_call["packages"] == [PACKAGE.name]


def test_the_entry_point_is_the_nodes_main_where_ros2_run_looks(setup_call: dict[str, Any]) -> None:
    (entry,) = setup_call["entry_points"]["console_scripts"]
    assert entry == "dreamer_nav_node = dreamer_nav_ros.node:main"
    tree = ast.parse((PACKAGE / "dreamer_nav_ros" / "node.py").read_text(encoding="utf-8"))
    assert "main" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    config = configparser.ConfigParser()
    config.read(PACKAGE / "setup.cfg")
    assert config["install"]["install_scripts"] == f"$base/lib/{PACKAGE.name}"
    launch = (PACKAGE / "launch" / "dreamer_nav.launch.py").read_text(encoding="utf-8")
    assert 'executable="dreamer_nav_node"' in launch


def test_the_launch_file_remaps_every_relative_topic() -> None:
    node = (PACKAGE / "dreamer_nav_ros" / "node.py").read_text(encoding="utf-8")
    launch = (PACKAGE / "launch" / "dreamer_nav.launch.py").read_text(encoding="utf-8")
    topics = set(re.findall(r'"(cmd_vel|odom|goal_pose|depth/image|rgb/image)"', node))
    topics |= {"depth/camera_info", "rgb/camera_info"}
    remapped = set(re.findall(r'\("([a-z_/]+)", LaunchConfiguration', launch))
    assert topics == remapped


def test_the_configuration_file_holds_every_parameter_with_its_default() -> None:
    content = yaml.safe_load((PACKAGE / "config" / "dreamer_nav.yaml").read_text(encoding="utf-8"))
    values = content["dreamer_nav"]["ros__parameters"]
    assert values == {parameter.name: parameter.default for parameter in parameters()}
    # ROS takes 20 for an integer and then refuses it for a parameter declared as a float.
    types = {parameter.name: type(parameter.default) for parameter in parameters()}
    assert {name: type(value) for name, value in values.items()} == types


def test_the_readme_has_a_row_for_every_parameter_and_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", README, re.MULTILINE))
    shown = {
        p.name: str(p.default).lower()
        if p.default is True or p.default is False
        else str(p.default) or '""'
        for p in parameters()
    }
    assert rows == shown


def test_the_readme_explains_every_fault() -> None:
    named = set()
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r'Fault\(\s*f?"([a-z_{}]+)"', text))
    families = {
        "stale_{name}": ["stale_depth", "stale_rgb", "stale_odometry", "stale_goal"],
        "bad_{name}": ["bad_depth", "bad_rgb"],
        "no_{kind}": ["no_depth", "no_rgb"],
    }
    expected = {name for n in named for name in families.get(n, [n])}
    assert len(expected) > 15
    assert not {name for name in expected if f"`{name}`" not in README}


def test_settings_want_every_parameter_and_a_policy_file() -> None:
    values = {parameter.name: parameter.default for parameter in parameters()}
    with pytest.raises(ValueError, match="policy_file is empty"):
        read_settings(values)
    values["policy_file"] = "p.onnx"
    assert read_settings(values).control_rate_hz == 20.0
    with pytest.raises(ValueError, match="unknown \\['speed'\\]"):
        read_settings({**values, "speed": 1.0})
    del values["allow_crop"]
    with pytest.raises(ValueError, match="missing \\['allow_crop'\\]"):
        read_settings(values)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_speed_mps": -1.0},
        {"control_rate_hz": 0.0},
        {"max_odom_age_s": float("nan")},
        {"depth_resize": "cubic"},
        {"max_invalid_share": 1.5},
        {"max_consecutive_faults": 0},
        {"max_clock_step_s": 0.06},
        {"watchdog_timeout_s": 0.06},
    ],
)
def test_settings_out_of_range_are_refused_by_name(changes: dict[str, Any]) -> None:
    values = {parameter.name: parameter.default for parameter in parameters()}
    (name,) = changes
    with pytest.raises(ValueError, match=name):
        read_settings({**values, "policy_file": "p.onnx", **changes})


def test_without_the_runtime_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dreamer_nav_export.runtime", None)
    with pytest.raises(RuntimeError, match="pip install dreamer-nav-export"):
        load_policy("p.onnx", "")


def test_a_policy_is_loaded_with_its_hash_and_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Policy:
        @classmethod
        def load(cls, path: str, expected_sha256: str | None) -> Policy:
            calls.append((path, expected_sha256))
            return cls()

        def selftest(self) -> None:
            calls.append("selftest")

    runtime = type(np)("dreamer_nav_export.runtime")
    runtime.Policy = Policy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dreamer_nav_export.runtime", runtime)
    assert isinstance(load_policy("p.onnx", ""), Policy)
    load_policy("p.onnx", "ab")
    assert calls == [("p.onnx", None), "selftest", ("p.onnx", "ab"), "selftest"]
