"""Networks: dense layers as Keras initialises them, layer-norm GRU, image and vector encoder and decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dreamer_nav.config import EncoderConfig, HeadConfig
from dreamer_nav.spaces import ObsSpec

__all__ = [
    "MLP",
    "Codes",
    "Decoder",
    "Dense",
    "Encoder",
    "GRUCell",
    "Linear",
    "init_like_keras",
    "preprocess",
]

_NORM_EPS = 1e-3  # Keras' default; torch's 1e-5 changes a tiny GRU's output by 1e-3.


def init_like_keras(module: nn.Module) -> None:
    """Glorot-uniform weights and zero biases everywhere, output layers included, as the original."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class _LayerNorm(nn.LayerNorm):
    """Layer norm over the last axis, computed in float32 whatever the precision around it."""

    def __init__(self, size: int) -> None:
        super().__init__(size, eps=_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class _ChannelNorm(_LayerNorm):
    """Layer norm over the channels of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Codes:
    """Features [one-hot latents, deterministic state], each one-hot as the number of its column.

    What a layer makes of a one-hot is one column of its weights, so a product is a sum of S columns: on a CPU 10 to
    20 times faster than multiplying by the zeros. There is no gradient into the latents.
    """

    index: Int[Tensor, "*batch S"]
    deter: Float[Tensor, "*batch D"]

    def __getitem__(self, steps: slice | int) -> Codes:
        return Codes(self.index[steps], self.deter[steps])

    def detach(self) -> Codes:
        """The same values without the graph of the deterministic state."""
        return Codes(self.index, self.deter.detach())

    @property
    def feat(self) -> Codes:
        """Itself: what heads read, as `State.feat` is."""
        return self

    @staticmethod
    def stack(steps: Sequence[Codes]) -> Codes:
        """Steps along a new first axis."""
        return Codes(torch.stack([s.index for s in steps]), torch.stack([s.deter for s in steps]))

    def sum_columns(self, weight: Float[Tensor, "U Z"]) -> Float[Tensor, "*batch U"]:
        """The product of the one-hots alone with `weight`."""
        flat = F.embedding_bag(self.index.flatten(0, -2), weight.t().contiguous(), mode="sum")
        return flat.unflatten(0, self.index.shape[:-1])

    def linear(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """What `F.linear` gives for the dense features."""
        latents = weight.shape[1] - self.deter.shape[-1]
        product = F.linear(self.deter, weight[:, latents:], bias)
        return product + self.sum_columns(weight[:, :latents]).to(product.dtype)


class Linear(nn.Linear):
    """Linear layer that also reads `Codes`."""

    def forward(self, x: Float[Tensor, "*batch I"] | Codes) -> Float[Tensor, "*batch U"]:
        """The product."""
        return x.linear(self.weight, self.bias) if isinstance(x, Codes) else super().forward(x)


class Dense(Linear):
    """Linear layer, optional layer norm, ELU."""

    def __init__(self, inputs: int, units: int, layer_norm: bool = False) -> None:
        super().__init__(inputs, units)
        self.norm = _LayerNorm(units) if layer_norm else nn.Identity()

    def activate(self, x: Float[Tensor, "*batch U"]) -> Float[Tensor, "*batch U"]:
        """Norm and ELU alone, for callers that compute the product in pieces; may overwrite `x`."""
        # In place: the gradient then comes from the output, without a second exponential.
        return F.elu(self.norm(x), inplace=True)

    def forward(self, x: Float[Tensor, "*batch I"] | Codes) -> Float[Tensor, "*batch U"]:
        """Product, norm and ELU."""
        return self.activate(super().forward(x))


def _dense_layers(
    inputs: int, layers: int, units: int, layer_norm: bool
) -> tuple[list[Dense], int]:
    """Dense layers, possibly none, and the size of what they give."""
    sizes = [inputs] + [units] * layers
    return [Dense(a, b, layer_norm) for a, b in pairwise(sizes)], sizes[-1]


class MLP(nn.Sequential):
    """Dense layers and a linear output."""

    def __init__(self, inputs: int, config: HeadConfig, outputs: int) -> None:
        layers, size = _dense_layers(inputs, config.layers, config.units, config.layer_norm)
        super().__init__(*layers, Linear(size, outputs))


class GRUCell(nn.Module):
    """GRU with one layer norm over its three gates, ordered reset, candidate, update; update bias -1."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.inputs, self.size = inputs, size
        self.linear = nn.Linear(inputs + size, 3 * size)
        self.norm = _LayerNorm(3 * size)

    def forward(self, x: Float[Tensor, "B I"], h: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The next state."""
        gates = self.norm(self.linear(torch.cat([x, h], -1)))
        reset, candidate, update = gates.float().chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        update = torch.sigmoid(update - 1)
        return update * candidate + (1 - update) * h


def preprocess(
    obs: Mapping[str, Tensor], specs: Sequence[ObsSpec], polar: Sequence[str]
) -> dict[str, Tensor]:
    """Observations as the networks see them, float32.

    Images (..., H, W, C) to [-0.5, 0.5]: uint8 / 255 - 0.5, floats scaled by their space's bounds. Vectors as they
    are, except polar ones, (rho, phi) to (rho, cos phi, sin phi), which has no jump at +-pi.
    """
    out = {}
    for spec in specs:
        value = obs[spec.name]
        if spec.is_image and spec.dtype == "uint8":
            out[spec.name] = value.float() / 255 - 0.5
        elif spec.is_image:
            out[spec.name] = (value.float() - spec.low) / (spec.high - spec.low) - 0.5
        elif spec.name in polar:
            rho, phi = value.float().split(1, -1)
            out[spec.name] = torch.cat([rho, phi.cos(), phi.sin()], -1)
        else:
            out[spec.name] = value.float()
    return out


def _vector_sizes(specs: Sequence[ObsSpec], polar: Sequence[str]) -> dict[str, int]:
    return {s.name: 3 if s.name in polar else s.shape[0] for s in specs if not s.is_image}


def _check_images(images: Sequence[ObsSpec]) -> None:
    sizes = {s.shape[:2] for s in images}
    if len(sizes) > 1:
        raise ValueError(
            f"All images must have one size, got { {s.name: s.shape for s in images} }."
        )
    for height, width in sizes:
        if height != width or height < 64 or height % 16:
            raise ValueError(
                f"Images must be square, at least 64 pixels, a multiple of 16; got {height}x{width}. "
                "Set the environment's image size."
            )


class Encoder(nn.Module):
    """Images through four stride-2 convolutions, vectors through dense layers; features concatenated."""

    def __init__(
        self, specs: Sequence[ObsSpec], config: EncoderConfig, polar: Sequence[str]
    ) -> None:
        super().__init__()
        self.images = [s.name for s in specs if s.is_image]
        _check_images([s for s in specs if s.is_image])
        self.vectors = sorted(_vector_sizes(specs, polar))
        self.size = 0
        if self.images:
            size = next(s.shape[0] for s in specs if s.is_image)
            channels = [sum(s.shape[2] for s in specs if s.is_image)]
            channels += [config.cnn_depth * 2**i for i in range(4)]
            layers: list[nn.Module] = []
            for inputs, outputs in pairwise(channels):
                layers += [nn.Conv2d(inputs, outputs, 4, 2)]
                layers += [_ChannelNorm(outputs)] if config.layer_norm else []
                layers += [nn.ELU(inplace=True)]
                size = (size - 4) // 2 + 1
            self.cnn = nn.Sequential(*layers)
            # With one input channel an image's layout is ambiguous; the weights' then decides which kernel runs.
            self.cnn[0].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.size += channels[-1] * size * size
        if self.vectors:
            total = sum(_vector_sizes(specs, polar).values())
            dense, size = _dense_layers(
                total, config.mlp_layers, config.mlp_units, config.layer_norm
            )
            self.mlp = nn.Sequential(*dense)
            self.size += size

    def forward(self, obs: Mapping[str, Tensor]) -> Float[Tensor, "*batch E"]:
        """Features of preprocessed observations with any leading axes."""
        parts = []
        if self.images:
            image = torch.cat([obs[k] for k in self.images], -1)
            lead = image.shape[:-3]
            # A permuted NHWC tensor is already in channels-last memory, the fast layout.
            image = image.reshape(-1, *image.shape[-3:]).permute(0, 3, 1, 2)
            features = self.cnn(image)
            # Flattened as (H, W, C), like the original, so that weights can be carried over.
            parts.append(features.permute(0, 2, 3, 1).reshape(*lead, -1))
        if self.vectors:
            parts.append(self.mlp(torch.cat([obs[k] for k in self.vectors], -1)))
        return torch.cat(parts, -1)


class Decoder(nn.Module):
    """Means of unit-variance normals for every observation.

    Images grow from a 1x1 map through kernels 5, 5, 6, 6 to 64x64; larger ones start from a larger map
    (side (size - 48) / 16) with fewer channels.
    """

    def __init__(
        self, inputs: int, specs: Sequence[ObsSpec], config: EncoderConfig, polar: Sequence[str]
    ) -> None:
        super().__init__()
        self.channels = {s.name: s.shape[2] for s in specs if s.is_image}
        vectors = _vector_sizes(specs, polar)
        if self.channels:
            size = next(s.shape[0] for s in specs if s.is_image)
            depth, self.start = config.cnn_depth, (size - 48) // 16
            first = max(2 * depth, 32 * depth // self.start**2)
            self.cnn_in = nn.Linear(inputs, first * self.start**2)
            widths = [first, 4 * depth, 2 * depth, depth, sum(self.channels.values())]
            self.cnn = nn.Sequential(*_upsampling(widths, config.layer_norm))
        if vectors:
            dense, size = _dense_layers(
                inputs, config.mlp_layers, config.mlp_units, config.layer_norm
            )
            self.mlp = nn.Sequential(*dense)
            self.outputs = nn.ModuleDict({k: nn.Linear(size, n) for k, n in vectors.items()})
        self.has_vectors = bool(vectors)

    def forward(self, feat: Float[Tensor, "*batch I"]) -> dict[str, Tensor]:
        """Means, images as (..., H, W, C) in [-0.5, 0.5], vectors as (..., D)."""
        out: dict[str, Tensor] = {}
        if self.channels:
            lead = feat.shape[:-1]
            x = self.cnn_in(feat).reshape(-1, self.start, self.start, self.cnn[0].in_channels)
            images = self.cnn(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            images = images.reshape(*lead, *images.shape[1:])
            parts = images.split(list(self.channels.values()), -1)
            out.update(zip(self.channels, parts, strict=True))
        if self.has_vectors:
            hidden = self.mlp(feat)
            out.update({k: layer(hidden) for k, layer in self.outputs.items()})
        return out


class _ConvFromPoint(nn.ConvTranspose2d):
    """Transposed convolution whose map is usually 1x1, where it is a matrix product, computed faster as one."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if x.shape[2:] != (1, 1) or self.bias is None:
            return super().forward(x, output_size)
        inputs, outputs, height, width = self.weight.shape
        weight = self.weight.permute(0, 2, 3, 1).reshape(inputs, -1)
        y = torch.addmm(self.bias.repeat(height * width), x.flatten(1), weight)
        return y.view(-1, height, width, outputs).permute(0, 3, 1, 2)


class _ConvToPixels(nn.ConvTranspose2d):
    """Transposed convolution with stride 2, an even kernel and few output channels.

    Each of the four positions in a 2x2 cell of the output sees every second row and column of the kernel, so it is a
    convolution without stride to four times the channels, which are then laid out as cells (Shi et al. 2016).
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if self.bias is None:
            return super().forward(x, output_size)
        inputs, outputs, kernel, _ = self.weight.shape
        taps = kernel // 2
        weight = self.weight.reshape(inputs, outputs, taps, 2, taps, 2)
        weight = weight.permute(3, 5, 1, 0, 2, 4).flip(4, 5).reshape(-1, inputs, taps, taps)
        y = F.conv2d(x, weight, self.bias.repeat(4), padding=taps - 1).permute(0, 2, 3, 1)
        batch, height, width, _ = y.shape
        cells = y.reshape(batch, height, width, 2, 2, outputs).transpose(2, 3)
        return cells.reshape(batch, 2 * height, 2 * width, outputs).permute(0, 3, 1, 2)


def _upsampling(widths: Sequence[int], layer_norm: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    kinds = (_ConvFromPoint, nn.ConvTranspose2d, nn.ConvTranspose2d, _ConvToPixels)
    for i, (kind, kernel) in enumerate(zip(kinds, (5, 5, 6, 6), strict=True)):
        layers.append(kind(widths[i], widths[i + 1], kernel, 2))
        if i < 3:
            layers += [_ChannelNorm(widths[i + 1])] if layer_norm else []
            layers.append(nn.ELU(inplace=True))
    return layers
