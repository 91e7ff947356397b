"""The benchmark played by the runtime alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dreamer_nav.cli import main
from dreamer_nav.evaluate import evaluate_policy, run_subject
from dreamer_nav_export.int8_gate import export_int8, losses
from dreamer_nav_export.runtime import Policy
from dreamer_nav_export.task_facts import ExportError
from dreamer_nav_export.writer import ExportOptions, export_run
from sim_adapters import registry
from sim_adapters.registry import Entry
from tests.dreamer_nav.flat_task import ENTRY, flat_config, save_run


@pytest.fixture(autouse=True, scope="module")
def _flat() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._ENTRIES, "flat", Entry(ENTRY, "pip install flat", "", ()))
        yield


@pytest.fixture(scope="module", params=[False, True], ids=["discrete", "continuous"])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A run and its policy file."""
    folder = tmp_path_factory.mktemp("flat")
    run = save_run(flat_config(continuous=request.param), folder / "run")
    export_run(run, folder / "policy.onnx")
    return run, folder / "policy.onnx"


def test_the_file_plays_the_episodes_of_the_checkpoint(
    exported: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = exported
    expected = evaluate_policy(run_subject(run), baselines=False)
    output = tmp_path / "file.json"
    assert main(["eval", "--policy", str(file), "--no-baselines", "--json", str(output)]) == 0
    found = json.loads(output.read_text())
    assert found["env"] == expected["env"]
    assert found["weights_sha256"] == Policy.load(file).spec.provenance.weights_sha256
    pairs = list(zip(found["episodes"]["dreamer"], expected["episodes"]["dreamer"], strict=True))
    assert len(pairs) == 7
    for own, theirs in pairs:
        assert own["episode_id"] == theirs["episode_id"]
        # Discrete actions are equal or not; the motions of continuous ones carry their rounding.
        assert own["measures"] == pytest.approx(theirs["measures"], abs=1e-3)
    assert f"Written: {output}" in capsys.readouterr().out


def test_baselines_and_other_environments_go_with_it(
    exported: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, file = exported
    assert main(["eval", "--policy", str(file), "--episodes", "2", "--env.max_steps", "5"]) == 0
    out = capsys.readouterr().out
    for name in ("dreamer", "shortest path", "greedy", "random"):
        assert name in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval", "--policy", "nothing.onnx"], "there is no policy file nothing.onnx"),
        (["eval", "RUN", "--policy", "FILE"], "eval needs one of RUN_OR_CHECKPOINT, --policy"),
        (["eval", "--policy", "FILE", "--video"], "videos go into a run's folder"),
        (["eval", "--policy", "FILE", "--device", "cpu"], "--device does not go with --policy"),
        (["eval", "--policy", "FILE", "--episodes", "8"], "the set holds 7"),
        (["eval", "--policy", "RUN/config.yaml"], "has no seal"),
        (["export", "RUN", "-o", "policy.pt"], "must end in .onnx"),
        (["export", "RUN"], "-o/--output"),
        (["export", "nowhere", "-o", "p.onnx"], "No run or checkpoint at nowhere"),
        (["export", "RUN", "-o", "p.onnx", "--variant", "greedy"], "invalid choice"),
    ],
)
def test_a_mistake_is_one_line(
    exported: tuple[Path, Path],
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, file = exported
    monkeypatch.chdir(tmp_path)
    words = [w.replace("RUN", str(run)).replace("FILE", str(file)) for w in words]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# -- int8 ----------------------------------------------------------------------------------------


def test_losses_are_differences_of_means() -> None:
    def figures(**means: float) -> dict[str, Any]:
        return {name: {"mean": mean} for name, mean in means.items()}

    goals = losses(figures(success=0.9, spl=0.7), figures(success=0.8, spl=0.75))
    assert goals == pytest.approx({"success": 0.1, "spl": -0.05})
    assert losses(figures(**{"return": -10.0}), figures(**{"return": -11.0})) == {"return": 0.1}


def test_int8_is_kept_within_the_loss_and_refused_beyond(
    exported: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = exported
    output = tmp_path / "policy.int8.onnx"
    with pytest.raises(ExportError, match="it is not kept"):
        export_int8(run, file, output, ExportOptions(), episodes=2, max_loss=-2.0)
    assert list(tmp_path.iterdir()) == []
    export_int8(run, file, output, ExportOptions(), episodes=2, max_loss=1.0)
    out = capsys.readouterr().out
    assert "float32" in out
    assert "int8" in out
    policy = Policy.load(output)
    policy.selftest()
    assert policy.spec.provenance.quantization == "dynamic int8, dense layers"
    (evaluation,) = policy.spec.evaluations
    assert (evaluation.by, evaluation.measures["success"]["n"]) == ("policy file", 2)
    assert policy.spec.parity is None


def test_the_command_exports_both(
    exported: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = exported
    output = tmp_path / "p.onnx"
    words = ["export", str(run), "-o", str(output), "--no-parity", "--int8"]
    assert main([*words, "--int8-episodes", "1", "--int8-max-loss", "1"]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {
        "p.onnx",
        "p.onnx.sha256",
        "p.int8.onnx",
        "p.int8.onnx.sha256",
    }
    assert Policy.load(output).spec.parity is None
    assert (tmp_path / "p.int8.onnx").stat().st_size < output.stat().st_size
