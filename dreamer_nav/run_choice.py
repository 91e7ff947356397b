"""Which run and which environment a command line means, checked before any work begins."""

from __future__ import annotations

import os
import time
from pathlib import Path

from dreamer_nav.config import Config
from dreamer_nav.failures import UsageError
from dreamer_nav.presets import DEFAULT_PRESET, changed_settings, load_config, load_yaml, override
from dreamer_nav.settings import nearest

__all__ = [
    "check_device",
    "check_environment",
    "check_output",
    "new_run",
    "require",
    "resumed_run",
]

# What may change when a run goes on: how long, how often it reports, where it computes.
_RESUMABLE = (
    "compile",
    "device",
    "threads",
    "train.steps",
    "train.env_python",
    "train.env_step_timeout_s",
    "train.log_every_steps",
    "train.eval_every_steps",
    "train.eval_episodes",
    "train.video_every_steps",
    "train.checkpoint_every_steps",
    "train.keep_checkpoints",
    "eval.episodes",
    "eval.env",
    "eval.sample_actions",
)


def new_run(preset: str | None, run_dir: Path | None, settings: list[str]) -> tuple[Config, Path]:
    """The configuration and the folder of a new run."""
    preset = preset or DEFAULT_PRESET
    config = load_config(preset, settings)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    run_dir = run_dir or Path("runs") / f"{Path(preset).stem}-{stamp}"
    if run_dir.exists() and not run_dir.is_dir():
        raise UsageError(f"{run_dir} is a file; --run names a folder")
    if run_dir.is_dir() and any(run_dir.iterdir()):
        if (run_dir / "config.yaml").exists():
            way_out = f"go on with it (--run {run_dir} --resume) or choose another folder"
        else:
            way_out = "it is not empty and no run; choose another folder or empty it"
        raise UsageError(f"{run_dir} exists already; {way_out}")
    return config, run_dir


def resumed_run(
    run_dir: Path | None, checkpoint: Path | None, settings: list[str]
) -> tuple[Config, Path]:
    """The configuration and the folder of a run to go on with."""
    if checkpoint is not None:
        require(checkpoint, "checkpoint")
        folder = checkpoint.absolute().parent.parent
        if run_dir is not None and run_dir.resolve() != folder.resolve():
            raise UsageError(f"{checkpoint} is not a checkpoint of the run {run_dir}")
        run_dir = run_dir or folder
    if run_dir is None:
        raise UsageError("--resume needs the run's folder: --run DIR --resume")
    require(run_dir, "run")
    if not (run_dir / "config.yaml").is_file():
        raise UsageError(
            f"{run_dir} holds no config.yaml: it is no run, or stopped before it began; "
            "start one in an empty folder"
        )
    before = load_yaml(run_dir / "config.yaml")
    config = override(before, settings)
    changed = [c for c in changed_settings(before, config) if c[0] not in _RESUMABLE]
    if changed:
        listed = ", ".join(f"{name} ({old} -> {new})" for name, old, new in changed)
        raise UsageError(f"a resumed run cannot change {listed}; start a new run for that")
    return config, run_dir


def require(path: Path, what: str) -> None:
    """Raise with the nearest sibling's name unless the path exists."""
    if path.exists():
        return
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = nearest(path.name, sorted(siblings))
    hint = f". Did you mean {path.parent / close}?" if close else ""
    raise UsageError(f"there is no {what} {path}{hint}")


def check_environment(config: Config) -> None:
    """Build the training and the evaluation environment once, where training will build them.

    A wrong option of the evaluation would else be found when the training is over.

    Raises:
        UsageError: an option that does not fit.
        EnvStartError, UnknownEnvironment, UnknownOption, SimulatorNotInstalled: see sim_adapters.
    """
    from sim_adapters import registry
    from sim_adapters.vector import EnvSpec, VectorEnv

    name, in_processes = config.env["name"], config.train.env_processes
    if ":" not in name:
        registry.describe(name)  # the nearest known name is found here, not in a worker
    to_build = [("eval.env", {**config.env, **config.eval.env})] if config.eval.env else []
    if not in_processes:  # a worker's failure comes as one line by itself
        to_build.insert(0, ("env", config.env))
    for what, env in to_build:
        options = {k: v for k, v in env.items() if k != "name"}
        spec = EnvSpec(name, options, python=config.train.env_python or None)
        try:
            VectorEnv([spec], processes=in_processes).close()
        except ValueError as error:
            raise UsageError(f"{what}: {error}") from error


def check_output(path: Path | None) -> None:
    """Find out before the work whether its result can be written."""
    if path is None:
        return
    folder = path.absolute().parent
    if path.is_dir():
        raise UsageError(f"{path} is a folder; --json names a file")
    if not folder.is_dir():
        raise UsageError(f"{path} cannot be written: there is no folder {folder}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise UsageError(f"{path} cannot be written: no permission")


def check_device(name: str) -> None:
    """Refuse a device that this machine does not have."""
    from dreamer_nav.agent import choose_device

    try:
        choose_device(name)
    except (ValueError, RuntimeError) as error:
        raise UsageError(str(error)) from error
