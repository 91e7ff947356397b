"""Tiny agents and batches, and the numbers computed by the original TensorFlow code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dreamer_nav import cli
from dreamer_nav.agent import Agent
from dreamer_nav.config import AgentConfig, Config, EncoderConfig, HeadConfig, RSSMConfig
from dreamer_nav.spaces import ActionSpec, ObsSpec
from sim_adapters import registry
from sim_adapters.registry import Entry
from tests.dreamer_nav.command import (
    Calls,
    Outcome,
    Run,
    replace_module,
    run_process,
)
from tests.dreamer_nav.flat_task import ENTRY, FlatTask

MakeConfig = Callable[..., AgentConfig]
MakeAgent = Callable[..., Agent]
MakeBatch = Callable[..., dict[str, Tensor]]

IMAGE = ObsSpec("image", (64, 64, 1), "uint8", 0.0, 255.0)
VECTOR = ObsSpec("sensors", (3,), "float32")
DISCRETE = ActionSpec(True, 4)
CONTINUOUS = ActionSpec(False, 2, (-1.0, -1.0), (1.0, 1.0))


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """Figures read off the original modules under TensorFlow 2.15 (float32)."""
    path = Path(__file__).parents[1] / "golden" / "dreamerv2.json"
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


@pytest.fixture(scope="session")
def tiny_config() -> MakeConfig:
    """A configuration small enough for a test to run an update in milliseconds."""

    def make(**changes: Any) -> AgentConfig:
        config = AgentConfig(
            rssm=RSSMConfig(deter=8, hidden=10, stoch=3, classes=4),
            encoder=EncoderConfig(cnn_depth=2, mlp_layers=1, mlp_units=6),
            head=HeadConfig(layers=2, units=7),
            horizon=5,
        )
        return replace(config, **changes)

    return make


@pytest.fixture(scope="session")
def tiny_agent(tiny_config: MakeConfig) -> MakeAgent:
    """Agents of that size; vectors only unless told otherwise."""

    def make(
        obs: Sequence[ObsSpec] = (VECTOR,),
        action: ActionSpec = DISCRETE,
        seed: int = 0,
        compile: bool = False,
        **changes: Any,
    ) -> Agent:
        return Agent(obs, action, tiny_config(**changes), seed=seed, compile=compile)

    return make


@pytest.fixture(scope="session")
def make_batch() -> MakeBatch:
    """Random replay batches (B, T) for an agent; the same seed gives the same batch."""

    def make(agent: Agent, batch: int = 2, length: int = 4, seed: int = 1) -> dict[str, Tensor]:
        g = torch.Generator().manual_seed(seed)
        out = {}
        for spec in agent.obs:
            shape = (batch, length, *spec.shape)
            if spec.dtype == "uint8":
                out[spec.name] = torch.randint(0, 256, shape, generator=g, dtype=torch.uint8)
            else:
                out[spec.name] = torch.rand(shape, generator=g)
        size = agent.action.size
        if agent.action.discrete:
            index = torch.randint(0, size, (batch, length), generator=g)
            out["action"] = torch.eye(size)[index]
        else:
            out["action"] = torch.rand((batch, length, size), generator=g) * 2 - 1
        out["reward"] = torch.randn((batch, length), generator=g)
        out["is_first"] = torch.zeros((batch, length), dtype=torch.bool)
        out["is_first"][:, 0] = True
        out["is_terminal"] = torch.rand((batch, length), generator=g) < 0.2
        return out

    return make


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`main` in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DREAMER_NAV_TRACEBACK", raising=False)

    def command(*words: str) -> Outcome:
        status = cli.main(words)
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return command


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Records what would be trained."""
    calls: Calls = []

    def train(config: Config, run_dir: Path, **options: Any) -> Path:
        calls.append({"config": config, "run_dir": run_dir, **options})
        return run_dir

    replace_module(monkeypatch, "dreamer_nav.train", train=train)
    return calls


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Records what would be evaluated."""
    calls: Calls = []

    def run_subject(path: Path, device: str | None) -> dict[str, Any]:
        return {"path": path, "device": device}

    def evaluate_policy(subject: dict[str, Any], **options: Any) -> dict[str, Any]:
        calls.append({**subject, **options})
        return {}

    replace_module(
        monkeypatch,
        "dreamer_nav.evaluate",
        run_subject=run_subject,
        evaluate_policy=evaluate_policy,
    )
    return calls


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that a command made; tests copy it."""
    folder = tmp_path_factory.mktemp("trained") / "r"
    done = run_process("train", "--preset", "debug", "--run", str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(f"dreamer-nav eval {folder}")
    return folder


@pytest.fixture
def flat_task(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registers the task, and checks that every environment that was made is closed."""
    monkeypatch.setitem(registry._ENTRIES, "flat", Entry(ENTRY, "pip install flat", "", ()))
    FlatTask.made = FlatTask.closed = 0
    yield
    assert FlatTask.made == FlatTask.closed
