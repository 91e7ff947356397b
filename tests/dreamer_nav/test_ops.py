"""Returns, weights and KL against the original code's numbers and against arithmetic done by hand."""

from __future__ import annotations

from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor

from dreamer_nav.ops import (
    categorical_kl,
    discount_weights,
    kl_loss,
    lambda_return,
    transform_reward,
)

KL_CASES = {
    "free=0.0,avg=True,balance=0.8": (0.0, True, 0.8),
    "free=1.0,avg=True,balance=0.8": (1.0, True, 0.8),
    "free=0.3,avg=False,balance=0.8": (0.3, False, 0.8),
    "free=0.0,avg=True,balance=0.5": (0.0, True, 0.5),
}


def test_lambda_return_equals_the_original_with_a_zero_discount_in_it(
    golden: dict[str, Any],
) -> None:
    g = golden["lambda_return"]
    reward, value, discount, bootstrap = (
        torch.tensor(g[k]) for k in ("reward", "value", "pcont", "bootstrap")
    )
    returns = lambda_return(reward, value, discount, bootstrap, g["lambda_"])
    torch.testing.assert_close(returns, torch.tensor(g["returns"]), rtol=0, atol=1e-6)
    assert discount[0, 1] == 0
    assert returns[0, 1] == reward[0, 1]


def test_nothing_after_a_zero_discount_reaches_the_return() -> None:
    reward, value = torch.randn(5, 3), torch.randn(5, 3)
    discount = torch.full((5, 3), 0.9)
    discount[2] = 0.0
    expected = lambda_return(reward, value, discount, torch.randn(3), 0.95)[:3]
    reward[3:], value[3:] = 100.0, -50.0
    got = lambda_return(reward, value, discount, torch.full((3,), 1e4), 0.95)[:3]
    assert torch.equal(got, expected)


def test_lambda_zero_is_one_step_and_lambda_one_is_the_discounted_sum() -> None:
    reward, value = torch.randn(4, 2), torch.randn(4, 2)
    discount, bootstrap = torch.rand(4, 2), torch.randn(2)
    following = torch.cat([value[1:], bootstrap[None]])
    one_step = lambda_return(reward, value, discount, bootstrap, 0.0)
    torch.testing.assert_close(one_step, reward + discount * following)
    total = bootstrap
    for t in (3, 2, 1, 0):
        total = reward[t] + discount[t] * total
    full = lambda_return(reward, value, discount, bootstrap, 1.0)
    torch.testing.assert_close(full[0], total)


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 0.95, 1.0])
def test_the_value_of_a_chain_includes_the_reward_of_the_state_itself(lambda_: float) -> None:
    # s0 -> s1 -> s2 -> s3 (terminal); entering them gives 1, 2, 4, 8. By hand, with gamma .5:
    # V3 = 8, V2 = 4 + .5 * 8 = 8, V1 = 2 + .5 * 8 = 6, V0 = 1 + .5 * 6 = 4.
    reward = torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    value = torch.tensor([[4.0], [6.0], [8.0], [8.0]])
    discount = torch.tensor([[0.5], [0.5], [0.5], [0.0]])
    # The true value is a fixed point whatever lambda is, and what follows the terminal state is ignored.
    returns = lambda_return(reward, value, discount, torch.tensor([1000.0]), lambda_)
    torch.testing.assert_close(returns, value)


def test_weights_are_shifted_by_one_and_contain_gamma() -> None:
    discount = torch.tensor([0.99, 0.0, 0.9, 0.9])[:, None]
    torch.testing.assert_close(
        discount_weights(discount)[:, 0], torch.tensor([1.0, 0.99, 0.0, 0.0])
    )
    constant = torch.full((4, 1), 0.9)
    torch.testing.assert_close(
        discount_weights(constant)[:, 0], torch.tensor([1.0, 0.9, 0.81, 0.729])
    )


def test_a_terminal_start_state_keeps_weight_one_and_silences_what_follows() -> None:
    discount = torch.tensor([0.0, 0.9, 0.9, 0.9])[:, None]
    assert discount_weights(discount)[:, 0].tolist() == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", KL_CASES)
def test_kl_loss_and_both_gradients_equal_the_original(golden: dict[str, Any], name: str) -> None:
    free, average, balance = KL_CASES[name]
    post = torch.tensor(golden["kl"]["post"], requires_grad=True)
    prior = torch.tensor(golden["kl"]["prior"], requires_grad=True)
    case = golden["kl"]["cases"][name]
    loss, _ = kl_loss(post, prior, free, balance, average)
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], abs=1e-6)
    torch.testing.assert_close(post.grad, torch.tensor(case["gpost"]), rtol=0, atol=1e-7)
    torch.testing.assert_close(prior.grad, torch.tensor(case["gprior"]), rtol=0, atol=1e-7)


def test_every_kl_case_of_the_original_is_tested(golden: dict[str, Any]) -> None:
    assert set(golden["kl"]["cases"]) == set(KL_CASES)


def _numpy_kl(lhs: Tensor, rhs: Tensor) -> Tensor:
    def probs(x: np.ndarray) -> np.ndarray:
        e = np.exp(x)
        return np.asarray(e / e.sum(-1, keepdims=True))

    p, q = probs(lhs.double().numpy()), probs(rhs.double().numpy())
    return torch.from_numpy((p * np.log(p / q)).sum((-2, -1)))


def test_the_kl_per_state_sums_over_latents_in_nats_and_is_not_clamped() -> None:
    post, prior = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    expected = _numpy_kl(post, prior)
    torch.testing.assert_close(categorical_kl(post, prior).double(), expected, rtol=1e-5, atol=1e-6)
    _, each = kl_loss(post, prior, 1e6, 0.8, True)
    torch.testing.assert_close(each.double(), expected, rtol=1e-5, atol=1e-6)


def test_free_nats_apply_to_the_mean_so_one_large_state_counts_in_full() -> None:
    # One state far above the threshold, nine at zero: clamped before the mean the loss would be larger.
    post, prior = torch.zeros(10, 1, 2), torch.zeros(10, 1, 2)
    post[0, 0, 0] = 50.0  # KL = log 2 against a uniform prior
    mean = np.log(2) / 10
    loss, _ = kl_loss(post, prior, 0.05, 0.8, True)
    assert loss.item() == pytest.approx(mean, rel=1e-5)
    loss, _ = kl_loss(post, prior, 0.05, 0.8, False)
    assert loss.item() == pytest.approx((np.log(2) + 9 * 0.05) / 10, rel=1e-5)


def test_below_the_free_nats_there_is_no_gradient_at_all() -> None:
    post = torch.randn(3, 2, 4, requires_grad=True)
    prior = torch.randn(3, 2, 4, requires_grad=True)
    mean = categorical_kl(post, prior).mean().item()
    loss, _ = kl_loss(post, prior, mean * 1.01, 0.8, True)
    loss.backward()
    assert post.grad is not None
    assert prior.grad is not None
    assert not post.grad.any()
    assert not prior.grad.any()
    loss, _ = kl_loss(post, prior, mean * 0.99, 0.8, True)
    loss.backward()
    assert post.grad.abs().sum() > 0
    assert prior.grad.abs().sum() > 0


def test_the_prior_gets_the_larger_share_of_the_gradient() -> None:
    post = torch.randn(3, 2, 4, requires_grad=True)
    prior = torch.randn(3, 2, 4, requires_grad=True)
    full_post, full_prior = torch.autograd.grad(categorical_kl(post, prior).mean(), (post, prior))
    loss, _ = kl_loss(post, prior, 0.0, 0.8, True)
    grad_post, grad_prior = torch.autograd.grad(loss, (post, prior))
    torch.testing.assert_close(grad_prior, 0.8 * full_prior)
    torch.testing.assert_close(grad_post, 0.2 * full_post)


def test_reward_transforms() -> None:
    reward = torch.tensor([-3.0, 0.0, 0.5])
    assert transform_reward(reward, "identity").tolist() == [-3.0, 0.0, 0.5]
    assert transform_reward(reward, "sign").tolist() == [-1.0, 0.0, 1.0]
    torch.testing.assert_close(
        transform_reward(reward, "tanh"), torch.tensor([-0.9950548, 0.0, 0.4621172])
    )


def test_an_unknown_reward_transform_names_the_allowed_ones() -> None:
    with pytest.raises(ValueError, match=r"'clip'.*identity, sign, tanh"):
        transform_reward(torch.zeros(1), "clip")


def test_shapes_are_checked_in_every_call_of_this_suite() -> None:
    good, wrong = torch.zeros(4, 2), torch.zeros(4, 3)
    with pytest.raises(jaxtyping.TypeCheckError):
        lambda_return(good, good, wrong, torch.zeros(2), 0.95)
    with pytest.raises(jaxtyping.TypeCheckError):
        lambda_return(good, good, good, torch.zeros(3), 0.95)
