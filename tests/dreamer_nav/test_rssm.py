"""The recurrent state-space model: formulas, episode starts, and one step against a whole sequence."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer_nav.config import RSSMConfig
from dreamer_nav.distributions import sample_onehot
from dreamer_nav.nets import init_like_keras
from dreamer_nav.rssm import RSSM, State

B, T, S, C, D, A, E = 3, 5, 4, 6, 8, 2, 7


@pytest.fixture(params=[False, True], ids=["plain", "layer_norm"])
def rssm(request: pytest.FixtureRequest) -> RSSM:
    config = RSSMConfig(deter=D, hidden=9, stoch=S, classes=C, layer_norm=request.param)
    model = RSSM(config, E, A)
    init_like_keras(model)
    for p in model.parameters():  # no bias and no norm is trivial
        p.data.add_(0.3 * torch.randn_like(p))
    return model


def _state(batch: int = B) -> State:
    logits = torch.randn(batch, S, C)
    return State(sample_onehot(logits, torch.rand(batch, S)), logits, torch.randn(batch, D))


def _sequence() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Embeddings, actions, is_first (mid-sequence in rows 0 and 2), noise."""
    is_first = torch.zeros(B, T, dtype=torch.bool)
    is_first[:, 0] = True
    is_first[0, 2] = is_first[2, 4] = True
    return torch.randn(B, T, E), torch.randn(B, T, A), is_first, torch.rand(T, B, S)


def _dense(layer: nn.Linear, x: Tensor) -> Tensor:
    norm = layer.norm
    y = x @ layer.weight.T + layer.bias
    if isinstance(norm, nn.LayerNorm):
        y = F.layer_norm(y, (y.shape[-1],), norm.weight, norm.bias, 1e-3)
    return F.elu(y)


def _one_hot_by_inverse_cdf(logits: Tensor, noise: Tensor) -> Tensor:
    """Independent sampler: the first class whose cumulative probability exceeds the noise."""
    out = torch.zeros_like(logits)
    for i, probs in enumerate(torch.softmax(logits, -1).reshape(-1, logits.shape[-1])):
        u, k = noise.reshape(-1)[i], 0
        while k < len(probs) - 1 and probs[: k + 1].sum() <= u:
            k += 1
        out.reshape(-1, logits.shape[-1])[i, k] = 1
    return out


def _reference_step(
    rssm: RSSM, state: State, action: Tensor, embed: Tensor | None, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The original's `img_step` (and posterior, given an embedding) written with concatenations."""
    x = _dense(rssm.img_in, torch.cat([state.stoch.reshape(len(action), -1), action], -1))
    deter = rssm.gru(x, state.deter)
    hidden, out = _dense(rssm.img_out, deter), rssm.img_logits
    if embed is not None:
        hidden, out = _dense(rssm.obs_out, torch.cat([deter, embed], -1)), rssm.obs_logits
    logits = (hidden @ out.weight.T + out.bias).reshape(-1, S, C)
    return _one_hot_by_inverse_cdf(logits, noise), logits, deter


def test_the_initial_state_is_zero_and_not_learned(rssm: RSSM) -> None:
    state = rssm.initial(B)
    assert [tuple(x.shape) for x in state] == [(B, S, C), (B, S, C), (B, D)]
    assert not any(x.any() for x in state)
    assert not any(x.requires_grad for x in state)


def test_features_are_stochastic_first_then_deterministic() -> None:
    state = _state()
    torch.testing.assert_close(state.feat[:, : S * C], state.stoch.reshape(B, S * C))
    torch.testing.assert_close(state.feat[:, S * C :], state.deter)


def test_img_step_follows_the_originals_formula(rssm: RSSM) -> None:
    state, action, noise = _state(), torch.randn(B, A), torch.rand(B, S)
    got = rssm.img_step(state, action, noise)
    expected = _reference_step(rssm, state, action, None, noise)
    for x, y in zip(got, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


def test_obs_step_follows_the_originals_formula(rssm: RSSM) -> None:
    state, action, embed = _state(), torch.randn(B, A), torch.randn(B, E)
    noise, going_on = torch.rand(B, S), torch.zeros(B, dtype=torch.bool)
    got = rssm.obs_step(state, action, embed, going_on, noise)
    expected = _reference_step(rssm, state, action, embed, noise)
    for x, y in zip(got, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


def test_a_sequence_equals_its_steps(rssm: RSSM) -> None:
    embed, action, is_first, noise = _sequence()
    post, prior = rssm.observe(embed, action, is_first, noise)
    state = rssm.initial(B)
    for t in range(T):
        before = state
        state = rssm.obs_step(before, action[:, t], embed[:, t], is_first[:, t], noise[t])
        for whole, step in zip(post, state, strict=True):
            torch.testing.assert_close(whole[:, t], step, rtol=1e-5, atol=1e-5)
        keep = 1 - is_first[:, t].float()[:, None]
        masked = State(before.stoch * keep[..., None], before.logits, before.deter * keep)
        imagined = rssm.img_step(masked, action[:, t] * keep, noise[t])
        torch.testing.assert_close(prior[:, t], imagined.logits, rtol=1e-5, atol=1e-5)


def test_observe_starts_from_a_given_state(rssm: RSSM) -> None:
    embed, action, is_first, noise = _sequence()
    is_first[:] = False
    whole, _ = rssm.observe(embed, action, is_first, noise)
    first, _ = rssm.observe(embed[:, :2], action[:, :2], is_first[:, :2], noise[:2])
    carried = State(*(x[:, -1] for x in first))
    rest, _ = rssm.observe(embed[:, 2:], action[:, 2:], is_first[:, 2:], noise[2:], carried)
    for x, y in zip(whole, rest, strict=True):
        torch.testing.assert_close(x[:, 2:], y, rtol=1e-5, atol=1e-5)


def test_an_episode_start_forgets_the_previous_state(rssm: RSSM) -> None:
    embed, action, _, noise = _sequence()
    first = torch.tensor([True, False, True])
    a = rssm.obs_step(_state(), action[:, 0], embed[:, 0], first, noise[0])
    b = rssm.obs_step(_state(), action[:, 0], embed[:, 0], first, noise[0])
    zero = rssm.obs_step(rssm.initial(B), action[:, 0], embed[:, 0], first, noise[0])
    for x, y, z in zip(a, b, zero, strict=True):
        assert torch.equal(x[first], y[first])
        assert torch.equal(x[first], z[first])
    assert not torch.allclose(a.deter[~first], b.deter[~first])


def test_an_episode_start_forgets_the_previous_action(rssm: RSSM) -> None:
    embed, action, _, noise = _sequence()
    first, state = torch.tensor([True, False, True]), _state()
    a = rssm.obs_step(state, action[:, 0], embed[:, 0], first, noise[0])
    b = rssm.obs_step(state, action[:, 0] + 1, embed[:, 0], first, noise[0])
    zero = rssm.obs_step(state, torch.zeros(B, A), embed[:, 0], first, noise[0])
    for x, y, z in zip(a, b, zero, strict=True):
        assert torch.equal(x[first], y[first])
        assert torch.equal(x[first], z[first])
    assert not torch.allclose(a.deter[~first], b.deter[~first])


def test_within_a_sequence_each_row_is_reset_alone(rssm: RSSM) -> None:
    embed, action, is_first, noise = _sequence()
    reference, ref_prior = rssm.observe(embed, action, is_first, noise)
    # Other past in every row, and another action at the row's own reset: rows 0 and 2 are reset at 2 and 4.
    changed, past = action.clone(), embed.clone()
    changed[0, :3] += 1
    past[0, :2] += 1
    changed[2, :5] -= 1
    past[2, :4] -= 1
    got, prior = rssm.observe(past, changed, is_first, noise)
    for x, y in zip((*got, prior), (*reference, ref_prior), strict=True):
        assert torch.equal(x[0, 2:], y[0, 2:])
        assert torch.equal(x[2, 4:], y[2, 4:])
        assert torch.equal(x[1], y[1])
    assert not torch.allclose(got.deter[0, 1], reference.deter[0, 1])
    assert not torch.allclose(got.deter[2, 3], reference.deter[2, 3])


def test_without_a_reset_the_past_does_reach_later_steps(rssm: RSSM) -> None:
    embed, action, is_first, noise = _sequence()
    is_first[:, 1:] = False
    reference, _ = rssm.observe(embed, action, is_first, noise)
    action[0, 1] += 1
    got, _ = rssm.observe(embed, action, is_first, noise)
    assert not torch.allclose(got.deter[0, 4], reference.deter[0, 4])


def test_only_the_recurrence_runs_step_by_step(rssm: RSSM) -> None:
    calls: dict[str, list[tuple[int, ...]]] = {}
    for name in ("img_out", "img_logits", "gru"):
        shapes = calls.setdefault(name, [])
        getattr(rssm, name).register_forward_hook(
            lambda _m, _i, out, shapes=shapes: shapes.append(tuple(out.shape))
        )
    embed, action, is_first, noise = _sequence()
    rssm.observe(embed, action, is_first, noise)
    assert calls["gru"] == [(B, D)] * T
    assert calls["img_out"] == [(B, T, 9)], "the prior is computed once, for all steps"
    assert calls["img_logits"] == [(B, T, S * C)]


def test_gradient_reaches_every_parameter_through_posterior_and_prior(rssm: RSSM) -> None:
    post, prior = rssm.observe(*_sequence())
    (post.feat.square().mean() + prior.square().mean()).backward()
    for name, p in rssm.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_under_bfloat16_logits_and_samples_stay_float32(rssm: RSSM) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        post, prior = rssm.observe(*_sequence())
        state = rssm.img_step(rssm.initial(B), torch.randn(B, A), torch.rand(B, S))
    for x in (*post, prior, *state):
        assert x.dtype == torch.float32
