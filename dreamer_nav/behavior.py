"""Actor and critic, learned in imagination.

Alignment (original code): states 0..H are imagined from H actions; state 0 is a replay posterior. The reward and
value of state t include what was received on entering it. Targets exist for states 0..H-1; the actor is scored at
states 0..H-2, its action at t by the target of t + 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamer_nav.config import AgentConfig
from dreamer_nav.distributions import OneHot, TruncatedNormal, normal_nll
from dreamer_nav.nets import MLP, Codes
from dreamer_nav.ops import discount_weights, lambda_return
from dreamer_nav.rssm import RSSM, State
from dreamer_nav.spaces import ActionSpec
from dreamer_nav.world_model import WorldModel

__all__ = ["Actor", "Behavior", "ImaginationNoise", "Trajectory"]


class ImaginationNoise(NamedTuple):
    """Uniform noise of a rollout: latents (H, N, S), actions (H, N) or (H, N, A)."""

    latent: Tensor
    action: Tensor


class Trajectory(NamedTuple):
    """Imagined states 0..H as features (H+1, N, F) and the actions that led to them (H+1, N, A), zero at 0."""

    feat: Tensor | Codes
    action: Tensor


class Actor(nn.Module):
    """Policy head: one-hot categorical, or truncated normal in [-1, 1]."""

    def __init__(self, feat_size: int, action: ActionSpec, config: AgentConfig) -> None:
        super().__init__()
        self.discrete = action.discrete
        self.original_grad = config.truncated_normal_grad == "original"
        self.mlp = MLP(feat_size, config.head, action.size if action.discrete else 2 * action.size)

    def forward(self, feat: Float[Tensor, "*batch F"] | Codes) -> OneHot | TruncatedNormal:
        """The action distribution of each state, in float32."""
        return self.distribution(self.mlp(feat))

    def distribution(self, out: Float[Tensor, "*batch O"]) -> OneHot | TruncatedNormal:
        """What the network's outputs say."""
        out = out.float()
        if self.discrete:
            return OneHot(out)
        loc, std = out.chunk(2, -1)
        return TruncatedNormal.from_outputs(loc, std, self.original_grad)


class Behavior(nn.Module):
    """Actor, critic and slow critic with their imagined losses."""

    def __init__(self, feat_size: int, action: ActionSpec, config: AgentConfig) -> None:
        super().__init__()
        self.config, self.action_size = config, action.size
        self.actor = Actor(feat_size, action, config)
        self.critic = MLP(feat_size, config.head, 1)
        self.slow_critic = MLP(feat_size, config.head, 1).requires_grad_(False)
        self.slow_critic.load_state_dict(self.critic.state_dict())
        auto = "reinforce" if action.discrete else "dynamics"
        self.grad_mode = auto if config.actor_grad == "auto" else config.actor_grad
        # Reinforce needs no gradient of the latents, so that they can be column numbers.
        self.use_codes = self.grad_mode == "reinforce"

    @torch.no_grad()
    def update_slow_critic(self) -> None:
        """Hard copy of the critic."""
        torch._foreach_copy_(list(self.slow_critic.parameters()), list(self.critic.parameters()))

    def imagine(self, rssm: RSSM, start: State, noise: ImaginationNoise) -> Trajectory:
        """Roll the policy out from N start states for H steps; the policy never sees a gradient path."""
        if self.use_codes and start.deter.device.type == "cpu":
            codes, actions = self._roll_out(rssm.img_step_codes, rssm.codes(start), noise)
            return Trajectory(Codes.stack(codes), actions)
        feats, actions = self._roll_out(rssm.img_step, start, noise)
        return Trajectory(torch.stack(feats), actions)

    def _roll_out(
        self, step: Callable[..., Any], state: Any, noise: ImaginationNoise
    ) -> tuple[list[Any], Tensor]:
        """Features of states 0..H, and the actions (H+1, N, A)."""
        feats = [state.feat]
        actions = [state.deter.new_zeros(len(state.deter), self.action_size)]
        for t in range(len(noise.latent)):
            action = self.actor(feats[-1].detach()).sample(noise.action[t])
            state = step(state, action, noise.latent[t])
            feats.append(state.feat)
            actions.append(action)
        return feats, torch.stack(actions)

    def loss(
        self,
        model: WorldModel,
        start: State,
        is_terminal: Float[Tensor, " N"],
        noise: ImaginationNoise,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Actor loss, critic loss and metrics from N start states. The model's parameters must be frozen."""
        # Reinforce needs no gradient through the dynamics, so the rollout costs no graph.
        with torch.set_grad_enabled(self.grad_mode != "reinforce"):
            seq = self.imagine(model.rssm, start.detach(), noise)
            reward = model.imagined_reward(seq.feat)
            discount = self.discounts(model, seq.feat, is_terminal)
            value = self.slow_critic(seq.feat).squeeze(-1).float()
            target = lambda_return(
                reward[:-1], value[:-1], discount[:-1], value[-1], self.config.lambda_
            )
        weight = discount_weights(discount).detach()
        actor_loss, metrics = self.actor_loss(seq, target, self.baseline(value, reward), weight)
        critic_loss, critic_metrics = self.critic_loss(seq.feat, target, weight)
        metrics.update(critic_metrics)
        metrics["behavior/imagined_reward"] = reward.detach().mean()
        metrics["behavior/imagined_discount"] = discount.detach().mean()
        return actor_loss, critic_loss, metrics

    def discounts(self, model: WorldModel, feat: Tensor | Codes, is_terminal: Tensor) -> Tensor:
        """Discount of each imagined state; the first comes from replay, where the truth is known."""
        first = self.config.discount * (1 - is_terminal.float())
        if not self.config.discount_head:
            return model.imagined_discount(feat)
        return torch.cat([first[None], model.imagined_discount(feat[1:])], 0)

    def baseline(
        self, value: Float[Tensor, "H N"], reward: Float[Tensor, "H N"]
    ) -> Float[Tensor, "H N"]:
        """What the action of state t is expected to bring: a function of state t alone, so it adds no bias.

        The original takes v(z_t), which contains r_t while the return of the action starts at r_{t+1}. As
        v(z_t) = r_t + gamma E[return], the aligned one is (v(z_t) - r_t) / gamma, without the variance of r_t.
        """
        if not self.config.aligned_baseline:
            return value
        return (value - reward) / self.config.discount

    def actor_loss(
        self,
        seq: Trajectory,
        target: Float[Tensor, "T N"],
        baseline: Float[Tensor, "H N"],
        weight: Float[Tensor, "H N"],
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Policy gradient at states 0..H-2 with entropy inside the weighting."""
        c = self.config
        policy = self.actor(seq.feat[:-2].detach())
        advantage = (target[1:] - baseline[:-2]).detach()
        if self.grad_mode == "reinforce":
            objective = policy.log_prob(seq.action[1:-1].detach()) * advantage
        elif self.grad_mode == "dynamics":
            objective = target[1:]
        else:
            # As in the original, `both` does not stop the gradient into the action here.
            reinforce = policy.log_prob(seq.action[1:-1]) * advantage
            objective = c.actor_grad_mix * target[1:] + (1 - c.actor_grad_mix) * reinforce
        entropy = policy.entropy()
        loss = -(weight[:-2] * (objective + c.actor_entropy * entropy)).mean()
        metrics = {
            "loss/actor": loss.detach(),
            "behavior/actor_entropy_nats": entropy.detach().mean(),
            "behavior/advantage_std": advantage.std(),
        }
        return loss, metrics

    def critic_loss(
        self,
        feat: Float[Tensor, "H N F"] | Codes,
        target: Float[Tensor, "T N"],
        weight: Float[Tensor, "H N"],
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Weighted unit-variance regression of states 0..H-1 to their targets."""
        value = self.critic(feat[:-1].detach()).squeeze(-1)
        loss = (weight[:-1] * normal_nll(value, target.detach())).mean()
        metrics = {
            "loss/critic": loss.detach(),
            "behavior/imagined_return": target.detach().mean(),
            "behavior/value": value.detach().float().mean(),
        }
        return loss, metrics
