"""A run's folder, the environments and the agent its configuration describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from dreamer_nav.agent import Agent, choose_device
from dreamer_nav.checkpoint import CheckpointError, latest_checkpoint, load_checkpoint
from dreamer_nav.config import Config
from dreamer_nav.presets import from_dict
from dreamer_nav.spaces import ActionSpec, ObsSpec, select_observations

__all__ = [
    "AGENT_PREFIX",
    "LoadedRun",
    "agent_tensors",
    "build_agent",
    "build_env",
    "describe_spaces",
    "load_run",
    "make_envs",
    "to_tensors",
]

AGENT_PREFIX = "agent."  # of the agent's tensors in a checkpoint


class LoadedRun(NamedTuple):
    """An agent read back from a checkpoint, with what it was trained on."""

    config: Config
    agent: Agent
    step: int
    meta: dict[str, Any]
    run_dir: Path


def build_env(config: Config, **overrides: Any) -> gym.Env:
    """One environment: the configuration's, with some settings replaced.

    In this process, or where the configuration names another interpreter, in a worker's.
    """
    from sim_adapters.registry import make

    settings = {**config.env, **overrides}
    name = settings.pop("name")
    if not config.train.env_python:
        return make(name, **settings)
    from sim_adapters.vector import EnvSpec
    from sim_adapters.worker_env import WorkerEnv

    spec = EnvSpec(name, settings, python=config.train.env_python)
    return WorkerEnv(spec, step_timeout_s=config.train.env_step_timeout_s)


def make_envs(config: Config) -> Any:
    """The vector of training environments."""
    from sim_adapters.vector import EnvSpec, VectorEnv

    settings = dict(config.env)
    name = settings.pop("name")
    spec = EnvSpec(name, settings, python=config.train.env_python or None)
    return VectorEnv(
        [spec] * config.train.num_envs,
        processes=config.train.env_processes,
        step_timeout_s=config.train.env_step_timeout_s,
    )


def describe_spaces(
    observation_space: gym.Space, action_space: gym.Space, config: Config
) -> tuple[tuple[ObsSpec, ...], ActionSpec]:
    """What the agent reads and does in an environment with these spaces; ValueError if it can't."""
    if not isinstance(observation_space, gym.spaces.Dict):
        raise ValueError(
            f"Observations must be a Dict space, got {observation_space}; "
            "sim_adapters.gymnasium_env.FlatSpaces turns a single one into a Dict."
        )
    encoder = config.agent.encoder
    obs = select_observations(observation_space, encoder.image_keys, encoder.vector_keys)
    return obs, ActionSpec.from_space(action_space)


def build_agent(config: Config, obs: Sequence[ObsSpec], action: ActionSpec) -> Agent:
    """A new agent on the configured device."""
    device = choose_device(config.device)
    return Agent(obs, action, config.agent, device=device, seed=config.seed, compile=config.compile)


def to_tensors(
    obs: Mapping[str, np.ndarray],
    specs: Sequence[ObsSpec],
    is_first: np.ndarray,
    device: torch.device,
) -> dict[str, Tensor]:
    """A batch of observations (N, ...) as the agent's policy takes them; scalars become vectors of one."""
    lead = is_first.shape
    out = {s.name: torch.from_numpy(np.array(obs[s.name]).reshape(*lead, *s.shape)) for s in specs}
    out["is_first"] = torch.from_numpy(np.array(is_first))
    return {k: v.to(device, non_blocking=True) for k, v in out.items()}


def agent_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The agent's state_dict among a checkpoint's tensors."""
    return {
        k.removeprefix(AGENT_PREFIX): v for k, v in tensors.items() if k.startswith(AGENT_PREFIX)
    }


def _find_checkpoint(path: Path) -> tuple[Path, Path]:
    """Run folder and checkpoint folder for a path that names either."""
    if not path.exists():
        raise FileNotFoundError(f"No run or checkpoint at {path}; train one, or check the path.")
    if (path / "meta.json").exists():
        return path.resolve().parent.parent, path
    checkpoint = latest_checkpoint(path / "checkpoints")
    if checkpoint is None:
        raise CheckpointError(f"{path} holds no checkpoint (looked in {path / 'checkpoints'}).")
    return path, checkpoint


def load_run(path: Path, device: str | None = None) -> LoadedRun:
    """The agent of a run folder's newest checkpoint, or of one checkpoint; needs no simulator.

    Raises FileNotFoundError or CheckpointError with one sentence naming the file.
    """
    run_dir, checkpoint = _find_checkpoint(Path(path))
    tensors, meta = load_checkpoint(checkpoint)
    config = from_dict(meta["config"])
    obs = [ObsSpec.from_json(x) for x in meta["obs"]]
    # Not compiled: reading a policy back makes no updates.
    here = replace(config, device=device or config.device, compile=False)
    agent = build_agent(here, obs, ActionSpec.from_json(meta["action"]))
    agent.load_weights(agent_tensors(tensors))
    return LoadedRun(config, agent, int(meta["step"]), meta, run_dir)
