"""The world model: encoder, RSSM and heads; its losses by name, each (B, T)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamer_nav.config import AgentConfig
from dreamer_nav.distributions import OneHot, bernoulli_nll, normal_nll
from dreamer_nav.nets import MLP, Codes, Decoder, Encoder, preprocess
from dreamer_nav.ops import kl_loss, transform_reward
from dreamer_nav.rssm import RSSM, State
from dreamer_nav.spaces import ObsSpec

__all__ = ["WorldModel"]


class WorldModel(nn.Module):
    """Learns to predict observations, rewards and episode ends from past observations and actions."""

    def __init__(self, specs: Sequence[ObsSpec], action_size: int, config: AgentConfig) -> None:
        super().__init__()
        self.config, self.specs = config, tuple(specs)
        self.polar = tuple(k for k in config.encoder.polar_keys.split(",") if k)
        for spec in specs:
            if spec.name in self.polar and spec.shape != (2,):
                raise ValueError(
                    f"polar_keys names {spec.name!r} of shape {spec.shape}; allowed: vectors (rho, phi) of shape (2,)."
                )
        self.encoder = Encoder(specs, config.encoder, self.polar)
        self.rssm = RSSM(config.rssm, self.encoder.size, action_size)
        self.decoder = Decoder(self.rssm.feat_size, specs, config.encoder, self.polar)
        self.reward = MLP(self.rssm.feat_size, config.head, 1)
        if config.discount_head:
            self.discount = MLP(self.rssm.feat_size, config.head, 1)

    def preprocess(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Observations as the networks see them."""
        return preprocess(obs, self.specs, self.polar)

    def loss(
        self, batch: Mapping[str, Tensor], noise: Float[Tensor, "T B S"]
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Total loss, posterior states (B, T) and metrics for a replay batch.

        `batch` holds observations, action (B, T, A), reward, is_first and is_terminal (B, T).
        """
        obs = self.preprocess(batch)
        post, prior = self.rssm.observe(
            self.encoder(obs), batch["action"], batch["is_first"], noise
        )
        losses = self.head_losses(post, obs, batch)
        c = self.config
        kl, kl_each = kl_loss(post.logits, prior, c.kl_free_nats, c.kl_balance, c.kl_free_average)
        scales = c.loss_scales
        total = scales.get("kl", 1.0) * kl
        total = total + sum(scales.get(k, 1.0) * v.mean() for k, v in losses.items())
        metrics = {f"loss/{k}": v.detach().mean() for k, v in losses.items()}
        metrics["loss/kl"] = kl.detach()
        metrics["loss/model"] = total.detach()
        metrics["model/kl_nats"] = kl_each.detach().mean()
        metrics["model/prior_entropy_nats"] = OneHot(prior.detach()).entropy().sum(-1).mean()
        metrics["model/post_entropy_nats"] = OneHot(post.logits.detach()).entropy().sum(-1).mean()
        return total, post, metrics

    def head_losses(
        self, post: State, obs: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> dict[str, Float[Tensor, "B T"]]:
        """Negative log-likelihood of each observation, the reward and the discount."""
        c, feat = self.config, post.feat

        def seen_by(head: str) -> Tensor:
            return feat if head in c.grad_heads else feat.detach()

        losses = {}
        for name, mean in self.decoder(seen_by("decoder")).items():
            losses[name] = normal_nll(mean, obs[name]).flatten(2).sum(-1)
        reward = transform_reward(batch["reward"].float(), c.reward_transform)
        losses["reward"] = normal_nll(self.reward(seen_by("reward")).squeeze(-1), reward)
        if c.discount_head:
            target = c.discount * (1 - batch["is_terminal"].float())
            losses["discount"] = bernoulli_nll(
                self.discount(seen_by("discount")).squeeze(-1), target
            )
        return losses

    def imagined_reward(self, feat: Float[Tensor, "*batch F"] | Codes) -> Float[Tensor, "*batch"]:
        """Mean of the reward head, in transformed units."""
        return self.reward(feat).squeeze(-1).float()

    def imagined_discount(self, feat: Float[Tensor, "*batch F"] | Codes) -> Float[Tensor, "*batch"]:
        """Mean of the discount head, which already contains gamma; constant without that head."""
        if self.config.discount_head:
            return torch.sigmoid(self.discount(feat).squeeze(-1).float())
        like = feat.deter if isinstance(feat, Codes) else feat
        return like.new_full(like.shape[:-1], self.config.discount, dtype=torch.float32)

    @torch.no_grad()
    def open_loop(
        self, batch: Mapping[str, Tensor], context: int, noise: Float[Tensor, "T B S"]
    ) -> dict[str, Tensor]:
        """Decoded observations: posterior for the first `context` steps, imagined from there on."""
        obs, action = self.preprocess(batch), batch["action"]
        embed = self.encoder({k: v[:, :context] for k, v in obs.items()})
        post, _ = self.rssm.observe(
            embed, action[:, :context], batch["is_first"][:, :context], noise[:context]
        )
        state = State(*(x[:, -1] for x in post))
        feats = [post.feat]
        for t in range(context, action.shape[1]):
            state = self.rssm.img_step(state, action[:, t], noise[t])
            feats.append(state.feat[:, None])
        return self.decoder(torch.cat(feats, 1))
