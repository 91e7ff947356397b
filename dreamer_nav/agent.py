"""The agent: act on observations, learn from replay batches.

`train_step` is one fixed-shape update without host synchronisation: noise is drawn first, the losses are pure
functions of batch, noise and parameters, and metrics stay tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dreamer_nav.behavior import Behavior, ImaginationNoise
from dreamer_nav.config import AgentConfig
from dreamer_nav.nets import init_like_keras
from dreamer_nav.optimizer import KerasAdam
from dreamer_nav.rssm import State
from dreamer_nav.spaces import ActionSpec, ObsSpec
from dreamer_nav.world_model import WorldModel

__all__ = ["Agent", "PolicyNoise", "PolicyState", "UpdateNoise", "choose_device"]


class PolicyState(NamedTuple):
    """What the policy carries from step to step: latent state and last action (B, A)."""

    latent: State
    action: Tensor


class PolicyNoise(NamedTuple):
    """Uniform noise of one step of acting: latents (B, S), actions (B,) or (B, A)."""

    latent: Tensor
    action: Tensor


class UpdateNoise(NamedTuple):
    """All randomness of one update: posterior latents (T, B, S) and the imagined rollout's."""

    observe: Tensor
    imagine: ImaginationNoise


def choose_device(name: str) -> torch.device:
    """Torch device for a setting: `auto` is cuda if there is one, else cpu; ValueError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise ValueError(f"Unknown device {name!r}; allowed: auto, cpu, cuda, cuda:N, mps.")
    device = torch.device(name)
    if device.type == "cuda":
        there = (device.index or 0) < torch.cuda.device_count()
    else:
        there = device.type == "cpu" or torch.backends.mps.is_available()
    if not there:
        raise ValueError(f"device {name!r} is not available on this machine; use cpu or auto.")
    return device


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


class Agent(nn.Module):
    """DreamerV2: world model, actor and critic with their optimizers."""

    updates: Tensor

    def __init__(
        self,
        obs: Sequence[ObsSpec],
        action: ActionSpec,
        config: AgentConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.obs, self.action, self.device = (
            config,
            tuple(obs),
            action,
            torch.device(device),
        )
        with torch.random.fork_rng(devices=[]):
            # Weights are drawn on the CPU, so that a seed gives the same ones on every device.
            torch.manual_seed(seed)
            self.model = WorldModel(obs, action.size, config)
            self.behavior = Behavior(self.model.rssm.feat_size, action, config)
            init_like_keras(self)
            self.behavior.update_slow_critic()
        self.to(self.device)
        self.model_opt = KerasAdam(self.model.parameters(), config.model_opt)
        self.actor_opt = KerasAdam(self.behavior.actor.parameters(), config.actor_opt)
        self.critic_opt = KerasAdam(self.behavior.critic.parameters(), config.critic_opt)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64, device=self.device))
        self.num_updates = 0  # the same count on the host: the slow critic's cadence needs no sync
        self.generator = torch.Generator(device=self.device).manual_seed(seed)
        if compile:
            self.compile_update()

    def compile_update(self) -> None:
        """Compile the two losses and the optimizers with torch.compile."""
        self._model_loss = torch.compile(self._model_loss)  # type: ignore[method-assign]
        self._behavior_loss = torch.compile(self._behavior_loss)  # type: ignore[method-assign]
        for opt in (self.model_opt, self.actor_opt, self.critic_opt):
            opt.step = torch.compile(opt.step)  # type: ignore[method-assign]

    def initial(self, batch: int) -> PolicyState:
        """State before the first observation of `batch` environments."""
        latent = self.model.rssm.initial(batch, self.device)
        return PolicyState(latent, torch.zeros(batch, self.action.size, device=self.device))

    @torch.no_grad()
    def policy(
        self,
        obs: Mapping[str, Tensor],
        state: PolicyState,
        mode: Literal["explore", "sample", "mode"] = "sample",
        noise: PolicyNoise | None = None,
    ) -> tuple[Tensor, PolicyState]:
        """Actions (B, A), one-hot or in [-1, 1], for one observation of each environment, and the next state.

        `obs` holds the observations (B, ...) and is_first (B,), which resets a row's state. The posterior is sampled
        in all modes, as in the original; `mode` only chooses the action: the likeliest one, a sample, or, while
        training, a sample with the configured exploration noise. `noise` is drawn if not given.
        """
        if noise is None:
            noise = self.draw_policy_noise(len(obs["is_first"]))
        latent = self.observe(obs, state, noise.latent)
        with self._autocast():
            policy = self.behavior.actor(latent.feat)
        action = policy.mode() if mode == "mode" else policy.sample(noise.action)
        if mode == "explore" and self.config.expl_noise:
            action = self._explore(action)
        return action, PolicyState(latent, action)

    def observe(self, obs: Mapping[str, Tensor], state: PolicyState, noise: Tensor) -> State:
        """The latent state after `state` and an observation, sampled with `noise` (B, S); see `policy`."""
        with self._autocast():
            embed = self.model.encoder(self.model.preprocess(obs))
            return self.model.rssm.obs_step(
                state.latent, state.action, embed, obs["is_first"], noise
            )

    def draw_policy_noise(
        self, batch: int, generator: torch.Generator | None = None
    ) -> PolicyNoise:
        """The randomness of `policy` for a batch, from a generator on any device or the agent's own."""
        action = (batch,) if self.action.discrete else (batch, self.action.size)
        latent = (batch, self.config.rssm.stoch)
        return PolicyNoise(
            self._uniform(*latent, generator=generator), self._uniform(*action, generator=generator)
        )

    def _explore(self, action: Tensor) -> Tensor:
        """Extra action noise while training: random choices, or clipped normal noise."""
        amount = self.config.expl_noise
        if self.action.discrete:
            index = (
                (self._uniform(len(action)) * self.action.size)
                .long()
                .clamp(max=self.action.size - 1)
            )
            random = torch.nn.functional.one_hot(index, self.action.size).to(action.dtype)
            return torch.where(self._uniform(len(action), 1) < amount, random, action)
        noise = torch.randn(action.shape, generator=self.generator, device=self.device)
        return (action + amount * noise).clamp(-1, 1)

    def _uniform(self, *shape: int, generator: torch.Generator | None = None) -> Tensor:
        source = generator or self.generator
        return torch.rand(shape, generator=source, device=source.device).to(self.device)

    def _autocast(self) -> torch.autocast:
        enabled = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def draw_noise(self, batch: int, length: int) -> UpdateNoise:
        """The randomness of one update for a (batch, length) replay batch, from the agent's own generator."""
        starts, horizon, stoch = batch * length, self.config.horizon, self.config.rssm.stoch
        action = (horizon, starts) if self.action.discrete else (horizon, starts, self.action.size)
        rollout = ImaginationNoise(self._uniform(horizon, starts, stoch), self._uniform(*action))
        return UpdateNoise(self._uniform(length, batch, stoch), rollout)

    def train_step(
        self, batch: Mapping[str, Tensor], noise: UpdateNoise | None = None
    ) -> dict[str, Tensor]:
        """One update of world model, actor and critic; returns metrics as tensors.

        `batch`: observations (B, T, ...), action (B, T, A), reward, is_first, is_terminal (B, T), on the agent's
        device.
        """
        if noise is None:
            noise = self.draw_noise(*batch["reward"].shape)
        model_loss, post, metrics = self._model_loss(batch, noise.observe)
        model_loss.backward()
        metrics["grad/model_norm"] = self.model_opt.step()
        # Start states come from the model as it was before its step, as in the original.
        start = State(*(x.detach().flatten(0, 1) for x in post))
        with _frozen(self.model):
            actor_loss, critic_loss, more = self._behavior_loss(
                start, batch["is_terminal"].flatten(), noise.imagine
            )
            (actor_loss + critic_loss).backward()
        metrics.update(more)
        metrics["grad/actor_norm"] = self.actor_opt.step()
        metrics["grad/critic_norm"] = self.critic_opt.step()
        # First copied after update 0, so that the slow critic starts equal to the online one.
        if self.num_updates % self.config.slow_critic_every_updates == 0:
            self.behavior.update_slow_critic()
        self.num_updates += 1
        self.updates += 1
        return metrics

    def _model_loss(
        self, batch: Mapping[str, Tensor], noise: Tensor
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        with self._autocast():
            return self.model.loss(batch, noise)

    def _behavior_loss(
        self, start: State, is_terminal: Tensor, noise: ImaginationNoise
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        with self._autocast():
            return self.behavior.loss(self.model, start, is_terminal.float(), noise)

    def load_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Load a state_dict and set the host-side update counter from it."""
        self.load_state_dict(tensors)
        self.num_updates = int(self.updates)
