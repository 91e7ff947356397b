"""The C++ example, built and run on a small recurrent policy whose golden vectors NumPy computes here.

It needs a C++ compiler, CMake, nlohmann-json3-dev, the onnx package and ONNX Runtime's C++ headers with its library:
ONNXRUNTIME_ROOT names an unpacked release, or the system has libonnxruntime-dev. Where one is missing the example is
not built, and the skip says which.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "export" / "cpp"
CELL, STEPS, RESETS = 8, 7, (0, 4)
IMAGE, STATE = (10, 9, 3), 5
Arrays = dict[str, np.ndarray]

pytestmark = pytest.mark.slow

CONTRACT: dict[str, Any] = {
    "schema": 1,
    "batch": None,
    "observations": [
        {"name": "rgb", "dtype": "uint8", "shape": list(IMAGE), "low": [0.0], "high": [255.0]},
        {"name": "goal", "dtype": "float32", "shape": [2], "low": [0.0, -3.0], "high": [None, 3.0]},
        {
            "name": "free",
            "dtype": "float32",
            "shape": [2],
            "low": [None, None],
            "high": [None, 2.0],
        },
    ],
    "is_first": "is_first",
    "state": [{"input": "h", "output": "h_next", "dtype": "float32", "shape": [STATE]}],
    "noise": [
        {"name": "unused", "shape": [2, 3], "used": False},
        {"name": "noise", "shape": [STATE], "used": True},
    ],
    "outputs": [
        {"name": "action", "dtype": "int64", "shape": []},
        {"name": "probs", "dtype": "float32", "shape": [STATE]},
        {"name": "ok", "dtype": "bool", "shape": []},
        {"name": "h_next", "dtype": "float32", "shape": [STATE]},
    ],
}


def weights() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    image = rng.normal(size=(int(np.prod(IMAGE)), STATE)).astype(np.float32) / 2000
    return image, rng.normal(size=(4, STATE)).astype(np.float32) / 3


def uniform(draws: np.random.RandomState, count: int) -> np.ndarray:
    bits = draws.randint(0, 2**32, size=count, dtype=np.uint32) & np.uint32(0xFFFFFF)
    return bits.astype(np.float32) * np.float32(2.0**-24)


def observe(draws: np.random.RandomState) -> Arrays:
    """One step's observations by the contract's rule; unbounded ends as [0, 10], [-1, 9] and [0, 2]."""
    cells = (-(-IMAGE[0] // CELL), -(-IMAGE[1] // CELL), IMAGE[2])
    small = draws.randint(0, 2**32, size=int(np.prod(cells)), dtype=np.uint32) & np.uint32(255)
    image = small.reshape(cells).repeat(CELL, 0).repeat(CELL, 1)[: IMAGE[0], : IMAGE[1]]
    goal = np.array([0, -3], np.float32) + uniform(draws, 2) * np.array([10, 6], np.float32)
    free = np.array([-1, 0], np.float32) + uniform(draws, 2) * np.array([10, 2], np.float32)
    return {"rgb": image.astype(np.float32), "goal": goal, "free": free}


def step(seen: Arrays, first: bool, h: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The policy's next state; its choice is the state's largest number."""
    image, vector = weights()
    numbers = np.concatenate([seen["goal"], seen["free"]])
    kept = np.zeros_like(h) if first else h
    return np.tanh(0.5 * kept + seen["rgb"].ravel() @ image + numbers @ vector + noise)


def golden() -> dict[str, Any]:
    observation_draws, noise_draws = np.random.RandomState(11), np.random.RandomState(12)
    h = np.zeros(STATE, np.float32)
    actions, probs = [], []
    for t in range(STEPS):
        seen = observe(observation_draws)
        uniform(noise_draws, 6)  # of `unused`
        noise = uniform(noise_draws, STATE)
        h = step(seen, t in RESETS, np.zeros(STATE, np.float32) if t in RESETS else h, noise)
        exp = np.exp(h)
        actions.append([float(np.argmax(h))])
        probs.append((exp / exp.sum()).tolist())
    return {
        "observation_seed": 11,
        "noise_seed": 12,
        "steps": STEPS,
        "resets": list(RESETS),
        "actions": actions,
        "probs": probs,
        "final_state": {"h": h.tolist()},
        "tolerance": 1e-5,  # tanh and sums of some 280 float32 numbers of size 1
    }


def write_policy(path: Path, contract: dict[str, Any] | None) -> Path:
    """The same policy as an ONNX file; without a contract for None."""
    onnx = pytest.importorskip("onnx", reason="the C++ example is not run: needs the onnx package")
    make, numpy = onnx.helper, onnx.numpy_helper.from_array
    image, vector = weights()
    constants = {
        "image_w": image,
        "vector_w": vector,
        "half": np.array(0.5, np.float32),
        "flat": np.array([-1, image.shape[0]], np.int64),
        "zero": np.array(0.0, np.float32),
        "column": np.array([-1, 1], np.int64),
        "big": np.array(1e30, np.float32),
    }
    nodes = [
        make.make_node("Cast", ["rgb"], ["rgb_f"], to=onnx.TensorProto.FLOAT),
        make.make_node("Reshape", ["rgb_f", "flat"], ["rgb_flat"]),
        make.make_node("MatMul", ["rgb_flat", "image_w"], ["a"]),
        make.make_node("Concat", ["goal", "free"], ["numbers"], axis=1),
        make.make_node("MatMul", ["numbers", "vector_w"], ["b"]),
        make.make_node("Reshape", ["is_first", "column"], ["first"]),
        make.make_node("Where", ["first", "zero", "h"], ["kept"]),
        make.make_node("Mul", ["kept", "half"], ["c"]),
        make.make_node("Sum", ["a", "b", "c", "noise"], ["sum"]),
        make.make_node("Tanh", ["sum"], ["h_next"]),
        make.make_node("Softmax", ["h_next"], ["probs"], axis=1),
        make.make_node("ArgMax", ["h_next"], ["action"], axis=1, keepdims=0),
        make.make_node("ReduceMax", ["probs"], ["top"], axes=[1], keepdims=0),
        make.make_node("Less", ["top", "big"], ["ok"]),
    ]
    kinds = {
        "uint8": onnx.TensorProto.UINT8,
        "float32": onnx.TensorProto.FLOAT,
        "int64": onnx.TensorProto.INT64,
        "bool": onnx.TensorProto.BOOL,
    }

    def infos(specs: list[dict[str, Any]]) -> list[Any]:
        return [
            make.make_tensor_value_info(s["name"], kinds[s["dtype"]], ["batch", *s["shape"]])
            for s in specs
        ]

    inputs = [
        *CONTRACT["observations"],
        {"name": "is_first", "dtype": "bool", "shape": []},
        {"name": "h", "dtype": "float32", "shape": [STATE]},
        {"name": "noise", "dtype": "float32", "shape": [STATE]},
    ]
    initializers = [numpy(value, name) for name, value in constants.items()]
    graph = make.make_graph(
        nodes, "policy", infos(inputs), infos(CONTRACT["outputs"]), initializers
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    if contract is not None:
        make.set_model_props(model, {"dreamer_nav.contract": json.dumps(contract)})
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def selftest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built example."""
    root = os.environ.get("ONNXRUNTIME_ROOT")
    if root is None and not Path("/usr/include/onnxruntime/onnxruntime_cxx_api.h").is_file():
        pytest.skip(
            "the C++ example is not built: set ONNXRUNTIME_ROOT, or install libonnxruntime-dev"
        )
    for tool in ("cmake", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"the C++ example is not built: no {tool}")
    build = tmp_path_factory.mktemp("cpp")
    for command in (
        ["cmake", "-S", EXAMPLE, "-B", build, *([f"-DONNXRUNTIME_ROOT={root}"] if root else [])],
        ["cmake", "--build", build],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning:" not in done.stdout + done.stderr
    return build / "policy_selftest"


def run(selftest: Path, policy: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([selftest, policy], capture_output=True, text=True, timeout=60)


def test_the_golden_vectors_come_out(selftest: Path, tmp_path: Path) -> None:
    contract = {**CONTRACT, "golden": golden()}
    done = run(selftest, write_policy(tmp_path / "p.onnx", contract))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{STEPS} steps, largest difference ")


def _other_prob(golden: dict[str, Any]) -> None:
    golden["probs"][3][1] += 1e-3


def _other_state(golden: dict[str, Any]) -> None:
    golden["final_state"]["h"][0] += 1e-3


def _other_noise(golden: dict[str, Any]) -> None:
    golden["noise_seed"] += 1


def _other_observations(golden: dict[str, Any]) -> None:
    golden["observation_seed"] += 1


def _no_reset(golden: dict[str, Any]) -> None:
    golden["resets"] = [0]


def _other_action(golden: dict[str, Any]) -> None:
    golden["actions"][2][0] = (golden["actions"][2][0] + 1) % STATE


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_other_prob, {1}),
        (_other_state, {1}),
        (_other_noise, {1, 2}),
        (_other_observations, {1, 2}),
        (_no_reset, {1, 2}),
        (_other_action, {2}),
    ],
)
def test_anything_else_is_noticed(
    selftest: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], code: set[int]
) -> None:
    contract = copy.deepcopy({**CONTRACT, "golden": golden()})
    change(contract["golden"])
    done = run(selftest, write_policy(tmp_path / "p.onnx", contract))
    assert done.returncode in code, done.stdout + done.stderr


def test_what_is_no_policy_is_refused_with_one_line(selftest: Path, tmp_path: Path) -> None:
    done = run(selftest, write_policy(tmp_path / "p.onnx", None))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no contract" in done.stderr
    done = run(selftest, write_policy(tmp_path / "q.onnx", {**CONTRACT, "golden": None}))
    assert "no golden vectors" in done.stderr
    done = run(selftest, tmp_path / "absent.onnx")
    assert "cannot read" in done.stderr
