from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from dreamer_nav.spaces import ObsSpec
from dreamer_nav_export import writer
from dreamer_nav_export.contract import METADATA_KEY
from dreamer_nav_export.policy_file import SEAL_KEY, sidecar_path
from dreamer_nav_export.runtime import Policy
from dreamer_nav_export.session import PolicySession
from dreamer_nav_export.writer import ExportError, ExportOptions, check_exportable, export_run
from tests.dreamer_nav.flat_task import ENTRY, flat_config, save_run
from tests.dreamer_nav_export.agents import CASES, frames, make_run
from tests.dreamer_nav_export.conftest import Exported

ROOT = Path(__file__).parents[2]


# -- the file ------------------------------------------------------------------------------------


def test_the_file_is_valid_and_old_enough(pointgoal: Exported) -> None:
    model = onnx.load_model_from_string(pointgoal.data)
    onnx.checker.check_model(model, full_check=True)
    assert {o.domain: o.version for o in model.opset_import}[""] == 18
    assert model.ir_version == 8
    assert not [t.name for t in model.graph.initializer if t.external_data]
    assert [p.key for p in model.metadata_props] == [METADATA_KEY, SEAL_KEY]


def test_nothing_of_the_exporting_machine_is_left_in_the_file(pointgoal: Exported) -> None:
    model = onnx.load_model_from_string(pointgoal.data)
    graph = model.graph
    items = [*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    assert len(items) > 100
    assert not [i.name for i in items if i.doc_string or len(i.metadata_props)]
    assert [model.doc_string, graph.doc_string, len(graph.metadata_props)] == ["", "", 0]
    text = pointgoal.data.decode("latin-1")
    home = str(Path.home())
    for trace in (str(ROOT), home + "/", "site-packages", ".py", "forward(", 'File "'):
        assert trace not in text, trace
    assert not re.search(r"/(usr|home|root|tmp|work|opt)/", text)


def test_weights_are_in_the_file_once(pointgoal: Exported) -> None:
    """Slices of a weight are constants of their own; the whole one must not stay beside them."""
    model = onnx.load_model_from_string(pointgoal.data)
    floats = sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.data_type == 1)
    agent = pointgoal.run.agent
    used = [agent.model.encoder, agent.model.rssm, agent.behavior.actor]
    weights = sum(p.numel() for module in used for p in module.parameters())
    assert floats < 1.02 * weights
    assert not [n.name for n in model.graph.node if n.op_type == "Slice" and "weight" in n.input[0]]


def test_the_batch_is_free_or_fixed(export: Callable[..., Exported]) -> None:
    free = PolicySession(export("pointgoal").data)
    assert free.contract.batch is None
    fixed = PolicySession(export("pointgoal", batch=1).data)
    assert fixed.contract.batch == 1
    assert fixed.contract.parity is not None
    assert fixed.contract.parity.batches == (1,)
    (frame,) = frames(fixed.contract, 1)
    left, right = Policy(free, 0).act(frame), Policy(fixed, 0).act(frame)
    assert left.index == right.index
    np.testing.assert_allclose(left.probs, right.probs, atol=1e-6)


def test_figures_of_the_check_are_in_the_contract(pointgoal: Exported) -> None:
    parity = pointgoal.contract.parity
    assert parity is not None
    assert parity.batches == (1, 3)
    assert parity.steps >= 100
    assert 0 < parity.max_error_logits < parity.tolerance_logits
    assert pointgoal.contract.golden is not None
    assert len(pointgoal.contract.golden.actions) == 8


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deter", "is_first", "action", "latent_noise", "a b", "", "1st"])
def test_an_observation_with_a_name_of_the_graph_is_refused(name: str) -> None:
    run = make_run("pointgoal")
    run.agent.obs = (ObsSpec(name, (64, 64, 1), "float32", 0.0, 1.0), run.agent.obs[1])
    with pytest.raises(ExportError, match="cannot be an input of the graph"):
        check_exportable(run.agent, ExportOptions())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ExportOptions(variant="greedy"), "allowed: mode, sample, deterministic"),
        (ExportOptions(batch=0), "at least 1"),
        (ExportOptions(control_hz=-1.0), "positive"),
        (ExportOptions(max_staleness_s=float("inf")), "positive"),
    ],
)
def test_wrong_options_are_refused(options: ExportOptions, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        check_exportable(make_run("pointgoal").agent, options)


def test_weights_that_are_not_finite_are_refused() -> None:
    run = make_run("pointgoal")
    with torch.no_grad():
        run.agent.behavior.actor.mlp[-1].bias[0] = float("nan")
    with pytest.raises(ExportError, match=r"actor\.mlp.*not finite"):
        check_exportable(run.agent, ExportOptions())


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_agent_may_be_exported(case: str) -> None:
    for variant in ("mode", "sample", "deterministic"):
        check_exportable(make_run(case).agent, ExportOptions(variant))


# -- runs and files ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flat_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sim_adapters import registry
    from sim_adapters.registry import Entry

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._ENTRIES, "flat", Entry(ENTRY, "pip install flat", "", ()))
        return save_run(flat_config(), tmp_path_factory.mktemp("flat") / "run")


def test_a_run_becomes_a_file_and_its_hash(flat_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "policy.onnx"
    output.write_bytes(b"an older one")
    contract = export_run(flat_run, output)
    assert Policy.load(output).spec == contract
    line = Path(sidecar_path(output)).read_text()
    assert line == f"{hashlib.sha256(output.read_bytes()).hexdigest()}  policy.onnx\n"
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "-c", sidecar_path(output)], cwd=tmp_path, check=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["policy.onnx", "policy.onnx.sha256"]


def test_a_failed_check_leaves_what_was_there(
    flat_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "policy.onnx"
    output.write_bytes(b"an older one")
    Path(sidecar_path(output)).write_text("its hash")
    build = writer.build_model

    def wrong(step: writer.PolicyStep, batch: int | None) -> onnx.ModelProto:
        model = build(step, batch)
        weight = next(t for t in model.graph.initializer if list(t.dims) in ([4, 16], [16, 4]))
        value = onnx.numpy_helper.to_array(weight) + np.float32(0.05)
        value.reshape(-1)[0] += np.float32(0.5)
        weight.CopyFrom(onnx.numpy_helper.from_array(value, weight.name))
        return model

    monkeypatch.setattr(writer, "build_model", wrong)
    with pytest.raises(ExportError, match="does not compute what torch computes"):
        export_run(flat_run, output)
    assert output.read_bytes() == b"an older one"
    assert Path(sidecar_path(output)).read_text() == "its hash"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["policy.pt", "policy", "missing/policy.onnx", "folder.onnx"])
def test_where_it_cannot_be_written_is_found_out_before_the_work(
    flat_run: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ExportError):
        export_run(flat_run, tmp_path / name)


def test_evaluations_of_the_checkpoint_are_taken_along(tmp_path: Path) -> None:
    import json

    folder = tmp_path / "eval"
    folder.mkdir()
    measure = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 10}
    report = {
        "sample_actions": False,
        "env": {"name": "bullet", "split": "val"},
        "seed": 0,
        "policies": {"dreamer": {"success": measure}, "random": {}},
    }
    (folder / "val-000001234.json").write_text(json.dumps(report))
    (folder / "val-000000007.json").write_text(json.dumps(report))
    sampled = {**report, "sample_actions": True}
    (folder / "other-000001234.json").write_text(json.dumps(sampled))
    run = make_run("pointgoal", tmp_path)
    for variant, names in (("mode", ["val"]), ("sample", ["other"]), ("deterministic", [])):
        found = writer._evaluations(run, ExportOptions(variant))
        assert [e.name for e in found] == names
        assert all(e.measures["success"] == measure for e in found)
    assert writer._evaluations(replace_dir(run, tmp_path / "none"), ExportOptions()) == ()


def replace_dir(run: writer.LoadedRun, folder: Path) -> writer.LoadedRun:
    return run._replace(run_dir=folder)
