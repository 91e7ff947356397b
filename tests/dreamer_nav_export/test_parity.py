"""The graph against the agent; and that the comparison notices what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dreamer_nav.agent import Agent
from dreamer_nav.distributions import TruncatedNormal
from dreamer_nav_export.golden_writer import torch_runner
from dreamer_nav_export.graph import PolicyStep, _sample_truncated, ndtri
from dreamer_nav_export.margins import argmax_is_tie, sample_is_tie, sample_margin
from dreamer_nav_export.parity import CONTROLS, TOLERANCE_STATE, check_parity
from dreamer_nav_export.session import PolicySession
from tests.dreamer_nav_export.agents import contract_of, make_run
from tests.dreamer_nav_export.conftest import Exported

Export = Callable[..., Exported]

slow = pytest.mark.slow
KINDS = [
    pytest.param("pointgoal", "mode", id="pointgoal"),
    pytest.param("pointgoal velocities", "mode", id="pointgoal velocities"),
    pytest.param("pointgoal velocities", "sample", id="sampled velocities", marks=slow),
    pytest.param("pointgoal", "sample", id="sampled actions", marks=slow),
    pytest.param("pointgoal", "deterministic", id="deterministic", marks=slow),
    pytest.param("atari", "mode", id="atari", marks=slow),
    pytest.param("dmc vision", "mode", id="dmc vision", marks=slow),
    pytest.param("dmc proprio", "sample", id="dmc proprio", marks=slow),
]


def parts(export: Export, case: str, variant: str) -> tuple[Any, PolicyStep, PolicySession]:
    made = export(case) if variant == "mode" else export(case, variant=variant)
    return made.run.agent, PolicyStep(made.run.agent, variant), PolicySession(made.data)


@pytest.mark.parametrize(("case", "variant"), KINDS)
def test_the_graph_computes_what_the_agent_computes(
    export: Export, case: str, variant: str
) -> None:
    report = check_parity(*parts(export, case, variant), seed=7)
    assert report.failures == []
    assert report.steps == 2 * (1 + 3) * 120
    assert report.closed_loop_steps >= 0.9 * report.steps / 2
    # float32 through a dozen layers: far below the tolerances of a trained net with its larger logits.
    assert report.logits < 1e-4
    assert report.state < 1e-5


@pytest.mark.parametrize(("case", "variant"), KINDS)
@pytest.mark.parametrize("control", CONTROLS)
def test_a_spoiled_input_is_noticed(export: Export, case: str, variant: str, control: str) -> None:
    spoil = CONTROLS[control]
    assert check_parity(*parts(export, case, variant), steps=45, spoil=spoil).failures


def test_other_weights_are_noticed(export: Export) -> None:
    _, step, session = parts(export, "pointgoal", "mode")
    other = make_run("pointgoal").agent
    with torch.no_grad():
        other.behavior.actor.mlp[-1].bias.add_(torch.tensor([0.01, 0.0, 0.0, 0.0]))
    failures = check_parity(other, step, session, steps=5).failures
    assert any("action_logits" in f for f in failures)


def test_a_reset_that_multiplies_is_noticed(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison hands the graph a NaN state where an episode begins."""
    agent, step, session = parts(export, "pointgoal", "mode")
    run = session.run

    def multiplied(feeds: Any) -> Any:
        keep = 1 - feeds["is_first"][:, None].astype(np.float32)
        return run({**feeds, "deter": feeds["deter"] * keep, "is_first": feeds["is_first"] & False})

    monkeypatch.setattr(session, "run", multiplied)
    assert "ok is false" in check_parity(agent, step, session, steps=1).failures[0]


def test_the_agent_is_compared_in_float32_and_left_as_it_was(export: Export) -> None:
    from dataclasses import replace

    agent, step, session = parts(export, "pointgoal", "mode")
    before = agent.config
    agent.config = replace(before, precision="bfloat16")
    try:
        assert check_parity(agent, step, session, steps=5).failures == []
        assert agent.config.precision == "bfloat16"
    finally:
        agent.config = before


# -- margins -------------------------------------------------------------------------------------


def test_a_flip_is_rounding_only_near_a_tie() -> None:
    expected = np.array([[1.0, 1.0 + 5e-6, 0.0], [1.0, 1.2, 0.0]], np.float32)
    found = expected + np.array([[1e-6, -1e-6, 0.0]], np.float32)
    assert argmax_is_tie(expected, found).tolist() == [True, False]


def test_a_sample_is_rounding_only_near_a_boundary() -> None:
    logits = np.zeros((3, 4), np.float32)  # boundaries at 0.25, 0.5, 0.75
    noise = np.array([0.2500001, 0.26, 0.7499], np.float32)
    np.testing.assert_allclose(sample_margin(logits, noise), [1e-7, 0.01, 1e-4], atol=1e-7)
    found = logits + np.array([[1e-6, 0, 0, 0]], np.float32)
    assert sample_is_tie(logits, found, noise).tolist() == [True, False, False]


def test_the_last_boundary_is_no_boundary() -> None:
    """Noise near 1 is in the last class whatever the rounding."""
    assert sample_margin(np.zeros((1, 2), np.float32), np.array([0.99999], np.float32)) > 0.4


# -- operators of our own ------------------------------------------------------------------------


def test_quantiles_are_torchs() -> None:
    p = torch.cat([torch.linspace(1e-7, 1 - 1e-7, 10_001), torch.logspace(-7, -1, 1_001)])
    torch.testing.assert_close(ndtri(p), torch.special.ndtri(p), atol=5e-6, rtol=2e-6)


def test_truncated_samples_are_torchs() -> None:
    loc = torch.linspace(-1, 1, 21)[:, None, None].expand(21, 8, 99)
    scale = torch.linspace(0.1, 2.1, 8)[None, :, None].expand(21, 8, 99)
    noise = torch.linspace(0.005, 0.995, 99)[None, None, :].expand(21, 8, 99)
    for original in (False, True):
        dist = TruncatedNormal(loc, scale, original)
        torch.testing.assert_close(
            _sample_truncated(dist, noise), dist.sample(noise), atol=2e-5, rtol=0
        )


# -- what builds up ------------------------------------------------------------------------------


class Shifted:
    """The agent itself as a file's session, with a state that is off by up to `amount` at every step."""

    def __init__(self, agent: Agent, amount: float) -> None:
        self.contract = contract_of("pointgoal")
        self.providers = ["none"]
        self._run, self._amount = torch_runner(PolicyStep(agent, "mode")), amount
        self._random = np.random.default_rng(9)

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = self._run(feeds)
        shape = found["next_deter"].shape
        off = self._random.uniform(-self._amount, self._amount, shape).astype(np.float32)
        return {**found, "next_deter": found["next_deter"] + off}


def chaotic_agent(gain: float) -> Agent:
    """One whose recurrence makes small differences larger."""
    agent = make_run("pointgoal").agent
    with torch.no_grad():
        agent.model.rssm.gru.norm.weight.mul_(gain)
    return agent


def test_a_recurrence_that_multiplies_rounding_is_no_failure() -> None:
    agent = chaotic_agent(6.0)
    step = PolicyStep(agent, "mode")
    rounded = check_parity(agent, step, Shifted(agent, 1e-6), steps=60)  # type: ignore[arg-type]
    assert rounded.failures == []
    assert rounded.state > 100 * TOLERANCE_STATE
    assert rounded.closed_loop_steps > 120
    wrong = check_parity(agent, step, Shifted(agent, 1e-4), steps=60)  # type: ignore[arg-type]
    assert {f.partition(",")[0] for f in wrong.failures} == {"teacher-forced", "closed loop"}


def test_a_recurrence_that_does_not_is_held_to_the_tolerances_in_a_closed_loop_too() -> None:
    agent = chaotic_agent(1.0)
    step = PolicyStep(agent, "mode")
    wrong = check_parity(agent, step, Shifted(agent, 5e-5), steps=60)  # type: ignore[arg-type]
    assert {f.partition(",")[0] for f in wrong.failures} == {"closed loop"}
