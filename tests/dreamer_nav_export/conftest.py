"""One exported policy, which most tests share: exporting takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dreamer_nav.runs import LoadedRun
from dreamer_nav_export.contract import Contract
from dreamer_nav_export.policy_file import sidecar_path
from dreamer_nav_export.runtime import Policy
from dreamer_nav_export.session import PolicySession
from dreamer_nav_export.writer import ExportOptions, export_policy
from tests.dreamer_nav_export.agents import make_run


class Exported(NamedTuple):
    run: LoadedRun
    data: bytes
    contract: Contract


@pytest.fixture(scope="session")
def export() -> Callable[..., Exported]:
    """Exports of the cases of `agents`, each made once."""
    made: dict[Any, Exported] = {}

    def make(case: str, **options: Any) -> Exported:
        key = (case, *sorted(options.items()))
        if key not in made:
            run = make_run(case)
            made[key] = Exported(run, *export_policy(run, ExportOptions(**options)))
        return made[key]

    return make


@pytest.fixture(scope="session")
def pointgoal(export: Callable[..., Exported]) -> Exported:
    return export("pointgoal")


@pytest.fixture(scope="session")
def session(pointgoal: Exported) -> PolicySession:
    return PolicySession(pointgoal.data)


@pytest.fixture
def policy(session: PolicySession) -> Policy:
    return Policy(session, seed=0)


@pytest.fixture
def policy_file(pointgoal: Exported, tmp_path: Path) -> Path:
    """The file without its `.sha256`."""
    path = tmp_path / "policy.onnx"
    path.write_bytes(pointgoal.data)
    assert not Path(sidecar_path(path)).exists()
    return path
