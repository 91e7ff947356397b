"""Gradients in imagination: by finite differences, and which networks they leave alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dreamer_nav.agent import Agent
from dreamer_nav.behavior import Behavior, ImaginationNoise, Trajectory
from dreamer_nav.rssm import State
from dreamer_nav.spaces import ActionSpec
from tests.dreamer_nav import imagined
from tests.dreamer_nav.conftest import CONTINUOUS, DISCRETE, MakeAgent

# --- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["reinforce", "dynamics", "both"])
@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_the_actor_loss_trains_the_actor_alone(
    tiny_agent: MakeAgent, action: ActionSpec, mode: str
) -> None:
    agent = imagined.vary(tiny_agent(action=action, actor_grad=mode))
    start = State(*(x.clone().requires_grad_() for x in imagined.start(agent)))
    actor_loss, _, _ = imagined.loss(agent, start, torch.zeros(imagined.N), imagined.noise(agent))
    actor_loss.backward()
    for name, p in agent.named_parameters():
        if name.startswith("behavior.actor."):
            assert p.grad is not None, name
            assert p.grad.abs().sum() > 0, name
        else:
            assert p.grad is None, name
    assert all(x.grad is None for x in start), "start states are data"


@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_the_critic_loss_trains_the_critic_alone(tiny_agent: MakeAgent, action: ActionSpec) -> None:
    agent = imagined.vary(tiny_agent(action=action))
    _, critic_loss, _ = imagined.loss(
        agent, imagined.start(agent), torch.zeros(imagined.N), imagined.noise(agent)
    )
    critic_loss.backward()
    for name, p in agent.named_parameters():
        assert (p.grad is not None) == name.startswith("behavior.critic."), name


def test_reinforce_rolls_out_without_a_graph_and_dynamics_with_one(
    tiny_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    for mode, graph in (("reinforce", False), ("dynamics", True)):
        agent = imagined.dense(tiny_agent(actor_grad=mode))
        seen: list[bool] = []
        imagine: Callable[..., Trajectory] = agent.behavior.imagine

        def record(*args: object, imagine: Any = imagine, seen: Any = seen) -> Trajectory:
            seq: Trajectory = imagine(*args)
            seen.append(seq.feat.requires_grad)
            return seq

        monkeypatch.setattr(agent.behavior, "imagine", record)
        imagined.loss(agent, imagined.start(agent), torch.zeros(imagined.N), imagined.noise(agent))
        assert seen == [graph]


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in float64, latents deterministic: straight-through never matches differences."""
    monkeypatch.setattr(Tensor, "float", lambda self: self.double())
    monkeypatch.setattr(
        "dreamer_nav.rssm.sample_onehot", lambda logits, noise: torch.softmax(logits, -1)
    )


def _objective(
    agent: Agent, start: State, terminal: Tensor, noise: ImaginationNoise, seen: Tensor, w: Tensor
) -> Tensor:
    """The `dynamics` objective, written anew: what the policy sees and the weights are held fixed."""
    c, h = agent.config, agent.config.horizon
    state, feats = start, [start.feat]
    for t in range(h):
        action = agent.behavior.actor(seen[t]).sample(noise.action[t])
        state = agent.model.rssm.img_step(state, action, noise.latent[t])
        feats.append(state.feat)
    reward = [agent.model.reward(f)[:, 0] for f in feats]
    value = [agent.behavior.slow_critic(f)[:, 0] for f in feats]
    discount = [torch.sigmoid(agent.model.discount(f)[:, 0]) for f in feats]
    discount[0] = c.discount * (1 - terminal)
    returns = {h: value[h]}
    for t in reversed(range(h)):
        later = (1 - c.lambda_) * value[t + 1] + c.lambda_ * returns[t + 1]
        returns[t] = reward[t] + discount[t] * later
    total = torch.zeros((), dtype=torch.float64)
    for t in range(h - 1):
        entropy = agent.behavior.actor(seen[t]).entropy()
        total = total + (w[t] * (returns[t + 1] + c.actor_entropy * entropy)).sum()
    return -total / ((h - 1) * len(terminal))


@pytest.mark.usefixtures("double")
def test_the_dynamics_gradient_matches_finite_differences(tiny_agent: MakeAgent) -> None:
    agent = tiny_agent(action=CONTINUOUS, truncated_normal_grad="exact", actor_entropy=0.05)
    agent = imagined.vary(agent.double())
    start = State(*(x.double() for x in imagined.start(agent)))
    noise = ImaginationNoise(*(x.double() for x in imagined.noise(agent)))
    terminal = torch.tensor([0, 0, 1, 0, 0, 1]).double()
    loss, _, _ = imagined.loss(agent, start, terminal, noise)
    loss.backward()
    with torch.no_grad():
        seq = agent.behavior.imagine(agent.model.rssm, start, noise)
        discount = agent.behavior.discounts(agent.model, seq.feat, terminal)
        weight = torch.ones_like(discount)
        for t in range(1, len(weight)):
            weight[t] = weight[t - 1] * discount[t - 1]

        def value() -> float:
            return _objective(agent, start, terminal, noise, seq.feat, weight).item()

        assert value() == pytest.approx(loss.item(), rel=1e-9)
        params = list(agent.behavior.actor.parameters())
        for _ in range(5):
            directions = [torch.randn_like(p) for p in params]
            step, ends = 1e-5, []
            for sign in (1, -2):
                for p, d in zip(params, directions, strict=True):
                    p.add_(sign * step * d)
                ends.append(value())
            for p, d in zip(params, directions, strict=True):
                p.add_(step * d)
            numeric = (ends[0] - ends[1]) / (2 * step)
            grads = [p.grad for p in params if p.grad is not None]
            analytic = sum((g * d).sum() for g, d in zip(grads, directions, strict=True))
            assert numeric == pytest.approx(float(analytic), rel=1e-5, abs=1e-9)
            assert abs(numeric) > 1e-6


@pytest.mark.usefixtures("double")
def test_reinforce_and_dynamics_agree_on_a_one_step_bandit(tiny_agent: MakeAgent) -> None:
    """Two unbiased estimators of one gradient: averaged over stratified noise they must coincide."""
    grads = {}
    for mode in ("dynamics", "reinforce"):
        agent = tiny_agent(
            action=ActionSpec(False, 1, (-1.0,), (1.0,)),
            actor_grad=mode,
            truncated_normal_grad="exact",
            actor_entropy=0.0,
            horizon=2,
        )
        torch.manual_seed(5)
        agent = imagined.dense(imagined.vary(agent.double()))
        n = 4000
        state = imagined.start(agent, 1)
        start = State(*(x.double().expand(n, *x.shape[1:]) for x in state))
        grid = ((torch.arange(n) + 0.5) / n).double()[:, None]
        # Reinforce scores the first action alone, so nothing after state 1 may count in its target.
        list(agent.model.discount.parameters())[-1].data.fill_(-1e3)
        action = torch.stack([grid, torch.full_like(grid, 0.5)])
        noise = ImaginationNoise(torch.zeros(2, n, 3).double(), action)
        loss, _, _ = imagined.loss(agent, start, torch.zeros(n).double(), noise)
        loss.backward()
        grads[mode] = torch.cat(
            [p.grad.flatten() for p in agent.behavior.actor.parameters() if p.grad is not None]
        )
    scale = grads["dynamics"].abs().max()
    torch.testing.assert_close(
        grads["dynamics"] / scale, grads["reinforce"] / scale, rtol=0, atol=1e-3
    )


def test_behaviour_outputs_are_float32_under_bfloat16(tiny_agent: MakeAgent) -> None:
    for action in (DISCRETE, CONTINUOUS):
        agent = tiny_agent(action=action)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            actor, critic, metrics = imagined.loss(
                agent, imagined.start(agent), torch.zeros(imagined.N), imagined.noise(agent)
            )
            policy = agent.behavior.actor(imagined.start(agent).feat)
        dtypes = {x.dtype for x in (actor, critic, policy.entropy(), *metrics.values())}
        assert dtypes == {torch.float32}


def test_the_slow_critic_is_a_copy_that_never_learns_by_gradient(tiny_agent: MakeAgent) -> None:
    b = tiny_agent().behavior
    assert isinstance(b, Behavior)
    assert not any(p.requires_grad for p in b.slow_critic.parameters())
    for p in b.critic.parameters():
        p.data.add_(1.0)
    b.update_slow_critic()
    for p, q in zip(b.critic.parameters(), b.slow_critic.parameters(), strict=True):
        assert torch.equal(p, q)
        assert p.data_ptr() != q.data_ptr()
