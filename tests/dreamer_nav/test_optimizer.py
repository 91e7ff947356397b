"""Adam against Keras' formula in NumPy and against moves measured with Keras itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dreamer_nav.config import OptimizerConfig
from dreamer_nav.optimizer import KerasAdam

SHAPES = ((3, 4), (4,), (2, 3, 2), ())


def _params(shapes: tuple[tuple[int, ...], ...] = SHAPES) -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(s)) for s in shapes]


class _KerasInNumPy:
    """The original's `Optimizer`: clip by global norm, decay every variable, then Keras' Adam."""

    def __init__(self, values: list[np.ndarray], config: OptimizerConfig) -> None:
        self.values, self.config, self.t = values, config, 0
        self.m = [np.zeros_like(v) for v in values]
        self.v = [np.zeros_like(v) for v in values]

    def step(self, grads: list[np.ndarray]) -> float:
        c = self.config
        self.t += 1
        norm = float(np.sqrt(sum((g**2).sum() for g in grads)))
        rate = c.lr * np.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
        for i, g in enumerate(grads):
            g = g * min(1.0, c.clip_norm / norm)
            self.values[i] = self.values[i] * (1 - c.weight_decay)
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.v[i] = 0.999 * self.v[i] + 0.001 * g**2
            self.values[i] = self.values[i] - rate * self.m[i] / (np.sqrt(self.v[i]) + c.eps)
        return norm


@pytest.mark.parametrize(
    "config",
    [
        OptimizerConfig(lr=1e-3),
        OptimizerConfig(lr=3e-4, weight_decay=1e-2),
        OptimizerConfig(lr=1e-3, clip_norm=0.5),
    ],
    ids=["default", "decay", "clipped"],
)
def test_fifty_steps_follow_the_keras_formula(config: OptimizerConfig) -> None:
    params = _params()
    optimizer = KerasAdam(params, config)
    reference = _KerasInNumPy([p.detach().double().numpy().copy() for p in params], config)
    rng = np.random.default_rng(0)
    for step in range(50):
        # From far below epsilon to far above it.
        scale = 10.0 ** rng.uniform(-7, 1)
        grads = [scale * rng.standard_normal(s) for s in SHAPES]
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.tensor(g, dtype=torch.float32)
        norm = optimizer.step()
        assert norm.item() == pytest.approx(reference.step(grads), rel=1e-4), step
    for p, expected in zip(params, reference.values, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_moves_equal_those_of_keras_adam(golden: dict[str, Any]) -> None:
    g = golden["adam_eps_5steps"]
    config = OptimizerConfig(lr=g["lr"], eps=g["eps"], weight_decay=0.0)
    param = nn.Parameter(torch.ones(2))
    optimizer = KerasAdam([param], config)
    moved = []
    for _ in range(5):
        param.grad = torch.tensor(g["const_grad"])
        optimizer.step()
        moved.append((1 - param.detach()).tolist())
    # The moves were read off variables near one, in float32: spacing 6e-8 a step.
    assert moved[0] == pytest.approx(g["keras_moved_step1"], abs=1.3e-7)
    assert moved[4] == pytest.approx(g["keras_moved_step5"], abs=4e-7)


def test_torchs_own_adam_is_the_other_one(golden: dict[str, Any]) -> None:
    g = golden["adam_eps_5steps"]
    param = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([param], lr=g["lr"], eps=g["eps"])
    moved = []
    for _ in range(5):
        param.grad = torch.tensor(g["const_grad"])
        optimizer.step()
        moved.append((1 - param.detach()).tolist())
    assert moved[0] == pytest.approx(g["torch_moved_step1"], abs=1.3e-7)
    assert moved[4] == pytest.approx(g["torch_moved_step5"], abs=4e-7)
    assert moved[0][0] > 15 * g["keras_moved_step1"][0]


@pytest.mark.parametrize("lr", [0.0, 1e-4, 1e-1])
def test_decay_is_a_factor_that_does_not_scale_with_the_rate(lr: float) -> None:
    values = [torch.full((2, 2), 3.0), torch.full((2,), -2.0), torch.tensor(1.0)]
    params = [nn.Parameter(v.clone()) for v in values]
    optimizer = KerasAdam(params, OptimizerConfig(lr=lr, weight_decay=0.01))
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for p, v in zip(params, values, strict=True):
        torch.testing.assert_close(p.detach(), v * 0.99)


def test_decay_reaches_biases_and_norms() -> None:
    layer = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    for p in layer.parameters():
        nn.init.constant_(p, 2.0)
    optimizer = KerasAdam(layer.parameters(), OptimizerConfig(lr=1.0, weight_decay=0.5))
    optimizer.step()
    for name, p in layer.named_parameters():
        assert torch.equal(p.detach(), torch.ones_like(p)), name


def test_decay_is_not_part_of_the_gradient() -> None:
    # As L2 it would enter the moments.
    param = nn.Parameter(torch.full((3,), 5.0))
    optimizer = KerasAdam([param], OptimizerConfig(weight_decay=0.1))
    param.grad = torch.zeros(3)
    optimizer.step()
    assert not optimizer.moments("m")[0].any()
    assert not optimizer.moments("v")[0].any()


def test_gradients_are_clipped_by_their_global_norm_and_the_norm_before_is_returned() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = KerasAdam([a, b], OptimizerConfig(clip_norm=1.0))
    a.grad, b.grad = torch.tensor([30.0]), torch.tensor([40.0])
    assert optimizer.step().item() == pytest.approx(50.0)
    first = torch.cat(optimizer.moments("m"))
    torch.testing.assert_close(first, 0.1 * torch.tensor([0.6, 0.8]))


def test_gradients_below_the_limit_are_left_alone() -> None:
    a = nn.Parameter(torch.zeros(2))
    optimizer = KerasAdam([a], OptimizerConfig(clip_norm=100.0))
    a.grad = torch.tensor([3.0, 4.0])
    assert optimizer.step().item() == pytest.approx(5.0)
    torch.testing.assert_close(optimizer.moments("m")[0], torch.tensor([0.3, 0.4]))


def test_gradients_are_cleared_and_a_missing_one_counts_as_zero() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = KerasAdam([a, b], OptimizerConfig(weight_decay=0.0))
    a.grad = torch.ones(2)
    optimizer.step()
    assert [p.grad for p in (a, b)] == [None, None]
    assert torch.equal(b.detach(), torch.ones(2))


def test_moments_and_step_counter_are_in_the_state_dict_and_resume_exactly() -> None:
    def run(steps: int, optimizer: KerasAdam, params: list[nn.Parameter], seed: int) -> None:
        g = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            for p in params:
                p.grad = torch.randn(p.shape, generator=g)
            optimizer.step()

    params = _params()
    optimizer = KerasAdam(params, OptimizerConfig())
    run(3, optimizer, params, 0)
    copies = [nn.Parameter(p.detach().clone()) for p in params]
    resumed = KerasAdam(copies, OptimizerConfig())
    resumed.load_state_dict(optimizer.state_dict())
    run(3, optimizer, params, 1)
    run(3, resumed, copies, 1)
    for p, q in zip(params, copies, strict=True):
        assert torch.equal(p, q)
    assert resumed.steps == 6
    assert not list(resumed.parameters()), "the optimizer owns no parameters"


def test_the_step_counter_lives_with_the_parameters() -> None:
    # A host scalar would be frozen into a captured graph.
    param = nn.Parameter(torch.zeros(3, device="meta"))
    assert KerasAdam([param], OptimizerConfig()).steps.device.type == "meta"
