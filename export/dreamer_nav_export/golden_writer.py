"""Makes the golden vectors of a policy file: a short sequence whose outcome no rounding can change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from dreamer_nav_export.contract import Contract, Golden
from dreamer_nav_export.golden import NoiseStream, golden_observations
from dreamer_nav_export.graph import PolicyStep
from dreamer_nav_export.margins import argmax_margin, sample_margin
from dreamer_nav_export.session import PolicySession

__all__ = ["make_golden"]

STEPS, RESETS = 8, (0, 5)
TOLERANCE = 1e-3  # across CPUs; on one machine it is 1e-5
_CANDIDATES = 32

Arrays = dict[str, np.ndarray]
RunStep = Callable[[Mapping[str, np.ndarray]], Arrays]


def make_golden(session: PolicySession, step: PolicyStep, quantized: bool) -> Golden:
    """The sequence with the widest margins among some.

    What it should give is torch's answer; that of the file itself where the weights were quantised.
    """
    run = session.run if quantized else torch_runner(step)
    contract = session.contract
    batch = contract.batch or 1
    drawn = [_play(contract, run, seed, batch) for seed in range(_CANDIDATES)]
    return max(drawn, key=lambda pair: pair[0])[1]


def torch_runner(step: PolicyStep) -> RunStep:
    """The module as a function of named arrays."""

    def run(feeds: Mapping[str, np.ndarray]) -> Arrays:
        with torch.no_grad():
            values = step(*(torch.from_numpy(feeds[name]) for name in step.input_names))
        return {n: v.numpy() for n, v in zip(step.output_names, values, strict=True)}

    return run


def _play(contract: Contract, run: RunStep, seed: int, batch: int) -> tuple[float, Golden]:
    """Smallest margin of the sequence of a seed, and the sequence."""
    empty = Golden(seed, seed, STEPS, RESETS, (), (), {}, TOLERANCE)
    noise = NoiseStream(seed)
    memory: Arrays = {}
    margins: list[float] = []
    actions: list[tuple[float, ...]] = []
    probs: list[tuple[float, ...]] = []
    for t, observations in enumerate(golden_observations(contract, empty)):
        first = t in RESETS
        if first:
            memory = {s.input: np.zeros((1, *s.shape), s.dtype) for s in contract.state}
        drawn = noise.step(contract.noise)
        own = {k: v[None] for k, v in observations.items()}
        feeds = {**own, "is_first": np.array([first]), **memory, **drawn}
        outputs = run({k: np.repeat(v, batch, 0) for k, v in feeds.items()})
        memory = {s.input: outputs[s.output][:1] for s in contract.state}
        margins.append(_margin(contract, outputs, drawn))
        actions.append(_numbers(outputs["action"][0]))
        if contract.discrete is not None:
            probs.append(_numbers(outputs["probs"][0]))
    final = {name: _numbers(value[0]) for name, value in memory.items()}
    golden = replace(empty, actions=tuple(actions), probs=tuple(probs), final_state=final)
    return min(margins), golden


def _numbers(value: np.ndarray) -> tuple[float, ...]:
    return tuple(float(x) for x in np.ravel(value))


def _margin(contract: Contract, outputs: Arrays, drawn: Arrays) -> float:
    """Of the closest choice of a step, as a probability."""
    noise = drawn.get("latent_noise")
    logits = outputs["latent_logits"][:1]
    latents = argmax_margin(logits) if noise is None else sample_margin(logits, noise)
    margins = [float(latents.min())]
    if contract.discrete is not None:
        noise, logits = drawn.get("action_noise"), outputs["action_logits"][:1]
        action = argmax_margin(logits) if noise is None else sample_margin(logits, noise)
        margins.append(float(action.min()))
    return min(margins)
