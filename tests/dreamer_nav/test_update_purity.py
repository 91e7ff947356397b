"""One update never waits for the device: no value of a tensor reaches the host."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

import dreamer_nav
from dreamer_nav.agent import Agent
from dreamer_nav.spaces import ActionSpec
from tests.dreamer_nav.conftest import CONTINUOUS, DISCRETE, IMAGE, VECTOR, MakeAgent, MakeBatch

ACTIONS = pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
MODES = pytest.mark.parametrize("actor_grad", ["auto", "both"])
UPDATE_FILES = (
    "ops", "distributions", "nets", "rssm", "world_model", "behavior", "optimizer", "agent",
)  # fmt: skip
# Operators whose result's value or shape needs the data: each waits for an accelerator.
SYNCHRONISING = {
    "aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::equal", "aten::is_nonzero",
    "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::bincount",
    "aten::repeat_interleave.Tensor", "aten::allclose",
}  # fmt: skip


class _ForbidSync(TorchDispatchMode):
    """Raises as soon as an operator would read a tensor's values on the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name in SYNCHRONISING or f"{name}.{func._overloadname}" in SYNCHRONISING:
            raise AssertionError(f"{name} waits for the device")
        return func(*args, **(kwargs or {}))


def _replace_tensors(agent: Agent, fake: Any) -> None:
    """Put fake tensors in place of every parameter and buffer, in the optimizers' lists too."""
    new: dict[int, nn.Parameter] = {}
    for module in agent.modules():
        for name, p in module._parameters.items():
            if p is not None:
                new[id(p)] = nn.Parameter(fake(p), requires_grad=p.requires_grad)
                module._parameters[name] = new[id(p)]
        for name, b in module._buffers.items():
            if b is not None:
                module._buffers[name] = fake(b)
    for optimizer in (agent.model_opt, agent.actor_opt, agent.critic_opt):
        optimizer.params = [new[id(p)] for p in optimizer.params]


@ACTIONS
@MODES
def test_an_update_runs_on_tensors_without_values(
    tiny_agent: MakeAgent, make_batch: MakeBatch, action: ActionSpec, actor_grad: str
) -> None:
    agent = tiny_agent(obs=(IMAGE, VECTOR), action=action, actor_grad=actor_grad)
    batch = make_batch(agent)
    noise = agent.draw_noise(2, 4)
    with FakeTensorMode():

        def fake(x: Tensor) -> Tensor:
            return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)

        _replace_tensors(agent, fake)
        fake_batch, fake_noise = tree_map(fake, (batch, noise))
        for _ in range(2):  # with and without the slow critic's copy
            metrics = agent.train_step(fake_batch, fake_noise)
        assert {v.shape for v in metrics.values()} == {torch.Size([])}
        with pytest.raises(DataDependentOutputException):
            metrics["loss/model"].item()


@ACTIONS
@MODES
def test_an_update_dispatches_no_operator_that_reads_values(
    tiny_agent: MakeAgent, make_batch: MakeBatch, action: ActionSpec, actor_grad: str
) -> None:
    agent = tiny_agent(obs=(IMAGE, VECTOR), action=action, actor_grad=actor_grad)
    batch = make_batch(agent)
    with _ForbidSync():
        for _ in range(2):
            metrics = agent.train_step(batch)  # drawing its own noise
        with pytest.raises(AssertionError, match="waits for the device"):
            metrics["loss/model"].item()
        with pytest.raises(AssertionError, match="waits for the device"):
            bool(batch["is_first"].any())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: reads its own sync detector")
@ACTIONS
def test_cuda_reports_no_synchronisation(
    tiny_config: Any, make_batch: MakeBatch, action: ActionSpec
) -> None:
    agent = Agent((IMAGE, VECTOR), action, tiny_config(), device="cuda")
    batch = {k: v.cuda() for k, v in make_batch(agent).items()}
    agent.train_step(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        agent.train_step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _host_reads(tree: ast.AST) -> list[str]:
    """Calls that bring a value to the host, and conditions on `.any()` or `.all()`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            if name in {"item", "tolist", "numpy", "cpu", "nonzero", "is_nonzero", "unique"}:
                found.append(f"line {node.lineno}: .{name}()")
        if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert):
            for part in ast.walk(node.test):
                if isinstance(part, ast.Attribute) and part.attr in {"any", "all", "equal"}:
                    found.append(f"line {node.lineno}: condition on .{part.attr}")
        match node:
            case ast.Call(func=ast.Name(id="bool" | "float" | "int" as name)):
                found.append(f"line {node.lineno}: {name}()")
    return found


@pytest.mark.parametrize("name", UPDATE_FILES)
def test_the_update_files_contain_no_host_read(name: str) -> None:
    path = Path(dreamer_nav.__file__).parent / f"{name}.py"
    tree = ast.parse(path.read_text())
    # Construction and reading a checkpoint's counter are no part of the update.
    for cls in (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)):
        outside = {"__init__", "load_weights"}
        cls.body = [n for n in cls.body if getattr(n, "name", "") not in outside]
    assert _host_reads(tree) == []


def test_the_search_for_host_reads_finds_them() -> None:
    code = "def f(x):\n    if x.any():\n        return x.item() + float(x)\n    return x.tolist()"
    assert len(_host_reads(ast.parse(code))) == 4
