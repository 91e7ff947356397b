"""An agent in a file `ckpt.N.pth` as habitat-baselines names them: plain containers, read without pickle."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dreamer_nav.agent import Agent
from dreamer_nav.checkpoint import CheckpointError
from dreamer_nav.config import Config
from dreamer_nav.presets import from_dict, to_dict
from dreamer_nav.runs import build_agent, load_run
from dreamer_nav.spaces import ActionSpec, ObsSpec

__all__ = [
    "UNREADABLE",
    "SavedAgent",
    "list_agents",
    "load_agent",
    "open_agent",
    "read_file",
    "save_agent",
    "write_file",
]

# What torch raises of bytes that are no checkpoint, or one with pickled objects.
UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)
_KEYS = ("state_dict", "dreamer", "extra_state")


class SavedAgent(NamedTuple):
    """An agent read back, its run's settings, and the agent steps it was trained for."""

    agent: Agent
    config: Config
    step: int


def save_agent(
    path: Path, agent: Agent, ours: Config, theirs: Mapping[str, Any], extra: Mapping[str, Any]
) -> None:
    """Write an agent, whole or not at all.

    Args:
        path: of the file.
        agent: with its optimizers.
        ours: the run's settings.
        theirs: habitat-baselines' configuration as nested dictionaries.
        extra: "step" and "wall_time" (s), as its own trainers save them.
    """
    content = {
        "state_dict": {k: v.detach().cpu().clone() for k, v in agent.state_dict().items()},
        "config": dict(theirs),
        "dreamer": {
            "config": to_dict(ours),
            "obs": [spec.to_json() for spec in agent.obs],
            "action": agent.action.to_json(),
        },
        "extra_state": dict(extra),
    }
    write_file(path, content)


def write_file(path: Path, content: Mapping[str, Any]) -> None:
    """`torch.save` that a kill cannot leave half done."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        torch.save(dict(content), temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_file(path: Path) -> dict[str, Any]:
    """What `write_file` wrote, on the CPU.

    Raises:
        CheckpointError: there is no such file, or it is none of ours; one sentence.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint file {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = str(error).strip().split("\n", 1)[0].split(". ")[0]
        raise CheckpointError(
            f"{path} is damaged, or of another trainer (trainer_name=dreamer reads what it wrote): {reason}"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a checkpoint of trainer_name=dreamer")
    return content


def load_agent(path: Path, device: str) -> SavedAgent:
    """The agent of a checkpoint file.

    Raises:
        CheckpointError: the file is missing, damaged or none of this trainer's.
    """
    content = read_file(path)
    missing = [key for key in _KEYS if key not in content]
    if missing:
        raise CheckpointError(
            f"{path} is not a checkpoint of trainer_name=dreamer: it has no {missing[0]!r}"
        )
    ours = from_dict(content["dreamer"]["config"])
    obs = [ObsSpec.from_json(spec) for spec in content["dreamer"]["obs"]]
    action = ActionSpec.from_json(content["dreamer"]["action"])
    agent = build_agent(replace(ours, device=device, compile=False), obs, action)
    agent.load_weights(content["state_dict"])
    return SavedAgent(agent, ours, int(content["extra_state"]["step"]))


def open_agent(path: Path, device: str) -> SavedAgent:
    """The agent of a `ckpt.N.pth`, of a run's folder, or of one of its checkpoints.

    Raises:
        FileNotFoundError, CheckpointError: there is none at the path; one sentence.
    """
    if path.suffix == ".pth":
        return load_agent(path, device)
    run = load_run(path, device)
    return SavedAgent(run.agent, run.config, run.step)


def list_agents(folder: Path) -> list[tuple[int, Path]]:
    """Number and path of every `ckpt.N.pth` in a folder, by number."""
    found = []
    for path in folder.glob("ckpt.*.pth"):
        number = path.name.split(".")[1]
        if number.isdecimal():
            found.append((int(number), path))
    return sorted(found)
