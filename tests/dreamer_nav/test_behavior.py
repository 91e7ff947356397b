"""Actor and critic in imagination: alignment, gradients by finite differences, and what they leave alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dreamer_nav import behavior as behavior_module
from dreamer_nav.agent import Agent
from dreamer_nav.behavior import Behavior, ImaginationNoise, Trajectory
from dreamer_nav.config import HeadConfig
from dreamer_nav.distributions import OneHot, TruncatedNormal
from dreamer_nav.nets import Codes
from dreamer_nav.rssm import RSSM, State
from dreamer_nav.spaces import ActionSpec
from tests.dreamer_nav.conftest import CONTINUOUS, DISCRETE, MakeAgent

N = 6
Loss = tuple[Tensor, Tensor, dict[str, Tensor]]


def _start(agent: Agent, n: int = N) -> State:
    c = agent.config.rssm
    logits = torch.randn(n, c.stoch, c.classes)
    stoch = torch.nn.functional.one_hot(logits.argmax(-1), c.classes).float()
    return State(stoch, logits, torch.tanh(torch.randn(n, c.deter)))


def _noise(agent: Agent, n: int = N) -> ImaginationNoise:
    h, size = agent.config.horizon, agent.action.size
    action = (h, n) if agent.action.discrete else (h, n, size)
    return ImaginationNoise(torch.rand(h, n, agent.config.rssm.stoch), torch.rand(action))


def _vary(agent: Agent) -> Agent:
    """Make nothing trivial: biases, and a slow critic unlike the critic."""
    for p in agent.parameters():
        p.data.add_(0.2 * torch.randn_like(p))
    return agent


def _dense(agent: Agent) -> Agent:
    """Imagine with one-hot latents, which tests can look into; that codes give the same is tested on its own."""
    agent.behavior.use_codes = False
    return agent


def _loss(agent: Agent, start: State, terminal: Tensor, noise: ImaginationNoise) -> Loss:
    agent.model.requires_grad_(False)
    return agent.behavior.loss(agent.model, start, terminal, noise)


def _hand_made(agent: Agent, steps: int = 6) -> tuple[Trajectory, Tensor, Tensor, Tensor]:
    """A trajectory of states 0..steps with made-up targets, values and weights."""
    size, h = agent.action.size, steps + 1
    action = torch.eye(size)[torch.randint(size, (h, N))]
    if not agent.action.discrete:
        action = torch.rand(h, N, size) * 1.8 - 0.9
    seq = Trajectory(torch.randn(h, N, agent.model.rssm.feat_size), action)
    return seq, torch.randn(steps, N), torch.randn(h, N), torch.rand(h, N)


# --- shapes and alignment ------------------------------------------------------------------------


def test_with_horizon_15_policy_has_14_targets_15_and_critic_15_states(
    tiny_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = _dense(tiny_agent(horizon=15))
    shapes: dict[str, list[tuple[int, ...]]] = {"actor": [], "critic": [], "slow": [], "target": []}
    b = agent.behavior
    for name, module in (("actor", b.actor), ("critic", b.critic), ("slow", b.slow_critic)):
        module.register_forward_pre_hook(
            lambda _m, inputs, name=name: shapes[name].append(tuple(inputs[0].shape))
        )
    original = behavior_module.lambda_return

    def record(*args: Tensor | float) -> Tensor:
        out = original(*args)  # type: ignore[arg-type]
        shapes["target"].append(tuple(out.shape))
        return out

    monkeypatch.setattr(behavior_module, "lambda_return", record)
    _loss(agent, _start(agent), torch.zeros(N), _noise(agent))
    feat = agent.model.rssm.feat_size
    assert shapes["actor"] == [(N, feat)] * 15 + [(14, N, feat)]
    assert shapes["slow"] == [(16, N, feat)]
    assert shapes["target"] == [(15, N)]
    assert shapes["critic"] == [(15, N, feat)]


@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_imagined_actions_lead_to_the_next_state(tiny_agent: MakeAgent, action: ActionSpec) -> None:
    agent = _dense(_vary(tiny_agent(action=action)))
    start, noise = _start(agent), _noise(agent)
    seq = agent.behavior.imagine(agent.model.rssm, start, noise)
    assert torch.equal(seq.feat[0], start.feat)
    assert not seq.action[0].any()
    state = start
    for t in range(agent.config.horizon):
        chosen = agent.behavior.actor(seq.feat[t]).sample(noise.action[t])
        torch.testing.assert_close(seq.action[t + 1], chosen)
        state = agent.model.rssm.img_step(state, chosen, noise.latent[t])
        torch.testing.assert_close(seq.feat[t + 1], state.feat)


@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
@pytest.mark.parametrize("layers", [0, 2])
def test_latents_as_column_numbers_change_no_loss_and_no_gradient(
    tiny_agent: MakeAgent, action: ActionSpec, layers: int
) -> None:
    head = HeadConfig(layers=layers, units=8)
    coded = _vary(tiny_agent(action=action, actor_grad="reinforce", head=head))
    dense = _dense(tiny_agent(action=action, actor_grad="reinforce", head=head))
    dense.load_state_dict(coded.state_dict())
    start, noise, terminal = _start(coded), _noise(coded), torch.zeros(N)
    results = []
    for agent in (coded, dense):
        actor, critic, metrics = _loss(agent, start, terminal, noise)
        (actor + critic).backward()
        heads = (agent.behavior.actor, agent.behavior.critic)
        results.append((actor, critic, metrics, [p.grad for m in heads for p in m.parameters()]))
    assert isinstance(coded.behavior.imagine(coded.model.rssm, start, noise).feat, Codes)
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


def test_a_step_with_column_numbers_reaches_the_state_of_a_step_with_one_hots(
    tiny_agent: MakeAgent,
) -> None:
    agent = _vary(tiny_agent())
    rssm, start = agent.model.rssm, _start(agent)
    action, noise = torch.eye(4)[torch.randint(4, (N,))], torch.rand(N, rssm.config.stoch)
    state = rssm.img_step(start, action, noise)
    codes = rssm.img_step_codes(rssm.codes(start), action, noise)
    assert torch.equal(codes.index, rssm.codes(state).index)
    torch.testing.assert_close(codes.deter, state.deter)
    one_hot = torch.zeros(N, rssm.stoch_size).scatter(1, codes.index, 1.0)
    assert torch.equal(one_hot, state.stoch.flatten(1))


def test_first_discount_is_replays_truth_and_contains_gamma(tiny_agent: MakeAgent) -> None:
    agent = tiny_agent(discount=0.9)
    feat = torch.randn(4, 3, agent.model.rssm.feat_size)
    got = agent.behavior.discounts(agent.model, feat, torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(got[0], torch.tensor([0.9, 0.0, 0.9]))
    torch.testing.assert_close(got[1:], agent.model.imagined_discount(feat[1:]))


def test_without_a_discount_head_even_the_first_discount_is_gamma(tiny_agent: MakeAgent) -> None:
    agent = tiny_agent(discount_head=False, discount=0.9)
    feat = torch.randn(4, 2, agent.model.rssm.feat_size)
    got = agent.behavior.discounts(agent.model, feat, torch.tensor([0.0, 1.0]))
    assert torch.equal(got, torch.full((4, 2), 0.9))


def test_a_terminal_start_scores_only_its_first_state(tiny_agent: MakeAgent) -> None:
    agent = _vary(tiny_agent())
    start, noise = _start(agent, 1), _noise(agent, 1)
    agent.model.requires_grad_(False)
    seen = []
    original = agent.behavior.actor_loss
    agent.behavior.actor_loss = lambda *a: (seen.append(a[-1]), original(*a))[1]  # type: ignore
    agent.behavior.loss(agent.model, start, torch.ones(1), noise)
    h = agent.config.horizon
    assert seen[0][:, 0].tolist() == [1.0] + [0.0] * h


class _ChainRSSM(RSSM):
    """The deterministic state is a one-hot position that moves on by one, whatever is done."""

    def img_step(self, state: State, action: Tensor, noise: Tensor) -> State:
        return State(state.stoch, state.logits, state.deter.roll(1, -1))


class _ByPosition(nn.Module):
    """A head that reads a number off the position."""

    def __init__(self, numbers: list[float]) -> None:
        super().__init__()
        self.numbers = torch.tensor(numbers)

    def forward(self, feat: Tensor) -> Tensor:
        return feat[..., -len(self.numbers) :] @ self.numbers[:, None]


def test_on_a_chain_the_targets_are_the_values_worked_out_by_hand(
    tiny_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Positions 0..7, entering the third gives 1 and the sixth gives 10 and ends the episode; gamma .5.
    # V includes the reward of its own state: V5 = 10, V4 = 5, V3 = 2.5, V2 = 1 + 1.25 = 2.25, ...
    reward = [0.0, 0.0, 1.0, 0.0, 0.0, 10.0, 7.0, 7.0]
    value = [0.5625, 1.125, 2.25, 2.5, 5.0, 10.0, 99.0, 99.0]
    discount_logit = [0.0, 0.0, 0.0, 0.0, 0.0, -1e4, 0.0, 0.0]
    agent = _dense(tiny_agent(horizon=5, discount=0.5))
    agent.model.rssm.__class__ = _ChainRSSM
    agent.model.reward = _ByPosition(reward)  # type: ignore[assignment]
    agent.model.discount = _ByPosition(discount_logit)  # type: ignore[assignment]
    agent.behavior.slow_critic = _ByPosition(value)  # type: ignore[assignment]
    targets, weights = [], []
    original = agent.behavior.critic_loss

    def record(feat: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        targets.append(target)
        weights.append(weight)
        return original(feat, target, weight)

    monkeypatch.setattr(agent.behavior, "critic_loss", record)
    start = State(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), torch.eye(8)[[0, 2]])
    _loss(agent, start, torch.zeros(2), _noise(agent, 2))
    torch.testing.assert_close(targets[0][:, 0], torch.tensor(value[:5]))
    torch.testing.assert_close(targets[0][:4, 1], torch.tensor(value[2:6]))
    torch.testing.assert_close(
        weights[0],
        torch.tensor([[1, 0.5, 0.25, 0.125, 0.0625, 0.03125], [1, 0.5, 0.25, 0.125, 0.0, 0.0]]).T,
    )


# --- the losses as written in the original -------------------------------------------------------


def _policy(agent: Agent, seq: Trajectory) -> OneHot | TruncatedNormal:
    policy: OneHot | TruncatedNormal = agent.behavior.actor(seq.feat[:-2])
    return policy


def test_reinforce_scores_actions_by_later_targets_minus_the_originals_baseline(
    tiny_agent: MakeAgent,
) -> None:
    agent = _vary(tiny_agent(actor_grad="reinforce", actor_entropy=0.3))
    seq, target, value, weight = _hand_made(agent)
    loss, metrics = agent.behavior.actor_loss(seq, target, value, weight)
    total = 0.0
    for t in range(5):  # states 0..H-2 of H = 6
        policy = agent.behavior.actor(seq.feat[t])
        score = policy.log_prob(seq.action[t + 1]) * (target[t + 1] - value[t])
        total = total + (weight[t] * (score + 0.3 * policy.entropy())).sum()
    torch.testing.assert_close(loss, -total / (5 * N))
    entropy = _policy(agent, seq).entropy().mean()
    torch.testing.assert_close(metrics["behavior/actor_entropy_nats"], entropy)


def test_the_aligned_baseline_is_the_expected_return_of_the_same_state(
    tiny_agent: MakeAgent,
) -> None:
    agent = tiny_agent(actor_grad="reinforce", discount=0.8, aligned_baseline=True)
    next_return = torch.randn(7, N)
    reward = torch.randn(7, N)
    torch.testing.assert_close(
        agent.behavior.baseline(reward + 0.8 * next_return, reward), next_return
    )
    original = tiny_agent(actor_grad="reinforce", discount=0.8)
    assert torch.equal(original.behavior.baseline(next_return, reward), next_return)


def test_neither_baseline_depends_on_the_action_it_is_subtracted_for(
    tiny_agent: MakeAgent,
) -> None:
    # The action of state t decides state t + 1: a baseline that looked there would cancel what it achieved.
    for aligned in (False, True):
        agent = _vary(tiny_agent(actor_grad="reinforce", aligned_baseline=aligned))
        value, reward = torch.randn(7, N), torch.randn(7, N)
        before = agent.behavior.baseline(value, reward)[2]
        value[3:], reward[3:] = 9.0, 9.0
        assert torch.equal(agent.behavior.baseline(value, reward)[2], before)


def test_the_loss_uses_the_chosen_baseline(tiny_agent: MakeAgent) -> None:
    plain = _vary(tiny_agent(actor_grad="reinforce"))
    start, noise, seen = _start(plain), _noise(plain), []
    for aligned in (False, False, True):
        agent = tiny_agent(actor_grad="reinforce", aligned_baseline=aligned)
        agent.load_state_dict(plain.state_dict())
        original = agent.behavior.actor_loss
        agent.behavior.actor_loss = lambda *a, original=original: (  # type: ignore[method-assign]
            seen.append(a[2]),
            original(*a),
        )[1]
        _loss(agent, start, torch.zeros(N), noise)
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[0], seen[2])


def test_more_entropy_lowers_the_loss_and_its_gradient_raises_entropy(
    tiny_agent: MakeAgent,
) -> None:
    agent = _vary(tiny_agent(actor_grad="reinforce", actor_entropy=1.0))
    seq, _, _, weight = _hand_made(agent)
    nothing = torch.zeros(6, N)
    before = _policy(agent, seq).entropy().mean().item()
    loss, _ = agent.behavior.actor_loss(seq, nothing, torch.zeros(7, N), weight)
    loss.backward()
    with torch.no_grad():
        for p in agent.behavior.actor.parameters():
            assert p.grad is not None
            p.sub_(0.05 * p.grad)
    assert _policy(agent, seq).entropy().mean().item() > before


@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
@pytest.mark.parametrize("mix", [0.1, 0.7])
def test_both_weighs_dynamics_by_mix_and_reinforce_by_the_rest(
    tiny_agent: MakeAgent, action: ActionSpec, mix: float
) -> None:
    losses = {}
    for mode in ("dynamics", "reinforce", "both"):
        agent = tiny_agent(action=action, actor_grad=mode, actor_grad_mix=mix)
        torch.manual_seed(3)
        losses[mode], _ = agent.behavior.actor_loss(*_hand_made(agent))
    expected = mix * losses["dynamics"] + (1 - mix) * losses["reinforce"]
    assert (losses["dynamics"] - losses["reinforce"]).abs() > 1e-2
    torch.testing.assert_close(losses["both"], expected)


def test_both_passes_mix_times_the_weight_to_the_targets(tiny_agent: MakeAgent) -> None:
    agent = tiny_agent(actor_grad="both", actor_grad_mix=0.1)
    seq, target, value, weight = _hand_made(agent)
    target.requires_grad_()
    agent.behavior.actor_loss(seq, target, value, weight)[0].backward()
    assert target.grad is not None
    assert not target.grad[0].any()
    torch.testing.assert_close(target.grad[1:], -0.1 * weight[:-2] / (5 * N))


@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_reinforce_has_no_gradient_to_the_sampled_action_and_both_keeps_the_originals(
    tiny_agent: MakeAgent, action: ActionSpec
) -> None:
    for mode in ("reinforce", "both"):
        agent = _vary(tiny_agent(action=action, actor_grad=mode))
        seq, target, value, weight = _hand_made(agent)
        seq.action.requires_grad_()
        agent.behavior.actor_loss(seq, target, value, weight)[0].backward()
        if mode == "reinforce":
            assert seq.action.grad is None
        else:
            assert seq.action.grad is not None
            assert seq.action.grad.abs().sum() > 0


def test_dynamics_maximises_the_weighted_targets_from_the_second_on(tiny_agent: MakeAgent) -> None:
    agent = tiny_agent(action=CONTINUOUS, actor_entropy=0.0)
    seq, target, value, weight = _hand_made(agent)
    loss, _ = agent.behavior.actor_loss(seq, target, value, weight)
    torch.testing.assert_close(loss, -(weight[:-2] * target[1:]).mean())


def test_auto_is_reinforce_for_choices_and_dynamics_for_continuous(tiny_agent: MakeAgent) -> None:
    assert tiny_agent(action=DISCRETE).behavior.grad_mode == "reinforce"
    assert tiny_agent(action=CONTINUOUS).behavior.grad_mode == "dynamics"
    assert tiny_agent(action=DISCRETE, actor_grad="dynamics").behavior.grad_mode == "dynamics"


def test_the_critic_regresses_each_state_to_its_own_target_with_weights(
    tiny_agent: MakeAgent,
) -> None:
    agent = _vary(tiny_agent())
    seq, target, _, weight = _hand_made(agent)
    loss, _ = agent.behavior.critic_loss(seq.feat, target, weight)
    total = 0.0
    for t in range(6):
        value = agent.behavior.critic(seq.feat[t])[:, 0]
        nll = -torch.distributions.Normal(value, 1.0).log_prob(target[t])
        total = total + (weight[t] * nll).sum()
    torch.testing.assert_close(loss, total / (6 * N))


def test_targets_and_baseline_come_from_the_slow_critic(tiny_agent: MakeAgent) -> None:
    agent = _vary(tiny_agent())
    start, noise, terminal = _start(agent), _noise(agent), torch.zeros(N)
    reference = _loss(agent, start, terminal, noise)[2]
    for p in agent.behavior.critic.parameters():
        p.data.add_(0.5)
    online = _loss(agent, start, terminal, noise)
    assert online[2]["behavior/imagined_return"] == reference["behavior/imagined_return"]
    assert online[2]["loss/actor"] == reference["loss/actor"]
    assert online[2]["loss/critic"] != reference["loss/critic"]
    for p in agent.behavior.slow_critic.parameters():
        p.data.add_(0.5)
    slow = _loss(agent, start, terminal, noise)[2]
    assert slow["behavior/imagined_return"] != reference["behavior/imagined_return"]


# --- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["reinforce", "dynamics", "both"])
@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_the_actor_loss_trains_the_actor_alone(
    tiny_agent: MakeAgent, action: ActionSpec, mode: str
) -> None:
    agent = _vary(tiny_agent(action=action, actor_grad=mode))
    start = State(*(x.clone().requires_grad_() for x in _start(agent)))
    actor_loss, _, _ = _loss(agent, start, torch.zeros(N), _noise(agent))
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
    agent = _vary(tiny_agent(action=action))
    _, critic_loss, _ = _loss(agent, _start(agent), torch.zeros(N), _noise(agent))
    critic_loss.backward()
    for name, p in agent.named_parameters():
        assert (p.grad is not None) == name.startswith("behavior.critic."), name


def test_reinforce_rolls_out_without_a_graph_and_dynamics_with_one(
    tiny_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    for mode, graph in (("reinforce", False), ("dynamics", True)):
        agent = _dense(tiny_agent(actor_grad=mode))
        seen: list[bool] = []
        imagine: Callable[..., Trajectory] = agent.behavior.imagine

        def record(*args: object, imagine: Any = imagine, seen: Any = seen) -> Trajectory:
            seq: Trajectory = imagine(*args)
            seen.append(seq.feat.requires_grad)
            return seq

        monkeypatch.setattr(agent.behavior, "imagine", record)
        _loss(agent, _start(agent), torch.zeros(N), _noise(agent))
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
    agent = _vary(agent.double())
    start = State(*(x.double() for x in _start(agent)))
    noise = ImaginationNoise(*(x.double() for x in _noise(agent)))
    terminal = torch.tensor([0, 0, 1, 0, 0, 1]).double()
    loss, _, _ = _loss(agent, start, terminal, noise)
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
        agent = _dense(_vary(agent.double()))
        n = 4000
        state = _start(agent, 1)
        start = State(*(x.double().expand(n, *x.shape[1:]) for x in state))
        grid = ((torch.arange(n) + 0.5) / n).double()[:, None]
        # Reinforce scores the first action alone, so nothing after state 1 may count in its target.
        list(agent.model.discount.parameters())[-1].data.fill_(-1e3)
        action = torch.stack([grid, torch.full_like(grid, 0.5)])
        noise = ImaginationNoise(torch.zeros(2, n, 3).double(), action)
        loss, _, _ = _loss(agent, start, torch.zeros(n).double(), noise)
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
            actor, critic, metrics = _loss(agent, _start(agent), torch.zeros(N), _noise(agent))
            policy = agent.behavior.actor(_start(agent).feat)
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
