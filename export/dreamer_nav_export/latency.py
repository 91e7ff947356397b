"""How long a step takes on one thread, beside eager torch where that is installed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from dreamer_nav_export.golden import NoiseStream, random_observation
from dreamer_nav_export.runtime import Policy

__all__ = ["bench_policy"]

_WARM_UP = 20
_FRAMES = 16


def bench_policy(policy: Policy, steps: int, checkpoint: Optional[Path] = None) -> str:
    """Lines with p50 and p99 of `steps` calls of `Policy.act`, checks of the observation included.

    Args:
        policy: is reset.
        steps: timed, after some that are not.
        checkpoint: a run to time `Agent.policy` of beside it, turn about; needs dreamer_nav and torch.
    """
    stream = NoiseStream(0)
    frames = [
        {o.name: random_observation(o, stream) for o in policy.spec.observations}
        for _ in range(_FRAMES)
    ]
    policy.reset(0)
    runners: Dict[str, Callable[[Dict[str, np.ndarray]], Any]] = {"policy file": policy.act}
    if checkpoint is not None:
        runners["torch, eager"] = _torch_runner(checkpoint)
    wall: Dict[str, List[float]] = {name: [] for name in runners}
    cpu: Dict[str, List[float]] = {name: [] for name in runners}
    for step in range(_WARM_UP + steps):
        for name, run in runners.items():
            before, cpu_before = time.perf_counter(), time.process_time()
            run(frames[step % _FRAMES])
            if step >= _WARM_UP:
                wall[name].append(1e3 * (time.perf_counter() - before))
                cpu[name].append(1e3 * (time.process_time() - cpu_before))
    lines = [_line(name, wall[name], cpu[name]) for name in runners]
    if checkpoint is not None:
        ratio = np.median(cpu["torch, eager"]) / np.median(cpu["policy file"])
        lines.append("policy file faster by {:.1f} (CPU time, p50)".format(ratio))
    return "\n".join(lines)


def _line(name: str, wall: List[float], cpu: List[float]) -> str:
    p50, p99 = np.percentile(wall, [50, 99])
    return "{}: p50 {:.2f} ms, p99 {:.2f} ms wall; p50 {:.2f} ms CPU; {} steps, 1 thread".format(
        name, p50, p99, float(np.median(cpu)), len(wall)
    )


def _torch_runner(checkpoint: Path) -> Callable[[Dict[str, np.ndarray]], Any]:
    import torch

    from dreamer_nav.runs import load_run, to_tensors

    torch.set_num_threads(1)
    agent = load_run(checkpoint, "cpu").agent
    state = agent.initial(1)

    def run(observations: Dict[str, np.ndarray]) -> Any:
        nonlocal state
        rows = {name: value[None] for name, value in observations.items()}
        tensors = to_tensors(rows, agent.obs, np.zeros(1, bool), agent.device)
        action, state = agent.policy(tensors, state, "mode")
        return agent.action.to_env(action.numpy())

    return run
