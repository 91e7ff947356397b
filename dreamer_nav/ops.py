"""Pure maths of DreamerV2: returns, KL balancing, discount weights. No modules, no state.

Axes: H imagined states, N = B * T start states, S latents, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["categorical_kl", "discount_weights", "kl_loss", "lambda_return", "transform_reward"]


def lambda_return(
    reward: Float[Tensor, "H N"],
    value: Float[Tensor, "H N"],
    discount: Float[Tensor, "H N"],
    bootstrap: Float[Tensor, " N"],
    lambda_: float,
) -> Float[Tensor, "H N"]:
    """Lambda-return of every step: r_t + d_t ((1 - lambda) v_{t+1} + lambda R_{t+1}).

    `bootstrap` is the value of the state after the last step. Source: `lambda_return` of the original code.
    """
    next_values = torch.cat([value[1:], bootstrap[None]], 0)
    inputs = reward + discount * next_values * (1 - lambda_)
    returns = []
    last = bootstrap
    for t in reversed(range(len(reward))):
        last = inputs[t] + discount[t] * lambda_ * last
        returns.append(last)
    return torch.stack(returns[::-1], 0)


def discount_weights(discount: Float[Tensor, "H N"]) -> Float[Tensor, "H N"]:
    """Probability-like weight of each imagined state: the product of the discounts before it, first is 1."""
    return torch.cumprod(torch.cat([torch.ones_like(discount[:1]), discount[:-1]], 0), 0)


def categorical_kl(
    lhs: Float[Tensor, "*batch S C"], rhs: Float[Tensor, "*batch S C"]
) -> Float[Tensor, "*batch"]:
    """KL(lhs || rhs) in nats of independent categoricals given by logits, summed over the latents."""
    lhs_log = F.log_softmax(lhs, -1)
    return (lhs_log.exp() * (lhs_log - F.log_softmax(rhs, -1))).sum((-2, -1))


def kl_loss(
    post: Float[Tensor, "*batch S C"],
    prior: Float[Tensor, "*batch S C"],
    free_nats: float,
    balance: float,
    free_average: bool,
) -> tuple[Float[Tensor, ""], Float[Tensor, "*batch"]]:
    """KL loss with balancing and free nats; returns (loss, unclamped KL per state).

    The prior learns with weight `balance`, the posterior with 1 - balance (DreamerV2, algorithm 2). A balance
    of exactly 0.5 switches balancing off: both see the full gradient and free nats apply per state, as in the
    original's `kl_loss`.
    """
    if balance == 0.5:
        kl = categorical_kl(post, prior)
        return torch.clamp(kl, min=free_nats).mean(), kl
    kl = categorical_kl(post, prior.detach())
    kl_prior = categorical_kl(post.detach(), prior)

    def clamped(x: Tensor) -> Tensor:
        if free_average:
            return torch.clamp(x.mean(), min=free_nats)
        return torch.clamp(x, min=free_nats).mean()

    return (1 - balance) * clamped(kl) + balance * clamped(kl_prior), kl


def transform_reward(reward: Tensor, kind: str) -> Tensor:
    """Reward as the world model sees it: `identity`, `sign` or `tanh`."""
    if kind == "identity":
        return reward
    if kind == "sign":
        return torch.sign(reward)
    if kind == "tanh":
        return torch.tanh(reward)
    raise ValueError(f"Unknown reward transform {kind!r}; allowed: identity, sign, tanh.")
