"""Actor and critic in imagination: shapes, alignment and the losses as written in the original."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dreamer_nav import behavior as behavior_module
from dreamer_nav.agent import Agent
from dreamer_nav.behavior import Trajectory
from dreamer_nav.config import HeadConfig
from dreamer_nav.distributions import OneHot, TruncatedNormal
from dreamer_nav.nets import Codes
from dreamer_nav.rssm import RSSM, State
from dreamer_nav.spaces import ActionSpec
from tests.dreamer_nav import imagined
from tests.dreamer_nav.conftest import CONTINUOUS, DISCRETE, MakeAgent

# --- shapes and alignment ------------------------------------------------------------------------


def test_with_horizon_15_policy_has_14_targets_15_and_critic_15_states(
    tiny_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = imagined.dense(tiny_agent(horizon=15))
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
    imagined.loss(agent, imagined.start(agent), torch.zeros(imagined.N), imagined.noise(agent))
    feat = agent.model.rssm.feat_size
    assert shapes["actor"] == [(imagined.N, feat)] * 15 + [(14, imagined.N, feat)]
    assert shapes["slow"] == [(16, imagined.N, feat)]
    assert shapes["target"] == [(15, imagined.N)]
    assert shapes["critic"] == [(15, imagined.N, feat)]


@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_imagined_actions_lead_to_the_next_state(tiny_agent: MakeAgent, action: ActionSpec) -> None:
    agent = imagined.dense(imagined.vary(tiny_agent(action=action)))
    start, noise = imagined.start(agent), imagined.noise(agent)
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
    coded = imagined.vary(tiny_agent(action=action, actor_grad="reinforce", head=head))
    dense = imagined.dense(tiny_agent(action=action, actor_grad="reinforce", head=head))
    dense.load_state_dict(coded.state_dict())
    start, noise, terminal = imagined.start(coded), imagined.noise(coded), torch.zeros(imagined.N)
    results = []
    for agent in (coded, dense):
        actor, critic, metrics = imagined.loss(agent, start, terminal, noise)
        (actor + critic).backward()
        heads = (agent.behavior.actor, agent.behavior.critic)
        results.append((actor, critic, metrics, [p.grad for m in heads for p in m.parameters()]))
    assert isinstance(coded.behavior.imagine(coded.model.rssm, start, noise).feat, Codes)
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


def test_a_step_with_column_numbers_reaches_the_state_of_a_step_with_one_hots(
    tiny_agent: MakeAgent,
) -> None:
    agent = imagined.vary(tiny_agent())
    rssm, start = agent.model.rssm, imagined.start(agent)
    action, noise = (
        torch.eye(4)[torch.randint(4, (imagined.N,))],
        torch.rand(imagined.N, rssm.config.stoch),
    )
    state = rssm.img_step(start, action, noise)
    codes = rssm.img_step_codes(rssm.codes(start), action, noise)
    assert torch.equal(codes.index, rssm.codes(state).index)
    torch.testing.assert_close(codes.deter, state.deter)
    one_hot = torch.zeros(imagined.N, rssm.stoch_size).scatter(1, codes.index, 1.0)
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
    agent = imagined.vary(tiny_agent())
    start, noise = imagined.start(agent, 1), imagined.noise(agent, 1)
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
    agent = imagined.dense(tiny_agent(horizon=5, discount=0.5))
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
    imagined.loss(agent, start, torch.zeros(2), imagined.noise(agent, 2))
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
    agent = imagined.vary(tiny_agent(actor_grad="reinforce", actor_entropy=0.3))
    seq, target, value, weight = imagined.hand_made(agent)
    loss, metrics = agent.behavior.actor_loss(seq, target, value, weight)
    total = 0.0
    for t in range(5):  # states 0..H-2 of H = 6
        policy = agent.behavior.actor(seq.feat[t])
        score = policy.log_prob(seq.action[t + 1]) * (target[t + 1] - value[t])
        total = total + (weight[t] * (score + 0.3 * policy.entropy())).sum()
    torch.testing.assert_close(loss, -total / (5 * imagined.N))
    entropy = _policy(agent, seq).entropy().mean()
    torch.testing.assert_close(metrics["behavior/actor_entropy_nats"], entropy)


def test_the_aligned_baseline_is_the_expected_return_of_the_same_state(
    tiny_agent: MakeAgent,
) -> None:
    agent = tiny_agent(actor_grad="reinforce", discount=0.8, aligned_baseline=True)
    next_return = torch.randn(7, imagined.N)
    reward = torch.randn(7, imagined.N)
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
        agent = imagined.vary(tiny_agent(actor_grad="reinforce", aligned_baseline=aligned))
        value, reward = torch.randn(7, imagined.N), torch.randn(7, imagined.N)
        before = agent.behavior.baseline(value, reward)[2]
        value[3:], reward[3:] = 9.0, 9.0
        assert torch.equal(agent.behavior.baseline(value, reward)[2], before)


def test_the_loss_uses_the_chosen_baseline(tiny_agent: MakeAgent) -> None:
    plain = imagined.vary(tiny_agent(actor_grad="reinforce"))
    start, noise, seen = imagined.start(plain), imagined.noise(plain), []
    for aligned in (False, False, True):
        agent = tiny_agent(actor_grad="reinforce", aligned_baseline=aligned)
        agent.load_state_dict(plain.state_dict())
        original = agent.behavior.actor_loss
        agent.behavior.actor_loss = lambda *a, original=original: (  # type: ignore[method-assign]
            seen.append(a[2]),
            original(*a),
        )[1]
        imagined.loss(agent, start, torch.zeros(imagined.N), noise)
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[0], seen[2])


def test_more_entropy_lowers_the_loss_and_its_gradient_raises_entropy(
    tiny_agent: MakeAgent,
) -> None:
    agent = imagined.vary(tiny_agent(actor_grad="reinforce", actor_entropy=1.0))
    seq, _, _, weight = imagined.hand_made(agent)
    nothing = torch.zeros(6, imagined.N)
    before = _policy(agent, seq).entropy().mean().item()
    loss, _ = agent.behavior.actor_loss(seq, nothing, torch.zeros(7, imagined.N), weight)
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
        losses[mode], _ = agent.behavior.actor_loss(*imagined.hand_made(agent))
    expected = mix * losses["dynamics"] + (1 - mix) * losses["reinforce"]
    assert (losses["dynamics"] - losses["reinforce"]).abs() > 1e-2
    torch.testing.assert_close(losses["both"], expected)


def test_both_passes_mix_times_the_weight_to_the_targets(tiny_agent: MakeAgent) -> None:
    agent = tiny_agent(actor_grad="both", actor_grad_mix=0.1)
    seq, target, value, weight = imagined.hand_made(agent)
    target.requires_grad_()
    agent.behavior.actor_loss(seq, target, value, weight)[0].backward()
    assert target.grad is not None
    assert not target.grad[0].any()
    torch.testing.assert_close(target.grad[1:], -0.1 * weight[:-2] / (5 * imagined.N))


@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_reinforce_has_no_gradient_to_the_sampled_action_and_both_keeps_the_originals(
    tiny_agent: MakeAgent, action: ActionSpec
) -> None:
    for mode in ("reinforce", "both"):
        agent = imagined.vary(tiny_agent(action=action, actor_grad=mode))
        seq, target, value, weight = imagined.hand_made(agent)
        seq.action.requires_grad_()
        agent.behavior.actor_loss(seq, target, value, weight)[0].backward()
        if mode == "reinforce":
            assert seq.action.grad is None
        else:
            assert seq.action.grad is not None
            assert seq.action.grad.abs().sum() > 0


def test_dynamics_maximises_the_weighted_targets_from_the_second_on(tiny_agent: MakeAgent) -> None:
    agent = tiny_agent(action=CONTINUOUS, actor_entropy=0.0)
    seq, target, value, weight = imagined.hand_made(agent)
    loss, _ = agent.behavior.actor_loss(seq, target, value, weight)
    torch.testing.assert_close(loss, -(weight[:-2] * target[1:]).mean())


def test_auto_is_reinforce_for_choices_and_dynamics_for_continuous(tiny_agent: MakeAgent) -> None:
    assert tiny_agent(action=DISCRETE).behavior.grad_mode == "reinforce"
    assert tiny_agent(action=CONTINUOUS).behavior.grad_mode == "dynamics"
    assert tiny_agent(action=DISCRETE, actor_grad="dynamics").behavior.grad_mode == "dynamics"


def test_the_critic_regresses_each_state_to_its_own_target_with_weights(
    tiny_agent: MakeAgent,
) -> None:
    agent = imagined.vary(tiny_agent())
    seq, target, _, weight = imagined.hand_made(agent)
    loss, _ = agent.behavior.critic_loss(seq.feat, target, weight)
    total = 0.0
    for t in range(6):
        value = agent.behavior.critic(seq.feat[t])[:, 0]
        nll = -torch.distributions.Normal(value, 1.0).log_prob(target[t])
        total = total + (weight[t] * nll).sum()
    torch.testing.assert_close(loss, total / (6 * imagined.N))


def test_targets_and_baseline_come_from_the_slow_critic(tiny_agent: MakeAgent) -> None:
    agent = imagined.vary(tiny_agent())
    start, noise, terminal = imagined.start(agent), imagined.noise(agent), torch.zeros(imagined.N)
    reference = imagined.loss(agent, start, terminal, noise)[2]
    for p in agent.behavior.critic.parameters():
        p.data.add_(0.5)
    online = imagined.loss(agent, start, terminal, noise)
    assert online[2]["behavior/imagined_return"] == reference["behavior/imagined_return"]
    assert online[2]["loss/actor"] == reference["loss/actor"]
    assert online[2]["loss/critic"] != reference["loss/critic"]
    for p in agent.behavior.slow_critic.parameters():
        p.data.add_(0.5)
    slow = imagined.loss(agent, start, terminal, noise)[2]
    assert slow["behavior/imagined_return"] != reference["behavior/imagined_return"]
