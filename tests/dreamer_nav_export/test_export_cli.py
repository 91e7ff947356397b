"""`dreamer-nav-export inspect|selftest|bench`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreamer_nav_export.cli import tool
from dreamer_nav_export.contract import read_contract
from dreamer_nav_export.inspect_text import describe
from tests.dreamer_nav_export.agents import CASES, contract_of


def test_inspect_says_what_a_robot_needs(
    policy_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool(["inspect", str(policy_file)]) == 0
    out = capsys.readouterr().out
    for part in ("[0.1, 10] m", "hfov 79.0 deg", "rho", "rad", "1 forward +0.25 m", "commit"):
        assert part in out
    assert tool(["inspect", str(policy_file), "--json"]) == 0
    text = capsys.readouterr().out
    assert (
        read_contract(text).provenance.environment == json.loads(text)["provenance"]["environment"]
    )


@pytest.mark.parametrize("case", CASES)
def test_every_contract_can_be_described(case: str) -> None:
    assert "observations:" in describe(contract_of(case))


def test_selftest_and_bench_print_their_figures(
    policy_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool(["selftest", str(policy_file)]) == 0
    assert "8 golden steps" in capsys.readouterr().out
    assert tool(["bench", str(policy_file), "--steps", "3"]) == 0
    out = capsys.readouterr().out
    assert "p99" in out
    assert "3 steps" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "inspect, selftest or bench"),
        (["describe"], "invalid choice"),
        (["inspect"], "FILE"),
        (["selftest", "nothing.onnx"], "nothing.onnx cannot be read"),
        (["selftest", "FILE", "--sha256", "00"], "64 hexadecimal digits"),
        (["selftest", "FILE", "--sha256", "0" * 64], "SHA-256"),
        (["bench", "FILE", "--steps", "0"], "at least 1"),
    ],
)
def test_a_mistake_is_one_line(
    policy_file: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool([w.replace("FILE", str(policy_file)) for w in words]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_help_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert tool(["--help"]) == 0
    assert "selftest" in capsys.readouterr().out
