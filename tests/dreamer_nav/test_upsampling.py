"""The decoder's faster transposed convolutions against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dreamer_nav.nets import _ConvFromPoint, _ConvToPixels


@pytest.mark.parametrize(
    ("kind", "kernel", "outputs", "side"),
    [
        (_ConvFromPoint, 5, 4, 1),
        (_ConvFromPoint, 5, 4, 3),
        (_ConvToPixels, 6, 1, 7),
        (_ConvToPixels, 6, 3, 5),
        (_ConvToPixels, 4, 2, 5),
    ],
)
def test_values_and_gradients_are_those_of_the_transposed_convolution(
    kind: type[nn.ConvTranspose2d], kernel: int, outputs: int, side: int
) -> None:
    torch.manual_seed(0)
    ours = kind(6, outputs, kernel, 2).double()
    plain = nn.ConvTranspose2d(6, outputs, kernel, 2).double()
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, side, side, dtype=torch.float64)
    results = []
    for layer in (ours, plain):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        y.sin().sum().backward()
        results.append([y, leaf.grad, layer.weight.grad, layer.bias.grad])
    for ours_value, plain_value in zip(*results, strict=True):
        torch.testing.assert_close(ours_value, plain_value, rtol=1e-12, atol=1e-12)
