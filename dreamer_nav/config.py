"""The configuration schema: every setting's name, type, default and meaning, in one place.

Defaults are DreamerV2's own (the released code's `defaults` block); presets stack on top of them. Each field's
`help` text is what `--help` prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "AgentConfig",
    "Config",
    "EncoderConfig",
    "EvalConfig",
    "HeadConfig",
    "OptimizerConfig",
    "RSSMConfig",
    "ReplayConfig",
    "TrainConfig",
]


def _f(default: Any, help: str) -> Any:
    """A field with its help text; mutable defaults are copied per instance."""
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class RSSMConfig:
    """Sizes of the recurrent state-space model."""

    deter: int = _f(1024, "size of the deterministic (GRU) state")
    hidden: int = _f(1024, "units of the dense layers around the GRU")
    stoch: int = _f(32, "number of categorical latents")
    classes: int = _f(32, "classes of each categorical latent")
    layer_norm: bool = _f(False, "layer norm in the dense layers (the GRU always has one)")


@dataclass(frozen=True)
class EncoderConfig:
    """Image and vector encoder; the decoder mirrors it."""

    image_keys: str = _f(".*", "regular expression choosing the image observations used")
    vector_keys: str = _f(".*", "regular expression choosing the vector observations used")
    polar_keys: str = _f("", "vector observations (rho, phi) that enter as (rho, cos phi, sin phi)")
    cnn_depth: int = _f(48, "channels of the first convolution; each later one doubles them")
    mlp_layers: int = _f(4, "dense layers for vector observations")
    mlp_units: int = _f(400, "units of those layers")
    layer_norm: bool = _f(False, "layer norm on the channels of every encoder and decoder layer")


@dataclass(frozen=True)
class HeadConfig:
    """Dense heads: reward, discount, actor and critic."""

    layers: int = _f(4, "hidden layers")
    units: int = _f(400, "units of each hidden layer")
    layer_norm: bool = _f(False, "layer norm in every hidden layer")


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam as Keras computes it, with decoupled weight decay that does not scale with the rate."""

    lr: float = _f(1e-4, "learning rate")
    eps: float = _f(1e-5, "added to sqrt(v) outside the bias correction, as Keras does")
    clip_norm: float = _f(100.0, "global gradient norm is clipped to this")
    weight_decay: float = _f(1e-6, "variables shrink by this factor every update, whatever lr is")


@dataclass(frozen=True)
class AgentConfig:
    """The DreamerV2 agent: world model, actor and critic."""

    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    model_opt: OptimizerConfig = field(default_factory=OptimizerConfig)
    actor_opt: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=8e-5))
    critic_opt: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=2e-4))

    reward_transform: Literal["identity", "sign", "tanh"] = _f(
        "identity", "applied to rewards before the world model sees them"
    )
    discount_head: bool = _f(True, "learn episode ends; otherwise a constant discount")
    grad_heads: tuple[str, ...] = _f(
        ("decoder", "reward", "discount"), "heads whose gradient reaches the world model"
    )
    loss_scales: dict[str, float] = _f(
        {"kl": 1.0, "reward": 1.0, "discount": 1.0},
        "weight of each world-model loss; an observation's name weighs its reconstruction (1 if absent)",
    )
    kl_balance: float = _f(0.8, "share of the KL gradient that trains the prior")
    kl_free_nats: float = _f(0.0, "KL below this many nats has no gradient")
    kl_free_average: bool = _f(
        True, "free nats apply to the batch mean (as the original), else per state"
    )

    horizon: int = _f(15, "imagined agent steps")
    discount: float = _f(0.99, "discount factor per agent step")
    lambda_: float = _f(0.95, "lambda of the imagined return")
    actor_grad: Literal["auto", "reinforce", "dynamics", "both"] = _f(
        "auto", "actor gradient; auto: reinforce for discrete actions, dynamics for continuous"
    )
    actor_grad_mix: float = _f(0.1, "with `both`: weight of dynamics; reinforce has the rest")
    actor_entropy: float = _f(2e-3, "entropy bonus")
    truncated_normal_grad: Literal["original", "exact"] = _f(
        "original", "pathwise gradient of continuous actions: as the original's TF op, or exact"
    )
    aligned_baseline: bool = _f(
        False,
        "reinforce baseline (v - r) / discount, which the return starts after; the original's is v",
    )
    slow_critic_every_updates: int = _f(100, "the slow critic is copied every this many updates")
    precision: Literal["float32", "bfloat16"] = _f(
        "float32", "matrix-product precision; norms, logits, losses and KL stay float32"
    )
    expl_noise: float = _f(
        0.0, "training actions: probability of (or std of) extra random action noise"
    )


@dataclass(frozen=True)
class ReplayConfig:
    """Replay on disk and how it is sampled."""

    capacity_steps: int = _f(2_000_000, "agent steps kept; older ones are overwritten")
    batch_size: int = _f(16, "sequences in a batch (B)")
    batch_length: int = _f(50, "agent steps in a sequence (T)")
    sample: Literal["steps", "episodes"] = _f(
        "steps", "uniform over steps (slices may span episodes), or over episodes as the original"
    )
    prioritize_ends: bool = _f(False, "with `episodes`: favour the window at an episode's end")
    min_episode_steps: int = _f(
        0, "with `episodes`: those of fewer agent steps are never sampled (the original: 50)"
    )


@dataclass(frozen=True)
class TrainConfig:
    """The training loop. Steps are agent steps: one action of one environment.

    An environment that repeats actions (Atari: 4 frames) makes several simulator steps in one of them.
    """

    steps: int = _f(1_000_000, "agent steps (Atari: of 4 frames) in all, prefill included")
    prefill_steps: int = _f(10_000, "agent steps by the random policy before the first update")
    pretrain_updates: int = _f(1, "updates made when the prefill ends")
    steps_per_update: float = _f(5.0, "agent steps for each update after the prefill")
    num_envs: int = _f(1, "environments stepped in parallel")
    env_processes: bool = _f(False, "each environment in a process of its own")
    env_python: str = _f("", "interpreter of the environment processes (empty: this one)")
    env_step_timeout_s: float = _f(60.0, "an environment process silent this long is restarted")
    log_every_steps: int = _f(1_000, "agent steps between metric lines")
    eval_every_steps: int = _f(0, "agent steps between evaluations (0: only at the end)")
    eval_episodes: int = _f(20, "episodes of each of those evaluations")
    video_every_steps: int = _f(0, "agent steps between open-loop videos (0: only at the end)")
    checkpoint_every_steps: int = _f(5_000, "agent steps between checkpoints")
    keep_checkpoints: int = _f(2, "checkpoints kept")


@dataclass(frozen=True)
class EvalConfig:
    """The evaluation: which episodes, which policy mode."""

    episodes: int = _f(100, "episodes evaluated")
    env: dict[str, Any] = _f({}, "environment settings that differ in evaluation (split: val)")
    sample_actions: bool = _f(False, "sample actions; otherwise their mode (states are sampled)")


@dataclass(frozen=True)
class Config:
    """Everything a run is made of; saved resolved as config.yaml in its folder."""

    env: dict[str, Any] = _f(
        {"name": "dummy"}, "`name` of the adapter and its constructor's keyword arguments"
    )
    seed: int = _f(0, "seeds weights, sampling, actions and environments")
    device: str = _f("auto", "cpu, cuda, cuda:N, mps, or auto (cuda if there, else cpu)")
    threads: int = _f(0, "CPU threads of torch (0: torch's own choice)")
    compile: bool = _f(False, "compile the update with torch.compile")
    agent: AgentConfig = field(default_factory=AgentConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
