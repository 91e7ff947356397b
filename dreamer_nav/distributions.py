"""Distributions, hand-written so that noise is an argument and nothing synchronises with the host.

Each sampler takes uniform noise in [0, 1): the same noise gives the same sample eager, compiled or exported.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "OneHot",
    "TruncatedNormal",
    "bernoulli_nll",
    "normal_nll",
    "sample_index",
    "sample_onehot",
]

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_CLIP = 1e-6


def sample_onehot(
    logits: Float[Tensor, "*batch C"], noise: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch C"]:
    """A one-hot sample by inverse CDF; its gradient is that of the probabilities (straight-through)."""
    probs = torch.softmax(logits, -1)
    classes = torch.arange(logits.shape[-1], device=logits.device)
    sample = (classes == _pick(probs.detach(), noise)[..., None]).to(probs.dtype)
    if not logits.requires_grad:
        return sample
    return sample + (probs - probs.detach())


def sample_index(
    logits: Float[Tensor, "*batch C"], noise: Float[Tensor, "*batch"]
) -> Int[Tensor, "*batch"]:
    """The class that `sample_onehot` chooses with the same noise."""
    return _pick(torch.softmax(logits, -1), noise)


def _pick(probs: Tensor, noise: Tensor) -> Tensor:
    cumulative = probs.cumsum(-1)
    # Rounding can leave the last sum below 1; noise is scaled so that the index stays in range.
    index = (cumulative <= (noise * cumulative[..., -1])[..., None]).sum(-1)
    return index.clamp(max=probs.shape[-1] - 1)


class OneHot:
    """Categorical over one-hot vectors; the last axis holds the classes."""

    def __init__(self, logits: Float[Tensor, "*batch C"]) -> None:
        self.logits = logits.float()
        self.log_probs = F.log_softmax(self.logits, -1)

    def sample(self, noise: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch C"]:
        """One-hot sample with straight-through gradient."""
        return sample_onehot(self.logits, noise)

    def mode(self) -> Float[Tensor, "*batch C"]:
        """The likeliest class, one-hot."""
        return F.one_hot(self.logits.argmax(-1), self.logits.shape[-1]).to(self.logits.dtype)

    def log_prob(self, value: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch"]:
        """Log-probability of a one-hot value."""
        return (self.log_probs * value).sum(-1)

    def entropy(self) -> Float[Tensor, "*batch"]:
        """Entropy in nats."""
        return -(self.log_probs * self.log_probs.exp()).sum(-1)


class TruncatedNormal:
    """Independent normals truncated to [-1, 1], summed over the last axis.

    `original_grad` chooses the pathwise gradient: True is what TensorFlow's stateless op returned in the original
    (dx/dloc = 1, dx/dscale = (x - loc) / scale, the bounds' dependence ignored); False is exact.
    """

    def __init__(
        self, loc: Float[Tensor, "*batch A"], scale: Float[Tensor, "*batch A"], original_grad: bool
    ) -> None:
        self.loc, self.scale = loc.float(), scale.float()
        self.original_grad = original_grad
        self.low = (-1 - self.loc) / self.scale
        self.high = (1 - self.loc) / self.scale
        self.cdf_low = torch.special.ndtr(self.low)
        self.mass = torch.special.ndtr(self.high) - self.cdf_low

    @classmethod
    def from_outputs(cls, out: Tensor, std: Tensor, original_grad: bool) -> TruncatedNormal:
        """From network outputs: loc = tanh(out), scale = 2 sigmoid(std / 2) + 0.1 (1.1 at zero)."""
        return cls(torch.tanh(out), 2 * torch.sigmoid(std / 2) + 0.1, original_grad)

    def sample(self, noise: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch A"]:
        """Sample by inverse CDF, clipped to +-(1 - 1e-6) with identity gradient."""
        with torch.no_grad():
            z = torch.special.ndtri((self.cdf_low + noise * self.mass).clamp(1e-7, 1 - 1e-7))
            z = torch.minimum(torch.maximum(z, self.low), self.high)
        x = self.loc + self.scale * z if self.original_grad else self._exact_path(z, noise)
        return x + (x.clamp(-1 + _CLIP, 1 - _CLIP) - x).detach()

    def _exact_path(self, z: Tensor, noise: Tensor) -> Tensor:
        """Value loc + scale z whose gradient includes how the bounds move in standard units."""
        with torch.no_grad():
            density = _density(z)
            low, high = (1 - noise) * _density(self.low), noise * _density(self.high)
            dloc = 1 - (low + high) / density
            dscale = z - (low * self.low + high * self.high) / density
            value = self.loc + self.scale * z
        return (
            value
            + dloc * (self.loc - self.loc.detach())
            + dscale * (self.scale - self.scale.detach())
        )

    def mode(self) -> Float[Tensor, "*batch A"]:
        """The density's peak, which is loc (it lies inside the bounds)."""
        return self.loc

    def mean(self) -> Float[Tensor, "*batch A"]:
        """The mean of the truncated density."""
        return self.loc + self.scale * (_density(self.low) - _density(self.high)) / self.mass

    def log_prob(self, value: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch"]:
        """Log-density, summed over the last axis."""
        z = (value - self.loc) / self.scale
        log = -0.5 * z.square() - _HALF_LOG_2PI - self.scale.log() - self.mass.log()
        return log.sum(-1)

    def entropy(self) -> Float[Tensor, "*batch"]:
        """Differential entropy in nats, summed over the last axis."""
        edges = self.low * _density(self.low) - self.high * _density(self.high)
        each = _HALF_LOG_2PI + 0.5 + (self.scale * self.mass).log() + edges / (2 * self.mass)
        return each.sum(-1)


def _density(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z.square() - _HALF_LOG_2PI)


def normal_nll(
    mean: Float[Tensor, "*batch"], target: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Negative log-likelihood of a unit-variance normal, elementwise."""
    return 0.5 * (mean.float() - target).square() + _HALF_LOG_2PI


def bernoulli_nll(
    logits: Float[Tensor, "*batch"], target: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Negative log-likelihood of a Bernoulli with a soft target in [0, 1] (the discount head's gamma)."""
    return F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
