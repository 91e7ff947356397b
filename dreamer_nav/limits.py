"""Which values of a setting can work at all; everything else is the user's business."""

from __future__ import annotations

import re
from typing import NamedTuple

from dreamer_nav.config import Config
from dreamer_nav.settings import ConfigError, flatten_fields

__all__ = ["check_limits", "limited_settings"]


class _Range(NamedTuple):
    low: int | float | None = None
    high: int | float | None = None
    above: int | float | None = None  # exclusive lower bound

    def holds(self, value: int | float) -> bool:
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
        )

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            return f"between {self.low:g} and {self.high:g}"
        if self.above is not None:
            upper = "" if self.high is None else f" and at most {self.high:g}"
            return f"greater than {self.above:g}{upper}"
        return f"at least {self.low:g}"


_COUNT = _Range(low=1)
_NOT_NEGATIVE = _Range(low=0)
_POSITIVE = _Range(above=0)
_SHARE = _Range(low=0, high=1)

_RANGES = {
    "seed": _Range(low=0, high=2**31 - 1),
    "threads": _NOT_NEGATIVE,
    "agent.rssm.deter": _COUNT,
    "agent.rssm.hidden": _COUNT,
    "agent.rssm.stoch": _COUNT,
    "agent.rssm.classes": _Range(low=2),
    "agent.encoder.cnn_depth": _COUNT,
    "agent.encoder.mlp_layers": _NOT_NEGATIVE,
    "agent.encoder.mlp_units": _COUNT,
    "agent.head.layers": _NOT_NEGATIVE,
    "agent.head.units": _COUNT,
    **{
        f"agent.{part}_opt.{name}": limit
        for part in ("model", "actor", "critic")
        for name, limit in {
            "lr": _POSITIVE,
            "eps": _POSITIVE,
            "clip_norm": _POSITIVE,
            "weight_decay": _SHARE,
        }.items()
    },
    "agent.kl_balance": _SHARE,
    "agent.kl_free_nats": _NOT_NEGATIVE,
    # Targets start one step late, the last value only bootstraps: fewer leave no action to learn.
    "agent.horizon": _Range(low=3),
    "agent.discount": _SHARE,
    "agent.lambda_": _SHARE,
    "agent.actor_grad_mix": _SHARE,
    "agent.actor_entropy": _NOT_NEGATIVE,
    "agent.slow_critic_every_updates": _COUNT,
    "agent.expl_noise": _NOT_NEGATIVE,
    "replay.capacity_steps": _COUNT,
    "replay.batch_size": _COUNT,
    "replay.batch_length": _Range(low=2),  # the prior learns from transitions
    "replay.min_episode_steps": _NOT_NEGATIVE,
    "train.steps": _COUNT,
    "train.prefill_steps": _NOT_NEGATIVE,
    "train.pretrain_updates": _NOT_NEGATIVE,
    "train.steps_per_update": _POSITIVE,
    "train.num_envs": _COUNT,
    "train.env_step_timeout_s": _POSITIVE,
    "train.log_every_steps": _COUNT,
    "train.eval_every_steps": _NOT_NEGATIVE,
    "train.eval_episodes": _COUNT,
    "train.video_every_steps": _NOT_NEGATIVE,
    "train.checkpoint_every_steps": _COUNT,
    "train.keep_checkpoints": _COUNT,
    "eval.episodes": _COUNT,
}
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_HEADS = ("decoder", "reward", "discount")


def check_limits(config: Config) -> None:
    """Refuse values that cannot work.

    Raises:
        ConfigError: names the setting, what was received and what is allowed.
    """
    for setting in flatten_fields(config):
        limit = _RANGES.get(setting.name)
        if limit is not None and not limit.holds(setting.default):
            raise ConfigError(f"'{setting.name}' must be {limit}, got {setting.default}")
    _check_words(config)
    _check_together(config)


def _check_words(config: Config) -> None:
    if not _DEVICE.fullmatch(config.device):
        raise ConfigError(f"'device' must be auto, cpu, cuda, cuda:N or mps, got '{config.device}'")
    if not isinstance(config.env.get("name"), str):
        raise ConfigError("'env.name' must name an environment; `dreamer-nav envs` lists them")
    for key in ("image_keys", "vector_keys"):
        pattern = getattr(config.agent.encoder, key)
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(
                f"'agent.encoder.{key}' must be a regular expression, got '{pattern}' ({error})"
            ) from error
    for head in config.agent.grad_heads:
        if head not in _HEADS:
            raise ConfigError(f"'agent.grad_heads' may hold {', '.join(_HEADS)}; got '{head}'")
    for key, scale in config.agent.loss_scales.items():
        if scale < 0:
            raise ConfigError(f"'agent.loss_scales.{key}' must be at least 0, got {scale}")


def _check_together(config: Config) -> None:
    train, replay = config.train, config.replay
    if train.prefill_steps > train.steps:
        raise ConfigError(
            f"'train.prefill_steps' ({train.prefill_steps}) must not exceed 'train.steps' "
            f"({train.steps}): nothing would be learned"
        )
    rows = replay.capacity_steps // train.num_envs
    if rows < replay.batch_length:
        raise ConfigError(
            f"'replay.capacity_steps' ({replay.capacity_steps}) over {train.num_envs} environments "
            f"must hold at least 'replay.batch_length' ({replay.batch_length}) steps of each"
        )


def limited_settings() -> set[str]:
    """Names of the settings whose range is checked."""
    return set(_RANGES)
