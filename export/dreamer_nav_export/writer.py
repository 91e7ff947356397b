"""Writes the policy of a run as one self-contained ONNX file with its contract, checked before it appears."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import re
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import torch
from torch import Tensor

from dreamer_nav import __version__ as agent_version
from dreamer_nav.agent import Agent
from dreamer_nav.atomic import write_atomic
from dreamer_nav.presets import to_dict
from dreamer_nav.runs import LoadedRun, load_run
from dreamer_nav_export import __version__
from dreamer_nav_export.contract import (
    METADATA_KEY,
    SCHEMA,
    Contract,
    Evaluation,
    Parity,
    Provenance,
)
from dreamer_nav_export.golden_writer import make_golden
from dreamer_nav_export.graph import VARIANTS, PolicyStep
from dreamer_nav_export.parity import check_controls, check_parity
from dreamer_nav_export.policy_file import SEAL_KEY, SEAL_ZEROS, seal, sidecar_path
from dreamer_nav_export.runtime import Policy
from dreamer_nav_export.session import PolicySession
from dreamer_nav_export.task_facts import ExportError, TaskFacts, read_task_facts

__all__ = [
    "IR_VERSION",
    "OPSET",
    "ExportError",
    "ExportOptions",
    "check_exportable",
    "export_policy",
    "export_run",
    "make_contract",
    "with_contract",
    "write_policy",
]

# Together these run on every ONNX Runtime from 1.15 on; the exporter's own IR 10 needs 1.18.
OPSET, IR_VERSION = 18, 8
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class ExportOptions:
    """How a policy is exported.

    Attributes:
        variant: mode, sample or deterministic; see `graph.VARIANTS`.
        batch: None for any batch size, or a fixed one.
        parity: compare with torch, and refuse to write what differs.
        int8: quantise the weights of the dense layers.
        control_hz, max_staleness_s: see `read_task_facts`.
    """

    variant: str = "mode"
    batch: int | None = None
    parity: bool = True
    int8: bool = False
    control_hz: float | None = None
    max_staleness_s: float | None = None


def export_run(path: Path, output: Path, options: ExportOptions | None = None) -> Contract:
    """Write the policy of a run's newest checkpoint, or of one checkpoint, and its `.sha256`.

    Args:
        path: a run's folder, or a checkpoint's.
        output: the `.onnx`; an existing one is replaced when everything has succeeded.
        options: see `ExportOptions`.

    Returns:
        The contract in the file.

    Raises:
        FileNotFoundError, CheckpointError: no such run or checkpoint.
        ExportError: it cannot be exported, or the file fails a check; nothing is written.
    """
    options = options or ExportOptions()
    check_output_path(output)
    run = load_run(Path(path), "cpu")
    data, contract = export_policy(run, options)
    write_policy(output, data)
    return contract


def write_policy(output: Path, data: bytes) -> None:
    """The file and its `.sha256`, each whole or not at all."""
    digest = hashlib.sha256(data).hexdigest()
    sidecar = Path(sidecar_path(output))
    # A reader between the two writes must find no hash rather than a wrong one.
    sidecar.unlink(missing_ok=True)
    write_atomic(output, data)
    write_atomic(sidecar, f"{digest}  {output.name}\n".encode())


def with_contract(data: bytes, contract: Contract) -> bytes:
    """The same graph with another contract."""
    import onnx

    return _serialize(onnx.load_model_from_string(data), contract)


def check_output_path(output: Path) -> None:
    """Find out before the work whether its result can be written."""
    if output.suffix != ".onnx":
        raise ExportError(f"{output} must end in .onnx")
    if output.is_dir():
        raise ExportError(f"{output} is a folder; name a file")
    if not output.absolute().parent.is_dir():
        raise ExportError(f"{output} cannot be written: there is no folder {output.parent}")


def export_policy(run: LoadedRun, options: ExportOptions) -> tuple[bytes, Contract]:
    """The file's bytes and its contract; see `export_run`."""
    agent = run.agent
    check_exportable(agent, options)
    step = PolicyStep(agent, options.variant)
    facts = read_task_facts(
        run.config,
        agent.obs,
        agent.action,
        control_hz=options.control_hz,
        max_staleness_s=options.max_staleness_s,
    )
    model = build_model(step, options.batch)
    if options.int8:
        from dreamer_nav_export.quantize import quantize

        model = quantize(model)
        strip(model)
    contract = make_contract(run, step, facts, options)
    session = PolicySession(_serialize(model, contract))
    if options.parity and not options.int8:
        contract = replace(contract, parity=_checked_parity(agent, step, session))
    contract = replace(contract, golden=make_golden(session, step, options.int8))
    data = _serialize(model, contract)
    _check_model(data)
    Policy(PolicySession(data)).selftest()
    return data, contract


def check_exportable(agent: Agent, options: ExportOptions) -> None:
    """Refuse, with the reason, what the graph cannot express.

    Raises:
        ExportError: an unknown variant, or observations whose names the graph cannot have.
    """
    if options.variant not in VARIANTS:
        raise ExportError(f"unknown variant {options.variant!r}; allowed: {', '.join(VARIANTS)}")
    if options.batch is not None and options.batch < 1:
        raise ExportError(f"batch must be at least 1, got {options.batch}")
    for value, name in ((options.control_hz, "control_hz"), (options.max_staleness_s, "staleness")):
        if value is not None and not 0 < value < float("inf"):
            raise ExportError(f"{name} must be a positive number, got {value}")
    step = PolicyStep(agent, options.variant)
    own = set(step.input_names[len(agent.obs) :]) | set(step.output_names)
    own |= {n.name for n in step.noise}
    for spec in agent.obs:
        if spec.name in own or not _NAME.fullmatch(spec.name):
            raise ExportError(
                f"the observation's name {spec.name!r} cannot be an input of the graph: letters, digits and _, "
                f"and none of {', '.join(sorted(own))}; rename it in the environment"
            )
    broken = [name for name, t in agent.state_dict().items() if not _is_finite(t)]
    if broken:
        raise ExportError(f"the weights {broken[0]} are not finite: this checkpoint is no policy")


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def build_model(step: PolicyStep, batch: int | None) -> Any:
    """The graph as an onnx.ModelProto, without paths or source lines."""
    import onnxscript.optimizer

    # Two rows: with one, torch takes the batch for a constant.
    example = step.example(2 if batch is None else batch)
    dynamic = (tuple({0: "batch"} for _ in example),) if batch is None else None
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.no_grad(), _unchecked_shapes():
            warnings.simplefilter(
                "ignore"
            )  # torch's and onnxscript's own; the file is checked below
            program = torch.onnx.export(
                step,
                example,
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=step.input_names,
                output_names=step.output_names,
                dynamic_shapes=dynamic,
                verbose=False,
            )
            assert program is not None
            # Weights that are sliced at every step are sliced here once.
            model = onnxscript.optimizer.optimize(
                program.model_proto, input_size_limit=2**40, output_size_limit=2**40
            )
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    model.ir_version = IR_VERSION
    strip(model)
    return model


@contextmanager
def _unchecked_shapes() -> Iterator[None]:
    """Tracing passes symbols for sizes, which checks of array types would make constants of."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def strip(model: Any) -> None:
    """Remove what the exporter leaves behind: source lines, local paths, node by node."""
    model.doc_string = ""
    model.graph.doc_string = ""
    model.producer_name, model.producer_version = "dreamer-nav-export", __version__
    del model.metadata_props[:]
    graph = model.graph
    del graph.metadata_props[:]
    for part in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        for item in part:
            item.doc_string = ""
            del item.metadata_props[:]


def _serialize(model: Any, contract: Contract) -> bytes:
    import onnx

    del model.metadata_props[:]
    metadata = {METADATA_KEY: contract.dumps(), SEAL_KEY: SEAL_ZEROS}
    onnx.helper.set_model_props(model, metadata)
    return seal(model.SerializeToString())


def _check_model(data: bytes) -> None:
    import onnx

    model = onnx.load_model_from_string(data)
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"the written graph is not valid ONNX: {error}") from error
    opsets = {o.domain: o.version for o in model.opset_import}
    if opsets.get("", 0) != OPSET or model.ir_version != IR_VERSION:
        raise ExportError(f"the written graph has opsets {opsets} and IR {model.ir_version}")
    external = [t.name for t in model.graph.initializer if t.external_data]
    if external:
        raise ExportError(f"the written graph keeps {external[0]} outside the file")


def _checked_parity(agent: Agent, step: PolicyStep, session: PolicySession) -> Parity:
    report = check_parity(agent, step, session)
    if report.failures:
        raise ExportError(f"the graph does not compute what torch computes: {report.failures[0]}")
    check_controls(agent, step, session)
    return report.parity


def make_contract(
    run: LoadedRun, step: PolicyStep, facts: TaskFacts, options: ExportOptions
) -> Contract:
    """The contract of a run's policy before anything was measured."""
    return Contract(
        schema=SCHEMA,
        variant=step.variant,
        batch=options.batch,
        observations=facts.observations,
        is_first="is_first",
        state=step.state,
        noise=step.noise,
        outputs=step.outputs,
        control=facts.control,
        provenance=_provenance(run, options),
        discrete=facts.discrete,
        continuous=facts.continuous,
        evaluations=_evaluations(run, options),
    )


def _provenance(run: LoadedRun, options: ExportOptions) -> Provenance:
    import onnx

    config: dict[str, Any] = json.loads(json.dumps(to_dict(run.config)))
    env = dict(config["env"])
    text = json.dumps(config, sort_keys=True, allow_nan=False).encode()
    return Provenance(
        algorithm="DreamerV2",
        environment=str(env.pop("name")),
        environment_options=env,
        evaluation_options=config["eval"]["env"],
        steps=run.step,
        updates=run.agent.num_updates,
        seed=run.config.seed,
        config=config,
        spaces=_spaces(run.agent),
        config_sha256=hashlib.sha256(text).hexdigest(),
        weights_sha256=_weights_sha256(run.agent),
        commit=_commit(),
        versions={
            "dreamer-nav": agent_version,
            "dreamer-nav-export": __version__,
            "torch": str(torch.__version__),
            "onnx": onnx.__version__,
            "python": platform.python_version(),
        },
        quantization="dynamic int8, dense layers" if options.int8 else None,
    )


def _spaces(agent: Agent) -> dict[str, Any]:
    value = {"obs": [o.to_json() for o in agent.obs], "action": agent.action.to_json()}
    plain: dict[str, Any] = json.loads(
        json.dumps(value)
    )  # lists for tuples, as a reader finds them
    return plain


def _weights_sha256(agent: Agent) -> str:
    """Of the policy's tensors by name, whatever the file around them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(agent.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
    return digest.hexdigest()


def _commit() -> str | None:
    """The commit of the source this runs from; None if it is installed from a wheel."""
    here = Path(__file__)
    # A wheel's files may lie in an environment inside somebody else's repository, which does not track them.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    return _git(here.parent, "rev-parse", "HEAD")


def _git(folder: Path, *words: str) -> str | None:
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _evaluations(run: LoadedRun, options: ExportOptions) -> tuple[Evaluation, ...]:
    """The evaluations of this checkpoint in the run's folder that this variant's choices were made in."""
    found = []
    for path in sorted((run.run_dir / "eval").glob(f"*-{run.step:09d}.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        variant = "sample" if report["sample_actions"] else "mode"
        if variant != options.variant or options.int8:
            continue
        measures = report["policies"]["dreamer"]
        name = path.name[: -len(f"-{run.step:09d}.json")]
        found.append(
            Evaluation(name, "checkpoint", variant, report["env"], report["seed"], measures)
        )
    return tuple(found)
