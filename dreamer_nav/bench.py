"""Speed of a configuration here: updates and environment steps per second, alone and together.

Updates learn from one random batch of the configured sizes, so that replay and the simulator do not enter. Every
figure is the median of repeated timings after a warm-up, with the quartiles around it.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from dreamer_nav.agent import Agent
from dreamer_nav.atomic import write_atomic
from dreamer_nav.config import Config
from dreamer_nav.driver import Driver
from dreamer_nav.process import configure_process
from dreamer_nav.runs import build_agent, describe_spaces, make_envs, to_tensors
from dreamer_nav.spaces import ActionSpec, ObsSpec

__all__ = ["Rate", "bench", "parameter_counts", "random_batch", "spaces_of"]


class Rate(NamedTuple):
    """How often something happens in a second: median and quartiles of `timings` timings."""

    median: float
    low: float
    high: float
    timings: int

    def __str__(self) -> str:
        low, median, high = (f"{x:.3g}" if x < 100 else f"{x:.0f}" for x in self._ordered())
        return f"{median:>7}  (quartiles {low} - {high}, {self.timings} timings)"

    def _ordered(self) -> tuple[float, float, float]:
        return self.low, self.median, self.high


def bench(
    config: Config, *, json_path: Path | None = None, seconds: float = 20.0, profile: int = 0
) -> dict[str, Any]:
    """Measure a configuration, print the figures and return them.

    `seconds` is how long each of the three measurements may take (never under three timings of an update);
    `profile` adds a table of that many operators of one update, the costliest first. `json_path` also gets the figures.

    Raises:
        SimulatorNotInstalled, UnknownEnvironment: the spaces of an environment that is not installed are not known.
    """
    configure_process(config.threads)
    envs, why_not = _make_envs(config)
    try:
        observations, actions = _spaces(envs, config)
        obs, action = describe_spaces(observations, actions, config)
        agent = build_agent(config, obs, action)
        figures = _describe(config, agent)
        _print_description(figures)
        _measure(config, agent, envs, why_not, figures, seconds)
    finally:
        if envs is not None:
            envs.close()
    if profile:
        print(_profile(agent, random_batch(config, obs, action, agent.device), profile))
    if json_path is not None:
        write_atomic(Path(json_path), json.dumps(figures, indent=2).encode())
    return figures


# -- what is measured ----------------------------------------------------------------------------


def _image_space(channels: int) -> gym.spaces.Box:
    return gym.spaces.Box(0, 255, (64, 64, channels), np.uint8)


def _atari_spaces() -> tuple[gym.Space, gym.Space]:
    return gym.spaces.Dict({"image": _image_space(1)}), gym.spaces.Discrete(18)


def _crafter_spaces() -> tuple[gym.Space, gym.Space]:
    return gym.spaces.Dict({"image": _image_space(3)}), gym.spaces.Discrete(17)


def _dmc_spaces() -> tuple[gym.Space, gym.Space]:
    """Those of walker_walk."""
    vectors = {"height": 1, "orientations": 14, "velocity": 9}
    boxes: dict[str, gym.Space] = {
        k: gym.spaces.Box(-np.inf, np.inf, (n,), np.float32) for k, n in vectors.items()
    }
    return gym.spaces.Dict({"image": _image_space(3), **boxes}), gym.spaces.Box(-1, 1, (6,))


# So that an update can be measured where the simulator is not installed.
_KNOWN_SPACES: dict[str, Callable[[], tuple[gym.Space, gym.Space]]] = {
    "atari": _atari_spaces,
    "crafter": _crafter_spaces,
    "dmc": _dmc_spaces,
}


def spaces_of(name: str) -> tuple[gym.Space, gym.Space]:
    """Observation and action space of a known environment that is not installed; KeyError if unknown."""
    return _KNOWN_SPACES[name]()


def _make_envs(config: Config) -> tuple[Any, str]:
    """The vector of environments, or None and one line saying why there is none."""
    from sim_adapters.registry import SimulatorNotInstalled, UnknownEnvironment

    try:
        return make_envs(config), ""
    except (SimulatorNotInstalled, UnknownEnvironment) as error:
        if config.env["name"] not in _KNOWN_SPACES:
            raise
        return None, str(error).splitlines()[0]


def _spaces(envs: Any, config: Config) -> tuple[gym.Space, gym.Space]:
    if envs is None:
        return spaces_of(config.env["name"])
    return envs.single_observation_space, envs.single_action_space


def random_batch(
    config: Config, obs: tuple[ObsSpec, ...], action: ActionSpec, device: torch.device
) -> dict[str, Tensor]:
    """A random replay batch of the configured sizes (B, T, ...), as `Agent.train_step` takes it; always the same."""
    rng = np.random.default_rng(0)
    lead = (config.replay.batch_size, config.replay.batch_length)
    batch: dict[str, np.ndarray] = {}
    for spec in obs:
        if spec.dtype == "uint8":
            batch[spec.name] = rng.integers(256, size=(*lead, *spec.shape)).astype(np.uint8)
        else:
            low, high = (spec.low, spec.high) if np.isfinite(spec.high - spec.low) else (-1, 1)
            batch[spec.name] = rng.uniform(low, high, (*lead, *spec.shape)).astype(np.float32)
    batch["action"] = action.random(rng, lead[0] * lead[1]).reshape(*lead, action.size)
    batch["reward"] = rng.standard_normal(lead).astype(np.float32)
    batch["is_first"] = rng.random(lead) < 0.02
    batch["is_first"][:, 0] = True
    batch["is_terminal"] = rng.random(lead) < 0.02
    return {k: torch.from_numpy(v).to(device) for k, v in batch.items()}


def parameter_counts(agent: Agent) -> dict[str, int]:
    """Parameters of each part of the agent."""
    parts = {
        **{k: m for k, m in agent.model.named_children()},
        "actor": agent.behavior.actor,
        "critic": agent.behavior.critic,
    }
    return {k: sum(p.numel() for p in m.parameters()) for k, m in parts.items()}


# -- timing --------------------------------------------------------------------------------------


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _rate(once: Callable[[], int], device: torch.device, seconds: float, warm_up: int = 2) -> Rate:
    """Rate of what `once` does as often as it returns, timed call by call for about `seconds`."""
    for _ in range(warm_up):
        once()
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while len(rates) < 3 or (time.perf_counter() < end and len(rates) < 1000):
        _synchronize(device)
        begin = time.perf_counter()
        count = once()
        _synchronize(device)
        rates.append(count / (time.perf_counter() - begin))
    low, median, high = statistics.quantiles(rates, n=4, method="inclusive")
    return Rate(median, low, high, len(rates))


class _Runner:
    """Environments, agent and a fixed batch, stepped as training steps them, without replay."""

    def __init__(self, config: Config, agent: Agent, envs: Any, batch: dict[str, Tensor]) -> None:
        self.config, self.agent, self.batch = config, agent, batch
        self.rng = np.random.default_rng(0)
        self.driver = Driver(
            envs, agent.obs, agent.action, config.seed, lambda rows, ids: None, lambda info: None
        )
        self.driver.start()
        self.state = agent.initial(self.driver.num)
        self.due = 0.0

    def random_steps(self, least: int) -> int:
        """At least so many agent steps with random actions; returns how many."""
        steps = 0
        while steps < least:
            self.driver.send(self.agent.action.random(self.rng, self.driver.num))
            steps += self.driver.receive()
        return steps

    def train_steps(self, least: int) -> int:
        """At least so many agent steps of the policy with their updates; returns how many."""
        steps = 0
        while steps < least:
            d = self.driver
            obs = to_tensors(d.obs, self.agent.obs, d.is_first, self.agent.device)
            action, self.state = self.agent.policy(obs, self.state, "explore")
            d.send(action.cpu().numpy())
            self.due += d.num / self.config.train.steps_per_update
            while self.due >= 1:
                self.agent.train_step(self.batch)
                self.due -= 1
            steps += d.receive()
        return steps


def _measure(
    config: Config,
    agent: Agent,
    envs: Any,
    why_not: str,
    figures: dict[str, Any],
    seconds: float,
) -> None:
    """Fill in and print the three rates."""
    batch = random_batch(config, agent.obs, agent.action, agent.device)

    def report(name: str, title: str, rate: Rate) -> None:
        figures[name] = rate._asdict()
        print(f"{title:<34}{rate}", flush=True)

    def update() -> int:
        agent.train_step(batch)
        return 1

    report("updates_per_s", "updates/s, agent alone", _rate(update, agent.device, seconds))
    if envs is None:
        figures["not_measured"] = why_not
        print(f"environment steps/s not measured: {why_not}")
        return
    runner = _Runner(config, agent, envs, batch)
    steps = max(100, 4 * envs.num_envs)
    alone = _rate(lambda: runner.random_steps(steps), agent.device, seconds)
    report("env_steps_per_s", "environment steps/s, random actions", alone)
    # Whole rounds of the schedule, so that each timing holds the same number of updates.
    steps = max(round(2 * config.train.steps_per_update), envs.num_envs)
    both = _rate(lambda: runner.train_steps(steps), agent.device, seconds, warm_up=1)
    report("training_steps_per_s", "training steps/s, both together", both)


# -- what is printed -----------------------------------------------------------------------------


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _describe(config: Config, agent: Agent) -> dict[str, Any]:
    """Sizes, parameter counts and hardware."""
    device = agent.device
    return {
        "env": dict(config.env),
        "observations": {s.name: [*s.shape, s.dtype] for s in agent.obs},
        "actions": {"discrete": agent.action.discrete, "size": agent.action.size},
        "batch": [config.replay.batch_size, config.replay.batch_length],
        "horizon": config.agent.horizon,
        "precision": config.agent.precision,
        "compile": config.compile,
        "num_envs": config.train.num_envs,
        "env_processes": config.train.env_processes,
        "steps_per_update": config.train.steps_per_update,
        "parameters": parameter_counts(agent),
        "hardware": {
            "cpu": _cpu_model(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        },
    }


def _print_description(figures: dict[str, Any]) -> None:
    counts, hardware = figures["parameters"], figures["hardware"]
    obs = ", ".join(
        f"{k} {'x'.join(map(str, v[:-1]))} {v[-1]}" for k, v in figures["observations"].items()
    )
    kind = "discrete" if figures["actions"]["discrete"] else "continuous"
    batch, length = figures["batch"]
    print(
        f"hardware      {hardware['cpu']}, {hardware['threads']} threads, torch {hardware['torch']}, "
        f"{hardware['device']}\n"
        f"environment   {figures['env']['name']}: {obs}; {figures['actions']['size']} {kind} actions; "
        f"{figures['num_envs']} at a time{', in processes' if figures['env_processes'] else ''}\n"
        f"update        batch {batch}x{length}, horizon {figures['horizon']}, {figures['precision']}"
        f"{', compiled' if figures['compile'] else ''}; one every {figures['steps_per_update']:g} steps\n"
        f"parameters    {sum(counts.values()):,}: "
        + ", ".join(f"{k} {v:,}" for k, v in counts.items())
        + "\n",
        flush=True,
    )


def _profile(agent: Agent, batch: dict[str, Tensor], rows: int) -> str:
    """Operators of one update by the time spent in them."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    cuda = agent.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
    with torch_profile(activities=activities, record_shapes=True) as profiler:
        agent.train_step(batch)
        _synchronize(agent.device)
    averages = profiler.key_averages(group_by_input_shape=True)
    order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    table: str = averages.table(sort_by=order, row_limit=rows, max_shapes_column_width=70)
    return table
