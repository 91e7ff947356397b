"""The wheel where there is nothing but NumPy and ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest

EXPORT = Path(__file__).parents[2] / "export"

pytestmark = pytest.mark.slow


def bare_environment(folder: Path, wheel: Path) -> Path:
    """An interpreter that sees the wheel, NumPy, and ONNX Runtime with what that requires; not torch, not onnx."""
    import flatbuffers
    import google.protobuf
    import numpy
    import onnxruntime
    import packaging

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True)
    target = Path(done.stdout.strip())
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)
    for module in (numpy, onnxruntime, flatbuffers, packaging, google.protobuf):
        package = Path(str(module.__file__)).parent
        if module is google.protobuf:
            package = package.parent
        (target / package.name).symlink_to(package)
        for libraries in package.parent.glob(f"{package.name}.libs"):
            (target / libraries.name).symlink_to(libraries)
    return python


def run(command: list[str | Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def test_the_wheel_runs_a_policy_where_there_is_no_torch(policy_file: Path, tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        tmp_path,
        EXPORT,
    ]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    python = bare_environment(tmp_path / "venv", wheel)
    for absent in ("torch", "dreamer_nav", "sim_adapters", "gymnasium", "onnx"):
        assert run([python, "-c", f"import {absent}"], tmp_path).returncode != 0, absent
    tool = python.parent / "dreamer-nav-export"
    done = run([tool, "selftest", policy_file], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "8 golden steps" in done.stdout
    for verb in ("inspect", "bench"):
        done = run([tool, verb, policy_file], tmp_path)
        assert done.returncode == 0, done.stderr
    done = run([tool, "selftest", tmp_path / "nothing.onnx"], tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_without_onnx_runtime_the_install_line_is_told(policy_file: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        f"sys.argv = ['dreamer-nav-export', 'selftest', {str(policy_file)!r}]\n"
        "from dreamer_nav_export.cli import tool; sys.exit(tool())"
    )
    done = run([sys.executable, "-c", code], tmp_path)
    assert done.returncode == 1
    assert "pip install 'dreamer-nav-export[cpu]'" in done.stderr


def test_a_robots_requirements_are_numpy_alone() -> None:
    needed = [r for r in requires("dreamer-nav-export") or [] if "extra ==" not in r]
    assert [r.partition(">")[0] for r in needed] == ["numpy"]
    assert version("dreamer-nav-export")
