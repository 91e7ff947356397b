"""World-model losses, term by term, and what their gradients may reach."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dreamer_nav.agent import Agent
from dreamer_nav.rssm import State
from dreamer_nav.spaces import ObsSpec
from dreamer_nav.world_model import WorldModel
from tests.dreamer_nav.conftest import IMAGE, VECTOR, MakeAgent, MakeBatch, MakeConfig

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
DEPTH = ObsSpec("depth", (64, 64, 1), "float32", 0.0, 10.0)
GOAL = ObsSpec("goal", (2,), "float32")


@pytest.fixture
def agent(tiny_agent: MakeAgent) -> Agent:
    return tiny_agent(obs=(IMAGE, VECTOR))


def _observed(
    model: WorldModel, batch: dict[str, Tensor], seed: int = 0
) -> tuple[State, Tensor, Tensor]:
    """Posterior, prior logits and the noise that gives them again."""
    shape = batch["reward"].shape[1], batch["reward"].shape[0], model.config.rssm.stoch
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    embed = model.encoder(model.preprocess(batch))
    post, prior = model.rssm.observe(embed, batch["action"], batch["is_first"], noise)
    return post, prior, noise


def test_each_loss_is_its_negative_log_likelihood(agent: Agent, make_batch: MakeBatch) -> None:
    model, batch = agent.model, make_batch(agent)
    post, _, _ = _observed(model, batch)
    losses = model.head_losses(post, model.preprocess(batch), batch)
    assert set(losses) == {"image", "sensors", "reward", "discount"}
    decoded = model.decoder(post.feat)
    # Summed over pixels, each with its constant, and averaged over nothing: (B, T).
    error = (decoded["image"] - (batch["image"].float() / 255 - 0.5)).square()
    image = (0.5 * error + HALF_LOG_2PI).sum((-3, -2, -1))
    torch.testing.assert_close(losses["image"], image)
    vector = 0.5 * (decoded["sensors"] - batch["sensors"]).square() + HALF_LOG_2PI
    torch.testing.assert_close(losses["sensors"], vector.sum(-1))
    reward = 0.5 * (model.reward(post.feat)[..., 0] - batch["reward"]).square() + HALF_LOG_2PI
    torch.testing.assert_close(losses["reward"], reward)
    p = torch.sigmoid(model.discount(post.feat)[..., 0])
    soft = model.config.discount * (1 - batch["is_terminal"].float())
    discount = -(soft * p.log() + (1 - soft) * (1 - p).log())
    torch.testing.assert_close(losses["discount"], discount)


def test_the_total_is_the_scaled_sum_of_means(tiny_agent: MakeAgent, make_batch: MakeBatch) -> None:
    scales = {"kl": 0.1, "reward": 2.0, "discount": 5.0, "sensors": 3.0}
    agent = tiny_agent(obs=(IMAGE, VECTOR), loss_scales=scales)
    batch = make_batch(agent)
    _, _, noise = _observed(agent.model, batch)
    total, _, metrics = agent.model.loss(batch, noise)
    expected = sum(scales[k] * metrics[f"loss/{k}"] for k in scales) + metrics["loss/image"]
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(metrics["loss/model"], total.detach())


def test_kl_and_entropies_are_those_of_posterior_and_prior(
    agent: Agent, make_batch: MakeBatch
) -> None:
    batch = make_batch(agent)
    post, prior, noise = _observed(agent.model, batch)
    _, _, metrics = agent.model.loss(batch, noise)
    p, q = (torch.distributions.Categorical(logits=x) for x in (post.logits, prior))
    kl = torch.distributions.kl_divergence(p, q).sum(-1).mean()
    torch.testing.assert_close(metrics["model/kl_nats"], kl)
    torch.testing.assert_close(metrics["loss/kl"], kl)  # free nats are 0: balancing keeps the value
    torch.testing.assert_close(metrics["model/post_entropy_nats"], p.entropy().sum(-1).mean())
    torch.testing.assert_close(metrics["model/prior_entropy_nats"], q.entropy().sum(-1).mean())


def test_kl_settings_reach_the_loss(tiny_agent: MakeAgent, make_batch: MakeBatch) -> None:
    plain, free = tiny_agent(), tiny_agent(kl_free_nats=3.0)
    batch = make_batch(plain)
    _, _, noise = _observed(plain.model, batch)
    assert free.model.loss(batch, noise)[2]["loss/kl"] == 3.0
    grads = []
    for balance in (0.8, 0.3):
        agent = tiny_agent(kl_balance=balance, loss_scales={"reward": 0.0, "sensors": 0.0})
        agent.model.loss(batch, noise)[0].backward()
        grad = agent.model.rssm.img_logits.weight.grad
        assert grad is not None
        grads.append(grad / balance)
    torch.testing.assert_close(grads[0], grads[1])  # the prior's layer sees the prior's share alone


@pytest.mark.parametrize("head", ["decoder", "reward", "discount"])
def test_a_head_outside_grad_heads_does_not_shape_the_state(
    tiny_agent: MakeAgent, make_batch: MakeBatch, head: str
) -> None:
    others = tuple(h for h in ("decoder", "reward", "discount") if h != head)
    agent = tiny_agent(grad_heads=others)
    model, batch = agent.model, make_batch(agent)
    post, _, _ = _observed(model, batch)
    losses = model.head_losses(post, model.preprocess(batch), batch)
    names = {"decoder": "sensors", "reward": "reward", "discount": "discount"}
    for key, name in names.items():
        (grad,) = torch.autograd.grad(
            losses[name].sum(), post.deter, allow_unused=True, retain_graph=True
        )
        assert (grad is None) == (key == head)
    heads = {"decoder": model.decoder.mlp, "reward": model.reward, "discount": model.discount}
    weight = next(heads[head].parameters())
    (own,) = torch.autograd.grad(losses[names[head]].sum(), weight)
    assert own.abs().sum() > 0, "the head itself still learns"


def test_rewards_are_transformed_before_the_model_sees_them(
    tiny_agent: MakeAgent, make_batch: MakeBatch
) -> None:
    plain, squashed = tiny_agent(), tiny_agent(reward_transform="tanh")
    batch = make_batch(plain)
    _, _, noise = _observed(plain.model, batch)
    other = {**batch, "reward": torch.tanh(batch["reward"])}
    a = plain.model.loss(other, noise)[2]["loss/reward"]
    b = squashed.model.loss(batch, noise)[2]["loss/reward"]
    torch.testing.assert_close(a, b)


def test_without_a_discount_head_the_discount_is_constant(
    tiny_agent: MakeAgent, make_batch: MakeBatch
) -> None:
    agent = tiny_agent(discount_head=False, discount=0.97)
    batch = make_batch(agent)
    _, _, noise = _observed(agent.model, batch)
    assert "loss/discount" not in agent.model.loss(batch, noise)[2]
    feat = torch.randn(3, 2, agent.model.rssm.feat_size)
    assert torch.equal(agent.model.imagined_discount(feat), torch.full((3, 2), 0.97))


def test_imagined_reward_and_discount_are_the_heads_means(agent: Agent) -> None:
    feat = torch.randn(3, 2, agent.model.rssm.feat_size)
    torch.testing.assert_close(agent.model.imagined_reward(feat), agent.model.reward(feat)[..., 0])
    expected = 1 / (1 + torch.exp(-agent.model.discount(feat)[..., 0]))
    torch.testing.assert_close(agent.model.imagined_discount(feat), expected)


def test_alignment_action_t_leads_to_observation_t(agent: Agent, make_batch: MakeBatch) -> None:
    batch = make_batch(agent)
    post, _, _ = _observed(agent.model, batch)
    changed = {**batch, "action": batch["action"].clone()}
    changed["action"][:, 2] = batch["action"][:, 2].roll(1, -1)
    got, _, _ = _observed(agent.model, changed)
    assert torch.equal(got.deter[:, :2], post.deter[:, :2])
    assert not torch.allclose(got.deter[:, 2], post.deter[:, 2])


def test_the_losses_train_every_parameter(agent: Agent, make_batch: MakeBatch) -> None:
    batch = make_batch(agent)
    _, _, noise = _observed(agent.model, batch)
    agent.model.loss(batch, noise)[0].backward()
    for name, p in agent.model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_uint8_and_float_images_give_the_same_losses(
    tiny_agent: MakeAgent, make_batch: MakeBatch
) -> None:
    as_int = tiny_agent(obs=(IMAGE,))
    as_float = tiny_agent(obs=(ObsSpec("image", (64, 64, 1), "float32", 0.0, 1.0),))
    batch = make_batch(as_int)
    scaled = {**batch, "image": batch["image"].float() / 255}
    _, _, noise = _observed(as_int.model, batch)
    a = as_int.model.loss(batch, noise)[2]
    b = as_float.model.loss(scaled, noise)[2]
    for key in a:
        torch.testing.assert_close(a[key], b[key], msg=key)


def test_polar_goals_are_decoded_in_the_form_they_are_encoded(
    tiny_agent: MakeAgent, make_batch: MakeBatch, tiny_config: MakeConfig
) -> None:
    encoder = replace(tiny_config().encoder, polar_keys="goal")
    agent = tiny_agent(obs=(GOAL, VECTOR), encoder=encoder)
    batch = make_batch(agent)
    post, _, _ = _observed(agent.model, batch)
    assert agent.model.decoder(post.feat)["goal"].shape == (2, 4, 3)
    turned = {**batch, "goal": batch["goal"] + torch.tensor([0.0, 2 * math.pi])}
    a, _, _ = _observed(agent.model, turned)
    torch.testing.assert_close(a.logits, post.logits, rtol=1e-4, atol=1e-5)


def test_open_loop_uses_no_observation_after_its_context(
    tiny_agent: MakeAgent, make_batch: MakeBatch
) -> None:
    agent = tiny_agent(obs=(IMAGE, VECTOR))
    batch = make_batch(agent, length=5)
    post, _, noise = _observed(agent.model, batch)
    out = agent.model.open_loop(batch, 2, noise)
    assert out["image"].shape == (2, 5, 64, 64, 1)
    assert not out["image"].requires_grad
    decoded = agent.model.decoder(post.feat)
    torch.testing.assert_close(out["sensors"][:, :2], decoded["sensors"][:, :2])
    later = {k: v.clone() for k, v in batch.items()}
    later["image"][:, 2:] = 0
    later["sensors"][:, 2:] = 0
    torch.testing.assert_close(agent.model.open_loop(later, 2, noise)["image"], out["image"])
    # From there on it is img_step with the batch's actions.
    state = State(*(x[:, 1] for x in post))
    for t in (2, 3, 4):
        state = agent.model.rssm.img_step(state, batch["action"][:, t], noise[t])
        expected = agent.model.decoder(state.feat)["sensors"]
        torch.testing.assert_close(out["sensors"][:, t], expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_losses_and_logits_are_float32_and_close(
    tiny_agent: MakeAgent, make_batch: MakeBatch
) -> None:
    agent = tiny_agent(obs=(IMAGE, DEPTH, VECTOR))
    batch = make_batch(agent)
    _, _, noise = _observed(agent.model, batch)
    full = agent.model.loss(batch, noise)[2]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, post, half = agent.model.loss(batch, noise)
        losses = agent.model.head_losses(post, agent.model.preprocess(batch), batch)
    assert total.dtype == torch.float32
    assert {x.dtype for x in (*post, *losses.values(), *half.values())} == {torch.float32}
    for key in ("loss/image", "loss/depth", "loss/reward", "loss/model"):
        torch.testing.assert_close(half[key], full[key], rtol=0.05, atol=0.05)
