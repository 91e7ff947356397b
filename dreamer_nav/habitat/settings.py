"""From a configuration of habitat-baselines to one of ours, and the structured block that it gets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from habitat_baselines.config.default_structured_configs import HabitatBaselinesRLConfig
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf, open_dict

from dreamer_nav.config import Config
from dreamer_nav.failures import UsageError
from dreamer_nav.presets import from_dict, load_config, to_dict

__all__ = ["DreamerBaselinesConfig", "evaluation_config", "run_config", "run_folder", "store"]

# Where habitat-baselines and habitat-lab have a setting of their own, theirs is the one.
_THEIRS = {
    "env.": "habitat.*",
    "eval.env.split": "habitat_baselines.eval.split",
    "eval.episodes": "habitat_baselines.test_episode_count",
    "seed": "habitat.seed",
    "device": "habitat_baselines.torch_gpu_id",
    "train.steps": "habitat_baselines.total_num_steps",
    "train.num_envs": "habitat_baselines.num_environments",
    "train.env_processes": "the variable HABITAT_ENV_DEBUG",
    "train.log_every_steps": "habitat_baselines.log_interval, in updates",
    "train.checkpoint_every_steps": (
        "habitat_baselines.rl.preemption.save_resume_state_interval, in updates"
    ),
}
_OURS_OF_ENV = ("env.resize",)


@dataclass
class DreamerConfig:
    """What there is to say of our agent.

    Attributes:
        preset: one of `dreamer-nav train --preset`, or a YAML file: networks, replay, update schedule.
        overrides: settings on top, `{agent: {rssm: {deter: 400}}}`; `dreamer-nav train --help` lists them.
    """

    preset: str = "habitat"
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass
class DreamerBaselinesConfig(HabitatBaselinesRLConfig):
    """The settings of habitat-baselines with a block for our agent."""

    dreamer: DreamerConfig = field(default_factory=DreamerConfig)


def store() -> None:
    """Make `/habitat_baselines: dreamer_config_base` known to Hydra; a second call changes nothing."""
    ConfigStore.instance().store(
        group="habitat_baselines", name="dreamer_config_base", node=DreamerBaselinesConfig
    )


def run_folder(config: Any) -> Path:
    """Replay, metrics and exact checkpoints: beside the checkpoint folder, whose every file would be evaluated."""
    folder = Path(config.habitat_baselines.checkpoint_folder)
    return folder.with_name(f"{folder.name}.run")


def run_config(config: Any) -> Config:
    """Our configuration of a training run; writes `habitat.yaml`, which its workers read, into the run's folder.

    Raises:
        UsageError: an override of what habitat-baselines sets itself, or a GPU that does not exist.
        ConfigError: a preset or setting that does not exist.
    """
    theirs = config.habitat_baselines
    ours = _preset(theirs.dreamer)
    every = ours.train.steps_per_update
    train = replace(
        ours.train,
        steps=_total_steps(theirs, ours),
        num_envs=int(theirs.num_environments),
        env_processes=not int(os.environ.get("HABITAT_ENV_DEBUG", 0)),
        log_every_steps=max(1, round(theirs.log_interval * every)),
        checkpoint_every_steps=max(
            1, round(theirs.rl.preemption.save_resume_state_interval * every)
        ),
    )
    file = run_folder(config).absolute() / "habitat.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_habitat(config, file, drop=("top_down_map",))
    return _checked(replace(ours, train=train, **_shared(config, ours, file)))


def evaluation_config(config: Any, ours: Config, file: Path) -> Config:
    """The configuration `ours` of a trained agent, in the evaluation of `config`; writes `file`, its environment's.

    How it is evaluated (time limit, sampling of actions) is what `config` says now, not what the training said.

    Raises:
        UsageError: a GPU that does not exist.
        ConfigError: a preset or setting that does not exist.
    """
    ours = replace(ours, eval=_preset(config.habitat_baselines.dreamer).eval)
    write_habitat(_with_video_cameras(config), file)
    return _checked(replace(ours, **_shared(config, ours, file)))


def write_habitat(config: Any, file: Path, drop: Sequence[str] = ()) -> None:
    """Write the `habitat` part, resolved, as a configuration that `HabitatEnv` takes.

    Args:
        config: habitat-baselines' whole configuration.
        file: to be written.
        drop: measures that are left out.
    """
    from sim_adapters.habitat.configuration import add_measures

    habitat = OmegaConf.create({"habitat": OmegaConf.to_container(config.habitat, resolve=True)})
    with open_dict(habitat):
        for name in drop:
            habitat.habitat.task.measurements.pop(name, None)
        add_measures(habitat.habitat)
    file.write_text(OmegaConf.to_yaml(habitat), encoding="utf-8")


def _with_video_cameras(config: Any) -> Any:
    """The configuration with `eval.extra_sim_sensors` where videos are wanted; the agent looks past them."""
    evaluation = config.habitat_baselines.eval
    if not evaluation.video_option:
        return config
    config = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    for agent in config.habitat.simulator.agents.values():
        agent.sim_sensors.update(evaluation.extra_sim_sensors)
    return config


def device_of(config: Any) -> str:
    """The torch device, as habitat-baselines chooses it: its GPU where there are any.

    Raises:
        UsageError: habitat_baselines.torch_gpu_id is none of this machine's.
    """
    if not torch.cuda.is_available():
        return "cpu"
    wanted, count = int(config.habitat_baselines.torch_gpu_id), torch.cuda.device_count()
    if not 0 <= wanted < count:
        raise UsageError(
            f"the GPU {wanted} of habitat_baselines.torch_gpu_id does not exist: {count} here, "
            "counted from 0; CUDA_VISIBLE_DEVICES= computes on the CPU"
        )
    return f"cuda:{wanted}"


def _preset(block: Any) -> Config:
    overrides: Any = OmegaConf.to_container(block.overrides, resolve=True)
    for name in _leaves(overrides, ""):
        for taken, instead in _THEIRS.items():
            same = name.startswith(taken) if taken.endswith(".") else name == taken
            if same and name not in _OURS_OF_ENV:
                raise UsageError(
                    f"habitat_baselines.dreamer.overrides: {name} is set by {instead}; set that"
                )
    return load_config(str(block.preset), overrides)


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _total_steps(theirs: Any, ours: Config) -> int:
    if theirs.num_updates == -1:
        return int(theirs.total_num_steps)
    t = ours.train
    learning = max(0, theirs.num_updates - t.pretrain_updates) * t.steps_per_update
    return int(t.prefill_steps + learning)


def _shared(config: Any, ours: Config, file: Path) -> dict[str, Any]:
    """What training and evaluation take from habitat-baselines alike."""
    count = int(config.habitat_baselines.test_episode_count)
    resize = {"resize": ours.env["resize"]} if "resize" in ours.env else {}
    limits = {k: v for k, v in ours.eval.env.items() if k == "max_steps"}
    split = {"split": str(config.habitat_baselines.eval.split)}
    episodes = count if count > 0 else 2**31 - 1  # all there are
    return {
        "env": {"name": "habitat", "config": str(file), **resize},
        "eval": replace(ours.eval, episodes=episodes, env={**limits, **split}),
        "seed": int(config.habitat.seed),
        "device": device_of(config),
    }


def _checked(ours: Config) -> Config:
    return from_dict(to_dict(ours))
