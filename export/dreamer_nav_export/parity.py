"""The graph in ONNX Runtime against the agent in torch, step by step and over whole sequences.

Teacher-forced: both start every step from torch's state, so each step's rounding is seen by itself. Closed loop:
each goes on from its own state, so what builds up is seen. A choice (latent or action) may differ only where
rounding decides it, see `margins`; after that the row is not compared again before its next reset. How much rounding
may build up is told by torch itself: by a twin whose state is nudged by as much as rounding does at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from dreamer_nav.agent import Agent, PolicyNoise, PolicyState
from dreamer_nav.distributions import OneHot
from dreamer_nav.rssm import State
from dreamer_nav_export.contract import Contract, Parity
from dreamer_nav_export.golden import NoiseStream, random_observation
from dreamer_nav_export.graph import PolicyStep
from dreamer_nav_export.margins import argmax_is_tie, sample_is_tie
from dreamer_nav_export.session import PolicySession
from dreamer_nav_export.task_facts import ExportError

__all__ = ["CONTROLS", "STEPS", "ParityReport", "check_parity", "skip_reset", "swap_channels"]

STEPS, BATCHES = 120, (1, 3)
# Trained logits reach some tens, where float32 resolves 2e-6; a state is within [-1, 1].
TOLERANCE_LOGITS, TOLERANCE_STATE = 1e-3, 1e-4
# A trained walker multiplies a nudge of 2e-6 by several hundred in some 30 steps.
_NUDGE, _TWIN_FACTOR, _TWIN_DECAY = 2e-6, 30.0, 0.9
_RESET_EVERY = (37, 41, 29)  # by row, so that rows reset at different steps

Arrays = dict[str, np.ndarray]
Spoil = Callable[[Arrays, Contract], Arrays]


@dataclass
class ParityReport:
    """Differences found, and what of it is more than rounding."""

    steps: int = 0
    closed_loop_steps: int = 0
    batches: tuple[int, ...] = ()
    logits: float = 0.0
    state: float = 0.0
    action: float = 0.0
    latent_flips: int = 0
    action_flips: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def parity(self) -> Parity:
        """As the contract holds it."""
        return Parity(
            self.steps,
            self.batches,
            self.logits,
            self.state,
            self.action,
            self.latent_flips,
            self.action_flips,
            self.closed_loop_steps,
            TOLERANCE_LOGITS,
            TOLERANCE_STATE,
        )


def skip_reset(feeds: Arrays, contract: Contract) -> Arrays:
    """Control: the graph is not told that an episode begins."""
    return {**feeds, contract.is_first: np.zeros_like(feeds[contract.is_first])}


def swap_channels(feeds: Arrays, contract: Contract) -> Arrays:
    """Control: the first observation with its channels reversed; one channel mirrored, one number negated."""
    name = contract.observations[0].name
    value = feeds[name]
    if value.shape[-1] > 1:
        return {**feeds, name: np.ascontiguousarray(value[..., ::-1])}
    return {**feeds, name: np.ascontiguousarray(value[:, :, ::-1]) if value.ndim == 4 else -value}


CONTROLS: dict[str, Spoil] = {"skipped reset": skip_reset, "swapped channels": swap_channels}


def check_parity(
    agent: Agent,
    step: PolicyStep,
    session: PolicySession,
    *,
    steps: int = STEPS,
    spoil: Spoil | None = None,
    seed: int = 0,
) -> ParityReport:
    """Compare over random observations with resets in between, in batches of 1 and 3 (or the file's own).

    Args:
        agent: what the file was made of; left as it was.
        step: the exported module, which says what the variant is.
        session: the file.
        steps: of each sequence.
        spoil: changes what ONNX Runtime is fed; a control that must make the comparison fail.
        seed: of observations and noise.
    """
    fixed = session.contract.batch
    report = ParityReport(batches=(fixed,) if fixed else BATCHES)
    with _float32(agent):
        for batch in report.batches:
            for closed in (False, True):
                _Comparison(agent, step, session, report, spoil, closed).run(batch, steps, seed)
    return report


def check_controls(agent: Agent, step: PolicyStep, session: PolicySession) -> None:
    """See that the comparison can fail.

    Raises:
        ExportError: a spoiled input went unnoticed.
    """
    for name, spoil in CONTROLS.items():
        if not check_parity(agent, step, session, steps=45, spoil=spoil).failures:
            raise ExportError(
                f"the comparison with torch did not notice a {name}: the policy ignores its input, or the check "
                "is broken; export with --no-parity to have the file all the same"
            )


@contextmanager
def _float32(agent: Agent) -> Iterator[None]:
    """The agent without mixed precision, as the graph computes."""
    config = agent.config
    agent.config = replace(config, precision="float32")
    try:
        yield
    finally:
        agent.config = config


@dataclass
class _Comparison:
    agent: Agent
    step: PolicyStep
    session: PolicySession
    report: ParityReport
    spoil: Spoil | None
    closed: bool
    natural: dict[str, float] = field(default_factory=dict)  # what builds up of itself, by output

    def run(self, batch: int, steps: int, seed: int) -> None:
        contract = self.session.contract
        observations, noise = NoiseStream(2 * seed + 1), NoiseStream(2 * seed)
        state, memory = self.agent.initial(batch), _poison(contract, batch)
        same, twin, nudges = np.ones(batch, bool), state, np.random.default_rng(seed)
        for t in range(steps):
            first = np.array([t % _RESET_EVERY[i % len(_RESET_EVERY)] == 0 for i in range(batch)])
            obs = {
                o.name: np.stack([random_observation(o, observations) for _ in range(batch)])
                for o in contract.observations
            }
            drawn = {n.name: noise.uniform((batch, *n.shape)) for n in contract.noise}
            same |= first
            if not self.closed:
                memory = self._memory(state)
            memory = _poison_rows(memory, first)
            expected, state = self._torch(obs, first, state, drawn)
            if self.closed:
                other, twin = self._torch(obs, first, _nudged(twin, nudges), drawn)
                same &= self._measure_twin(expected, other, same)
            feeds = {**obs, contract.is_first: first, **memory}
            feeds |= {n.name: drawn[n.name] for n in contract.noise if n.used}
            found = self.session.run(self.spoil(feeds, contract) if self.spoil else feeds)
            changed = self._compare(t, expected, found, drawn, same)
            if self.closed:
                same &= ~changed
                self.report.closed_loop_steps += int(same.sum())
            self.report.steps += batch
            memory = {s.input: found[s.output] for s in contract.state}

    def _torch(
        self, obs: Arrays, first: np.ndarray, state: PolicyState, drawn: Arrays
    ) -> tuple[Arrays, PolicyState]:
        """What the agent gives, by the names of the graph's outputs, and its new state."""
        agent, variant = self.agent, self.step.variant
        tensors = {k: torch.from_numpy(v) for k, v in {**obs, "is_first": first}.items()}
        noise = PolicyNoise(*(torch.from_numpy(drawn[n]) for n in ("latent_noise", "action_noise")))
        with torch.no_grad():
            if variant.latents == "argmax":
                action, state = _argmax_policy(agent, tensors, state, noise)
            else:
                mode: Any = variant.actions
                action, state = agent.policy(tensors, state, mode, noise)
            policy = agent.behavior.actor(state.latent.feat)
        out = {
            "next_deter": state.latent.deter,
            "latent_logits": state.latent.logits,
            "next_stoch": state.latent.stoch.argmax(-1),
        }
        if isinstance(policy, OneHot):
            out |= {"action_logits": policy.logits, "probs": policy.log_probs.exp()}
        else:
            out |= {"action_loc": policy.loc, "action_scale": policy.scale, "agent_action": action}
        named = {k: v.numpy() for k, v in out.items()}
        return {**named, "action": agent.action.to_env(action.numpy())}, state

    def _measure_twin(self, expected: Arrays, other: Arrays, rows: np.ndarray) -> np.ndarray:
        """Note how far the twin has gone; returns where (B,) it still makes the same choices."""
        agrees = np.ones(len(rows), bool)
        for name, value in expected.items():
            if value.dtype.kind != "f":
                agrees &= (value == other[name]).reshape(len(rows), -1).all(-1)
        for name, value in expected.items():
            if value.dtype.kind == "f":
                difference = np.abs(value - other[name])[rows & agrees]
                before = _TWIN_DECAY * self.natural.get(name, 0.0)
                self.natural[name] = max(before, float(difference.max(initial=0.0)))
        return agrees

    def _memory(self, state: PolicyState) -> Arrays:
        """Torch's state as the graph takes it."""
        action = state.action.argmax(-1) if self.agent.action.discrete else state.action
        tensors = {
            "stoch": state.latent.stoch.argmax(-1),
            "deter": state.latent.deter,
            "prev_action": action,
        }
        return {k: v.numpy().copy() for k, v in tensors.items()}

    def _compare(
        self, t: int, expected: Arrays, found: Arrays, drawn: Arrays, same: np.ndarray
    ) -> np.ndarray:
        """Record the differences of rows that are the `same` so far; returns where (B,) a choice changed."""
        report = self.report
        if not found["ok"][same].all():
            self._fail(t, "ok is false")
        report.state = max(
            report.state, self._error(t, "next_deter", expected, found, same, TOLERANCE_STATE)
        )
        report.logits = max(
            report.logits, self._error(t, "latent_logits", expected, found, same, TOLERANCE_LOGITS)
        )
        latents = self._flips(t, "next_stoch", "latent_logits", expected, found, drawn, same)
        report.latent_flips += int(latents.sum())
        changed = np.asarray(latents.any(-1))
        # The action follows from the latents: where these differ, so may it.
        rows = same & ~changed
        if self.agent.action.discrete:
            report.logits = max(
                report.logits,
                self._error(t, "action_logits", expected, found, rows, TOLERANCE_LOGITS),
            )
            self._error(t, "probs", expected, found, rows, TOLERANCE_STATE)
            actions = self._flips(t, "action", "action_logits", expected, found, drawn, rows)
            report.action_flips += int(actions.sum())
            return np.asarray(changed | actions)
        for name in ("action_loc", "action_scale", "agent_action", "action"):
            error = self._error(t, name, expected, found, rows, TOLERANCE_LOGITS)
            report.action = max(report.action, error)
        return changed

    def _error(
        self, t: int, name: str, expected: Arrays, found: Arrays, rows: np.ndarray, limit: float
    ) -> float:
        if not rows.any():
            return 0.0
        limit = max(limit, _TWIN_FACTOR * self.natural.get(name, 0.0))
        difference = np.abs(expected[name][rows].astype(np.float64) - found[name][rows])
        error = float(difference.max())
        if not error <= limit:  # NaN is over every limit
            self._fail(t, f"{name} differs by {error:.3g}, allowed is {limit:g}")
            return 0.0 if np.isnan(error) else error
        return error

    def _flips(
        self,
        t: int,
        name: str,
        logits: str,
        expected: Arrays,
        found: Arrays,
        drawn: Arrays,
        rows: np.ndarray,
    ) -> np.ndarray:
        """Where a choice differs in these rows; a failure where rounding does not explain it."""
        shape = (len(rows),) + (1,) * (found[name].ndim - 1)
        flips: np.ndarray = (expected[name] != found[name]) & rows.reshape(shape)
        if not flips.any():
            return flips
        noise_name = "latent_noise" if name == "next_stoch" else "action_noise"
        used = {n.name: n.used for n in self.session.contract.noise}[noise_name]
        if used:
            tie = sample_is_tie(expected[logits], found[logits], drawn[noise_name])
        else:
            tie = argmax_is_tie(expected[logits], found[logits])
        if (flips & ~tie).any():
            self._fail(t, f"{name} differs where it was no tie")
        return flips

    def _fail(self, t: int, what: str) -> None:
        loop = "closed loop" if self.closed else "teacher-forced"
        self.report.failures.append(f"{loop}, step {t}: {what}")


def _argmax_policy(
    agent: Agent, obs: dict[str, torch.Tensor], state: PolicyState, noise: PolicyNoise
) -> tuple[torch.Tensor, PolicyState]:
    """`Agent.policy` with the likeliest latents and action."""
    latent = agent.observe(obs, state, noise.latent)
    stoch = F.one_hot(latent.logits.argmax(-1), latent.logits.shape[-1]).float()
    latent = State(stoch, latent.logits, latent.deter)
    action = agent.behavior.actor(latent.feat).mode()
    return action, PolicyState(latent, action)


def _nudged(state: PolicyState, nudges: np.random.Generator) -> PolicyState:
    """The state moved as rounding would move it."""
    deter = state.latent.deter
    nudge = torch.from_numpy(nudges.uniform(-_NUDGE, _NUDGE, tuple(deter.shape)).astype(np.float32))
    return state._replace(latent=state.latent._replace(deter=deter + nudge))


def _poison(contract: Contract, batch: int) -> Arrays:
    """A state that must not matter."""
    return {s.input: np.zeros((batch, *s.shape), s.dtype) for s in contract.state}


def _poison_rows(memory: Arrays, rows: np.ndarray) -> Arrays:
    """NaN and wrong indices where an episode begins: a reset that multiplies would keep them."""
    out = {k: v.copy() for k, v in memory.items()}
    for value in out.values():
        value[rows] = np.nan if value.dtype.kind == "f" else 1
    return out
