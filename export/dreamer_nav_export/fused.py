"""The agent's layers arranged for few and cheap operators.

A step of a small network takes as long as its operators are many, so: the scaling of images is in the weights of the
first convolution, and a layer that reads one-hots sums columns of its weights instead of multiplying by zeros. The
formulas are the agent's up to rounding; every export is compared with it (`parity`).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer_nav.behavior import Actor
from dreamer_nav.distributions import OneHot, TruncatedNormal
from dreamer_nav.nets import Dense, preprocess
from dreamer_nav.rssm import RSSM
from dreamer_nav.spaces import ActionSpec, ObsSpec
from dreamer_nav.world_model import WorldModel

__all__ = ["CodedActor", "CodedLinear", "LatentStep", "RawEncoder"]


class RawEncoder(nn.Module):
    """The encoder for observations as sensors give them; a copy, so the model stays as it was."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.images = [s for s in model.specs if s.is_image]
        self.vectors = [s for s in model.specs if not s.is_image]
        self.polar = model.polar
        self.encoder = copy.deepcopy(model.encoder)
        if self.images:
            self._fold_scaling(self.encoder.cnn[0])

    def _fold_scaling(self, layer: nn.Module) -> None:
        assert isinstance(layer, nn.Conv2d)
        # Padding would be zeros of the scaled picture, which no constant of the raw one stands for.
        assert layer.padding == (0, 0)
        assert layer.bias is not None
        pairs = [pair for s in self.images for pair in [_scaling(s)] * s.shape[2]]
        scale, offset = torch.tensor(pairs, dtype=torch.float64)[:, :, None, None].unbind(1)
        with torch.no_grad():
            weight = layer.weight.double()
            layer.bias.copy_(layer.bias.double() + (weight * offset).sum((1, 2, 3)))
            layer.weight.copy_(weight * scale)

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Features (B, E)."""
        images = {s.name: obs[s.name].float() for s in self.images}
        features: Tensor = self.encoder({**images, **preprocess(obs, self.vectors, self.polar)})
        return features


def _scaling(spec: ObsSpec) -> tuple[float, float]:
    """Factor and offset with which `preprocess` scales an image."""
    zero_and_one = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    low, high = (0.0, 255.0) if spec.dtype == "uint8" else (spec.low, spec.high)
    offset, end = ((zero_and_one - low) / (high - low) - 0.5).flatten().tolist()
    return end - offset, offset


class CodedLinear(nn.Module):
    """A linear layer over [one-hots, rest] that is given each one-hot's index."""

    table: Tensor
    offsets: Tensor
    bias: Tensor
    weight: Tensor

    def __init__(self, layer: nn.Linear, sizes: Sequence[int]) -> None:
        """`sizes` are those of the one-hots, which `layer` reads first."""
        super().__init__()
        columns = sum(sizes)
        weight = layer.weight.detach()
        # The last row is what a one-hot of zeros gives.
        table = torch.cat([weight[:, :columns].t(), weight.new_zeros(1, len(weight))])
        self.register_buffer("table", table.contiguous())
        offsets = list(itertools.accumulate(sizes, initial=0))[:-1]
        self.register_buffer("offsets", torch.tensor(offsets))
        self.register_buffer("bias", layer.bias.detach().clone())
        self.register_buffer("weight", weight[:, columns:].contiguous())

    def forward(
        self, index: Tensor, rest: Tensor | None = None, is_zero: Tensor | None = None
    ) -> Tensor:
        """The product (B, U).

        Args:
            index: (B, G), of each one-hot.
            rest: (B, R), what is read besides, if anything is.
            is_zero: (B, 1), where every one-hot counts as zeros; the index may be anything there.
        """
        row = index + self.offsets
        if is_zero is not None:
            row = torch.where(is_zero, len(self.table) - 1, row)
        out = F.embedding(row, self.table).sum(1) + self.bias
        return out if rest is None else torch.addmm(out, rest, self.weight.t())


class LatentStep(nn.Module):
    """`RSSM.obs_step` up to the sample."""

    def __init__(self, rssm: RSSM, action: ActionSpec) -> None:
        super().__init__()
        c = rssm.config
        self.discrete = action.discrete
        self.shape = (c.stoch, c.classes)
        sizes = [c.classes] * c.stoch + ([action.size] if action.discrete else [])
        self.coded = CodedLinear(rssm.img_in, sizes)
        self.img_in, self.gru = rssm.img_in, rssm.gru
        self.obs_out, self.obs_logits = rssm.obs_out, rssm.obs_logits

    def forward(
        self, is_first: Tensor, stoch: Tensor, deter: Tensor, action: Tensor, embed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Posterior logits (B, S, C) and deterministic state (B, D).

        Args:
            is_first: (B,), where stoch, deter and action do not matter.
            stoch: (B, S), the index of each latent.
            deter: (B, D).
            action: the index (B,) of a discrete one, else (B, A).
            embed: (B, E), the observation's features.
        """
        first = is_first[:, None]
        # Chosen, not multiplied by zero: a state that has become NaN must not survive the reset.
        deter = torch.where(first, 0.0, deter)
        if self.discrete:
            hidden = self.coded(torch.cat([stoch, action[:, None]], -1), None, first)
        else:
            hidden = self.coded(stoch, torch.where(first, 0.0, action), first)
        deter = self.gru(self.img_in.activate(hidden), deter)
        logits = self.obs_logits(self.obs_out(torch.cat([deter, embed], -1)))
        return logits.unflatten(-1, self.shape), deter


class CodedActor(nn.Module):
    """The actor for latents as indices."""

    def __init__(self, actor: Actor, rssm: RSSM) -> None:
        super().__init__()
        first, *others = actor.mlp
        assert isinstance(first, nn.Linear)
        self.coded = CodedLinear(first, [rssm.config.classes] * rssm.config.stoch)
        self.activate = first.activate if isinstance(first, Dense) else nn.Identity()
        self.others = nn.Sequential(*others)
        self.distribution = actor.distribution

    def forward(self, stoch: Tensor, deter: Tensor) -> OneHot | TruncatedNormal:
        """The action distribution for latents (B, S) and deterministic state (B, D)."""
        return self.distribution(self.others(self.activate(self.coded(stoch, deter))))
