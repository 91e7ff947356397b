"""Distributions against the original code's numbers, quadrature and sampling statistics."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dreamer_nav.distributions import (
    OneHot,
    TruncatedNormal,
    bernoulli_nll,
    normal_nll,
    sample_onehot,
)

TRUNC_CASES = {
    "out=0.0,std_raw=0.0": (0.0, 0.0),
    "out=2.0,std_raw=-1.0": (2.0, -1.0),
    "out=-0.7,std_raw=3.0": (-0.7, 3.0),
}


def _cdf(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def _truncated_cdf(x: Tensor, loc: float, scale: float) -> Tensor:
    low, high = _cdf((-1 - loc) / scale), _cdf((1 - loc) / scale)
    return (torch.special.ndtr((x.double() - loc) / scale) - low) / (high - low)


def _grid(n: int) -> Tensor:
    """Stratified noise: the empirical CDF of its samples is exact to 1 / n."""
    return (torch.arange(n) + 0.5) / n


# --- one-hot -------------------------------------------------------------------------------------


def test_straight_through_gradient_equals_the_original_whatever_was_sampled(
    golden: dict[str, Any],
) -> None:
    g = golden["straight_through"]
    seen = set()
    for noise in (0.0, 0.3, 0.55, 0.999):
        logits = torch.tensor(g["logits"], requires_grad=True)
        sample = sample_onehot(logits, torch.tensor(noise))
        seen.add(int(sample.argmax()))
        sample.backward(torch.tensor(g["dL_dsample"]))
        torch.testing.assert_close(logits.grad, torch.tensor(g["dL_dlogits"]), rtol=0, atol=1e-6)
    assert seen == {0, 1, 2}


def test_straight_through_gradient_is_the_softmax_jacobian() -> None:
    logits = torch.randn(6, 5, requires_grad=True)
    w = torch.randn(6, 5)
    sample_onehot(logits, torch.rand(6)).backward(w)
    p = torch.softmax(logits.detach(), -1)
    torch.testing.assert_close(logits.grad, p * (w - (p * w).sum(-1, keepdim=True)))


def test_samples_are_exactly_one_hot_with_and_without_gradient() -> None:
    logits = torch.randn(50, 7)
    plain = sample_onehot(logits, torch.rand(50))
    assert set(plain.unique().tolist()) == {0.0, 1.0}
    assert (plain.sum(-1) == 1).all()
    noise = torch.rand(50)
    with_grad = sample_onehot(logits.clone().requires_grad_(), noise)
    torch.testing.assert_close(with_grad.detach(), sample_onehot(logits, noise), rtol=0, atol=1e-6)


def test_classes_are_drawn_as_often_as_their_probabilities_say() -> None:
    n = 20_000
    probs = torch.tensor([0.5, 0.001, 0.199, 0.3])
    samples = OneHot(probs.log().expand(n, 4)).sample(_grid(n))
    torch.testing.assert_close(samples.mean(0), probs, rtol=0, atol=2 / n)


def test_extreme_noise_never_leaves_the_classes_or_draws_an_impossible_one() -> None:
    logits = torch.tensor([-200.0, 0.0, 0.0, -200.0])
    noise = torch.tensor([0.0, 1 - 2**-24])
    assert OneHot(logits.expand(2, 4)).sample(noise).argmax(-1).tolist() == [1, 2]


def test_one_hot_log_prob_entropy_and_mode_match_torch() -> None:
    logits = torch.randn(3, 6)
    ours, reference = OneHot(logits), torch.distributions.Categorical(logits=logits)
    index = torch.tensor([0, 5, 2])
    torch.testing.assert_close(ours.log_prob(torch.eye(6)[index]), reference.log_prob(index))
    torch.testing.assert_close(ours.entropy(), reference.entropy())
    assert torch.equal(ours.mode().argmax(-1), logits.argmax(-1))
    assert torch.equal(ours.mode().sum(-1), torch.ones(3))


def test_no_uniform_mixture_is_added_to_the_logits() -> None:
    logits = torch.tensor([0.0, -30.0])
    rare = OneHot(logits).log_prob(torch.tensor([0.0, 1.0]))
    assert rare.item() == pytest.approx(-30.0, abs=1e-4)


# --- truncated normal ----------------------------------------------------------------------------


def test_every_truncated_normal_case_of_the_original_is_tested(golden: dict[str, Any]) -> None:
    assert set(golden["trunc_normal"]) == set(TRUNC_CASES)


@pytest.mark.parametrize("name", TRUNC_CASES)
def test_truncated_normal_equals_the_original(golden: dict[str, Any], name: str) -> None:
    g = golden["trunc_normal"][name]
    out, std = (torch.tensor([x]) for x in TRUNC_CASES[name])
    dist = TruncatedNormal.from_outputs(out, std, original_grad=True)
    got = {
        "loc": dist.loc,
        "scale": dist.scale,
        "log_prob_at_0p3": dist.log_prob(torch.tensor([0.3])),
        "entropy": dist.entropy(),
        "mode": dist.mode(),
        "mean": dist.mean(),
    }
    assert set(got) == set(g)
    for key, value in got.items():
        assert value.item() == pytest.approx(g[key], abs=2e-6), key


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.1), (0.9, 0.3), (-0.99, 2.1), (0.5, 0.1)])
def test_density_integrates_to_one_and_mean_and_entropy_match_quadrature(
    loc: float, scale: float
) -> None:
    n = 20_000
    x = -1 + 2 * _grid(n)[:, None]
    dist = TruncatedNormal(torch.full((n, 1), loc), torch.full((n, 1), scale), True)
    log = dist.log_prob(x).double()
    density = log.exp() * 2 / n
    assert density.sum().item() == pytest.approx(1, abs=1e-4)
    assert dist.entropy()[0].item() == pytest.approx(-(density * log).sum().item(), abs=1e-4)
    assert dist.mean()[0].item() == pytest.approx((density * x[:, 0]).sum().item(), abs=1e-4)
    peak = x[log.argmax()]
    assert dist.mode()[0].item() == pytest.approx(peak.item(), abs=2e-3)  # the peak is flat


def test_log_prob_and_entropy_sum_over_the_action_axis() -> None:
    loc, scale = torch.tensor([0.2, -0.5]), torch.tensor([0.4, 0.9])
    both = TruncatedNormal(loc, scale, True)
    each = [TruncatedNormal(loc[i : i + 1], scale[i : i + 1], True) for i in range(2)]
    x = torch.tensor([0.1, -0.9])
    total = each[0].log_prob(x[:1]) + each[1].log_prob(x[1:])
    torch.testing.assert_close(both.log_prob(x), total)
    torch.testing.assert_close(both.entropy(), each[0].entropy() + each[1].entropy())


@pytest.mark.parametrize("original", [True, False])
@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.1), (0.7, 0.3), (-0.95, 2.0)])
def test_samples_follow_the_truncated_density(loc: float, scale: float, original: bool) -> None:
    n = 20_000
    dist = TruncatedNormal(torch.full((n, 1), loc), torch.full((n, 1), scale), original)
    x = dist.sample(_grid(n)[:, None])[:, 0].sort().values
    gap = (_truncated_cdf(x, loc, scale) - _grid(n)).abs().max()
    assert gap < 2e-4  # a clipped plain normal would pile up at the bounds, a gap of 0.05 and more


@pytest.mark.parametrize("original", [True, False])
def test_samples_stay_inside_the_bounds_by_the_originals_margin(original: bool) -> None:
    loc = torch.tensor([-1.0, -0.999, 0.0, 0.999, 1.0]).repeat(3)[:, None]
    scale = torch.tensor([0.1, 1.0, 2.1]).repeat_interleave(5)[:, None]
    for noise in (0.0, 1e-7, 0.5, 1 - 2**-24):
        x = TruncatedNormal(loc, scale, original).sample(torch.full_like(loc, noise))
        assert x.isfinite().all()
        assert x.abs().max() <= 1 - 0.9e-6  # 1 - 1e-6 in float32


def _pathwise(
    g: dict[str, Any], original: bool, noise: float | None = None
) -> tuple[float, float, float]:
    """x, dx/dloc and dx/dscale of the sample whose noise yields the golden x."""
    low, high = ((b - g["loc"]) / g["scale"] for b in (-1, 1))
    if noise is None:
        z = (g["x"] - g["loc"]) / g["scale"]
        noise = (_cdf(z) - _cdf(low)) / (_cdf(high) - _cdf(low))
    loc = torch.tensor([g["loc"]], requires_grad=True)
    scale = torch.tensor([g["scale"]], requires_grad=True)
    x = TruncatedNormal(loc, scale, original).sample(torch.tensor([noise]))
    x.sum().backward()
    assert loc.grad is not None
    assert scale.grad is not None
    return x.item(), loc.grad.item(), scale.grad.item()


def test_the_original_pathwise_gradient_ignores_the_bounds(golden: dict[str, Any]) -> None:
    g = golden["trunc_normal_pathwise"]
    x, dloc, dscale = _pathwise(g, original=True)
    assert x == pytest.approx(g["x"], abs=1e-5)
    assert dloc == pytest.approx(g["tf_op_dx_dloc"], abs=1e-6)
    assert dscale == pytest.approx(g["tf_op_dx_dscale"], abs=1e-5)


def test_the_exact_pathwise_gradient_includes_the_bounds(golden: dict[str, Any]) -> None:
    g = golden["trunc_normal_pathwise"]
    x, dloc, dscale = _pathwise(g, original=False)
    assert x == pytest.approx(g["x"], abs=1e-5)
    assert dloc == pytest.approx(g["dx_dloc"], abs=1e-5)
    assert dscale == pytest.approx(g["dx_dscale"], abs=1e-5)


@pytest.mark.parametrize("original", [True, False])
def test_clipping_at_the_bounds_passes_the_gradient(original: bool) -> None:
    # The sample at noise 0 is clipped from -1 to -1 + 1e-6; the clip itself must not stop the gradient.
    x, dloc, _ = _pathwise({"loc": -0.9, "scale": 0.5}, original, noise=0.0)
    assert x > -1
    assert dloc == pytest.approx(1.0 if original else 0.0, abs=1e-4)


# --- likelihoods ---------------------------------------------------------------------------------


def test_soft_bernoulli_targets_are_not_rounded_to_labels() -> None:
    gamma = 0.999
    logits = torch.tensor([2.0, 0.0, -1.0], requires_grad=True)
    loss = bernoulli_nll(logits, torch.full((3,), gamma))
    p = torch.sigmoid(logits.detach().double())
    expected = -(gamma * p.log() + (1 - gamma) * (1 - p).log())
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-7)
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, (p - gamma).float())
    # Least at a mean of gamma: the head's mean already contains it.
    best = torch.tensor([math.log(gamma / (1 - gamma))], requires_grad=True)
    bernoulli_nll(best, torch.tensor([gamma])).sum().backward()
    assert best.grad is not None
    assert best.grad.item() == pytest.approx(0, abs=1e-6)


def test_unit_normal_nll_contains_the_constant() -> None:
    mean, target = torch.randn(5), torch.randn(5)
    expected = -torch.distributions.Normal(mean, 1.0).log_prob(target)
    torch.testing.assert_close(normal_nll(mean, target), expected)


def test_likelihoods_of_bfloat16_outputs_are_computed_in_float32() -> None:
    half = torch.randn(5).to(torch.bfloat16)
    assert normal_nll(half, torch.zeros(5)).dtype == torch.float32
    assert bernoulli_nll(half, torch.zeros(5)).dtype == torch.float32
    assert OneHot(half).logits.dtype == torch.float32
    assert TruncatedNormal(half.tanh(), half.exp(), True).entropy().dtype == torch.float32
