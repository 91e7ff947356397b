"""The agent as a whole: acting as it was trained, cadence, reproducibility, precision, errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dreamer_nav.agent import Agent, PolicyState, choose_device
from dreamer_nav.behavior import ImaginationNoise
from dreamer_nav.rssm import State
from dreamer_nav.spaces import ActionSpec, ObsSpec
from tests.dreamer_nav.conftest import (
    CONTINUOUS,
    DISCRETE,
    IMAGE,
    VECTOR,
    MakeAgent,
    MakeBatch,
    MakeConfig,
)

FLOAT_IMAGE = ObsSpec("image", (64, 64, 1), "float32", 0.0, 1.0)
GOAL = ObsSpec("goal", (2,), "float32")
ACTIONS = pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])


def _equal(a: Agent, b: Agent) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def _warm(agent: Agent) -> Agent:
    """Weights as after some training: no zero biases."""
    with torch.no_grad():
        for p in agent.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return agent


# --- acting --------------------------------------------------------------------------------------


@ACTIONS
@pytest.mark.parametrize("image", [IMAGE, FLOAT_IMAGE], ids=["uint8", "float"])
def test_acting_step_by_step_reaches_the_states_that_training_sees(
    tiny_agent: MakeAgent,
    make_batch: MakeBatch,
    action: ActionSpec,
    image: ObsSpec,
) -> None:
    agent = _warm(tiny_agent(obs=(image, VECTOR), action=action))
    batch = make_batch(agent, batch=3, length=5)
    batch["is_first"][1, 2] = True  # an episode of one row ends on the way
    noise = torch.rand(5, 3, agent.config.rssm.stoch)
    state, latents = agent.initial(3), []
    for t in range(5):
        obs = {k: v[:, t] for k, v in batch.items() if k in ("image", "sensors", "is_first")}
        before = state.action
        drawn = agent.draw_policy_noise(3)._replace(latent=noise[t])
        act, state = agent.policy(obs, state, noise=drawn)
        assert torch.equal(act, state.action)
        latents.append(state.latent)
        # Replay stores zeros at an episode's first row; garbage there must not matter.
        batch["action"][:, t] = torch.where(batch["is_first"][:, t, None], 7.0, before)
    embed = agent.model.encoder(agent.model.preprocess(batch))
    post, _ = agent.model.rssm.observe(embed, batch["action"], batch["is_first"], noise)
    for t in range(5):
        for whole, step in zip(post, latents[t], strict=True):
            torch.testing.assert_close(whole[:, t], step, rtol=1e-4, atol=1e-5)


def test_images_are_normalised_alike_when_acting_whatever_their_type(tiny_agent: MakeAgent) -> None:
    as_int = _warm(tiny_agent(obs=(IMAGE,)))
    as_float = tiny_agent(obs=(FLOAT_IMAGE,))
    as_float.load_state_dict(as_int.state_dict())
    image = torch.randint(0, 256, (2, 64, 64, 1), dtype=torch.uint8)
    first = torch.ones(2, dtype=torch.bool)
    _, a = as_int.policy({"image": image, "is_first": first}, as_int.initial(2))
    _, b = as_float.policy({"image": image / 255, "is_first": first}, as_float.initial(2))
    torch.testing.assert_close(a.latent.logits, b.latent.logits)


def test_actions_are_one_hot_or_inside_the_bounds(tiny_agent: MakeAgent) -> None:
    obs = {"sensors": torch.randn(50, 3), "is_first": torch.ones(50, dtype=torch.bool)}
    choices = tiny_agent(action=DISCRETE)
    for mode in ("sample", "mode"):
        action, _ = choices.policy(obs, choices.initial(50), mode)
        assert action.shape == (50, 4)
        assert set(action.unique().tolist()) == {0.0, 1.0}
        assert (action.sum(-1) == 1).all()
    continuous = tiny_agent(action=CONTINUOUS)
    action, _ = continuous.policy(obs, continuous.initial(50))
    assert action.shape == (50, 2)
    assert action.abs().max() < 1


@ACTIONS
def test_mode_chooses_the_likeliest_action_and_still_samples_the_state(
    tiny_agent: MakeAgent, action: ActionSpec
) -> None:
    agent = _warm(tiny_agent(action=action))
    obs = {"sensors": torch.randn(8, 3), "is_first": torch.ones(8, dtype=torch.bool)}
    act, state = agent.policy(obs, agent.initial(8), "mode")
    policy = agent.behavior.actor(state.latent.feat)
    torch.testing.assert_close(act, policy.mode())
    _, again = agent.policy(obs, agent.initial(8), "mode")
    assert not torch.equal(state.latent.stoch, again.latent.stoch)


def test_exploration_noise_acts_while_exploring_alone(tiny_agent: MakeAgent) -> None:
    n = 4000
    agent = tiny_agent(expl_noise=0.5)
    with torch.no_grad():
        last = list(agent.behavior.actor.mlp.parameters())[-1]
        last[0] = 50.0  # always action 0
    obs = {"sensors": torch.zeros(n, 3), "is_first": torch.ones(n, dtype=torch.bool)}
    explored, _ = agent.policy(obs, agent.initial(n), "explore")
    frequency = explored.mean(0)
    expected = torch.tensor([0.625, 0.125, 0.125, 0.125])  # half of them uniform over four
    torch.testing.assert_close(frequency, expected, rtol=0, atol=0.03)
    for mode in ("sample", "mode"):
        action, _ = agent.policy(obs, agent.initial(n), mode)
        assert (action[:, 0] == 1).all()


def test_exploration_noise_of_continuous_actions_has_its_std_and_stays_inside(
    tiny_agent: MakeAgent,
) -> None:
    n = 4000
    quiet = tiny_agent(action=CONTINUOUS)
    noisy = tiny_agent(action=CONTINUOUS, expl_noise=0.3)
    obs = {"sensors": torch.zeros(n, 3), "is_first": torch.ones(n, dtype=torch.bool)}
    a, _ = quiet.policy(obs, quiet.initial(n), "explore")
    b, _ = noisy.policy(obs, noisy.initial(n), "explore")
    assert b.abs().max() <= 1
    inside = a.abs() < 0.1  # far from the bounds, where nothing is clipped
    assert (b - a)[inside].std().item() == pytest.approx(0.3, rel=0.1)


# --- learning ------------------------------------------------------------------------------------


def _slow_equals_online(agent: Agent) -> bool:
    b = agent.behavior
    pairs = zip(b.critic.parameters(), b.slow_critic.parameters(), strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


def test_the_slow_critic_is_copied_after_updates_1_and_101_and_not_between(
    tiny_agent: MakeAgent, make_batch: MakeBatch
) -> None:
    agent = tiny_agent(horizon=2)
    assert agent.config.slow_critic_every_updates == 100
    batch = make_batch(agent, batch=1, length=2)
    copied, changed = [], []
    before = [p.clone() for p in agent.behavior.slow_critic.parameters()]
    for update in range(1, 104):
        agent.train_step(batch)
        if _slow_equals_online(agent):
            copied.append(update)
        now = [p.clone() for p in agent.behavior.slow_critic.parameters()]
        if any(not torch.equal(p, q) for p, q in zip(before, now, strict=True)):
            changed.append(update)
        before = now
    assert copied == [1, 101]
    assert changed == [1, 101]


def test_the_copy_cadence_is_a_setting_and_survives_a_reload(
    tiny_agent: MakeAgent, make_batch: MakeBatch
) -> None:
    agent = tiny_agent(horizon=2, slow_critic_every_updates=3)
    batch = make_batch(agent, batch=1, length=2)
    for _ in range(2):
        agent.train_step(batch)
    resumed = tiny_agent(horizon=2, slow_critic_every_updates=3, seed=9)
    resumed.load_weights(agent.state_dict())
    assert resumed.num_updates == 2
    copied = []
    for _ in range(4):
        resumed.train_step(batch)
        copied.append(_slow_equals_online(resumed))
    assert copied == [False, True, False, False]  # updates 3 to 6; the fourth is due


@ACTIONS
def test_twenty_updates_repeat_exactly_under_one_seed(
    tiny_agent: MakeAgent, make_batch: MakeBatch, action: ActionSpec
) -> None:
    def run(seed: int) -> tuple[Agent, list[dict[str, Tensor]]]:
        agent = tiny_agent(obs=(IMAGE, VECTOR), action=action, seed=seed)
        metrics = [agent.train_step(make_batch(agent, seed=i)) for i in range(20)]
        return agent, metrics

    (a, first), (b, second), (c, _) = run(0), run(0), run(1)
    assert _equal(a, b)
    for x, y in zip(first, second, strict=True):
        assert x.keys() == y.keys()
        assert all(torch.equal(x[k], y[k]) for k in x)
    assert not _equal(a, c)
    assert int(a.updates) == a.num_updates == 20


def test_the_seed_decides_weights_and_noise_and_leaves_torchs_generator_alone(
    tiny_agent: MakeAgent,
) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    a = tiny_agent(seed=0)
    assert torch.equal(torch.rand(2), expected)
    torch.manual_seed(4)
    b, c = tiny_agent(seed=0), tiny_agent(seed=1)
    assert _equal(a, b)
    assert not _equal(a, c)
    first, same, other = (agent.draw_noise(2, 3).observe for agent in (a, b, c))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_noise_has_the_shapes_the_update_needs(tiny_agent: MakeAgent) -> None:
    noise = tiny_agent(action=DISCRETE).draw_noise(2, 4)
    assert noise.observe.shape == (4, 2, 3)
    assert noise.imagine.latent.shape == (5, 8, 3)
    assert noise.imagine.action.shape == (5, 8)
    assert tiny_agent(action=CONTINUOUS).draw_noise(2, 4).imagine.action.shape == (5, 8, 2)


def test_the_model_learns_from_its_own_loss_alone(
    tiny_agent: MakeAgent, make_batch: MakeBatch
) -> None:
    a, b = tiny_agent(action=CONTINUOUS), tiny_agent(action=CONTINUOUS)
    batch = make_batch(a)
    noise = a.draw_noise(2, 4)
    a.train_step(batch, noise)
    b.model.loss(batch, noise.observe)[0].backward()
    b.model_opt.step()
    for (name, p), q in zip(a.model.named_parameters(), b.model.parameters(), strict=True):
        assert torch.equal(p, q), name
        assert p.grad is None
        assert p.requires_grad


def test_imagination_starts_from_every_posterior_with_its_terminal_flag(
    tiny_agent: MakeAgent, make_batch: MakeBatch
) -> None:
    agent = tiny_agent()
    batch = make_batch(agent, batch=2, length=4)
    batch["is_terminal"][:] = False
    batch["is_terminal"][1, 3] = True
    seen: list[tuple[State, Tensor]] = []
    original = agent._behavior_loss

    def record(start: State, is_terminal: Tensor, noise: ImaginationNoise) -> Any:
        seen.append((start, is_terminal))
        return original(start, is_terminal, noise)

    agent._behavior_loss = record  # type: ignore[method-assign]
    noise = agent.draw_noise(2, 4)
    with torch.no_grad():
        _, post, _ = agent.model.loss(batch, noise.observe)
    agent.train_step(batch, noise)
    start, terminal = seen[0]
    assert terminal.tolist() == [False] * 7 + [True]
    for row in range(2):
        for t in range(4):
            for x, y in zip(start, post, strict=True):
                torch.testing.assert_close(x[row * 4 + t], y[row, t])


@ACTIONS
@pytest.mark.parametrize("actor_grad", ["auto", "reinforce", "dynamics", "both"])
def test_every_actor_gradient_trains(
    tiny_agent: MakeAgent, make_batch: MakeBatch, action: ActionSpec, actor_grad: str
) -> None:
    agent = tiny_agent(action=action, actor_grad=actor_grad)
    before = [p.clone() for p in agent.behavior.actor.parameters()]
    metrics = agent.train_step(make_batch(agent))
    assert all(v.isfinite() for v in metrics.values())
    after = agent.behavior.actor.parameters()
    assert all(not torch.equal(p, q) for p, q in zip(before, after, strict=True))


@ACTIONS
def test_bfloat16_trains_with_float32_weights_metrics_and_moments(
    tiny_agent: MakeAgent, make_batch: MakeBatch, action: ActionSpec
) -> None:
    agent = tiny_agent(obs=(IMAGE, VECTOR), action=action, precision="bfloat16")
    full = tiny_agent(obs=(IMAGE, VECTOR), action=action)
    batch = make_batch(agent)
    dtypes = []
    agent.model.encoder.cnn[0].register_forward_hook(lambda _m, _i, out: dtypes.append(out.dtype))
    for _ in range(3):
        metrics, reference = agent.train_step(batch), full.train_step(batch)
    assert set(dtypes) == {torch.bfloat16}, "products run in bfloat16"
    assert {v.dtype for v in metrics.values()} == {torch.float32}
    floats = [v for v in agent.state_dict().values() if v.is_floating_point()]
    assert {v.dtype for v in floats} == {torch.float32}
    for key in ("loss/model", "loss/critic", "model/post_entropy_nats"):
        torch.testing.assert_close(metrics[key], reference[key], rtol=0.05, atol=0.05)
    obs = {k: batch[k][:, 0] for k in ("image", "sensors", "is_first")}
    action_out, state = agent.policy(obs, agent.initial(2))
    assert action_out.dtype == state.latent.deter.dtype == torch.float32


def test_mixed_observations_polar_goals_and_layer_norm_train_and_act(
    tiny_agent: MakeAgent, make_batch: MakeBatch, tiny_config: MakeConfig
) -> None:
    base = tiny_config()
    agent = tiny_agent(
        obs=(ObsSpec("depth", (64, 64, 1), "float32", 0.0, 10.0), GOAL, IMAGE, VECTOR),
        rssm=replace(base.rssm, layer_norm=True),
        encoder=replace(base.encoder, polar_keys="goal", layer_norm=True),
        head=replace(base.head, layer_norm=True),
    )
    batch = make_batch(agent)
    metrics = agent.train_step(batch)
    assert {"loss/depth", "loss/goal", "loss/image", "loss/sensors"} <= metrics.keys()
    assert all(v.isfinite() for v in metrics.values())
    obs = {k: batch[k][:, 0] for k in ("depth", "goal", "image", "sensors", "is_first")}
    assert agent.policy(obs, agent.initial(2))[0].shape == (2, 4)


def test_repeated_updates_on_one_batch_lower_the_model_loss(
    tiny_agent: MakeAgent, make_batch: MakeBatch, tiny_config: MakeConfig
) -> None:
    agent = tiny_agent(model_opt=replace(tiny_config().model_opt, lr=3e-3))
    batch = make_batch(agent)
    losses = [agent.train_step(batch)["loss/model"].item() for _ in range(60)]
    assert losses[-1] < losses[0] - 0.3


# --- state, devices, errors ----------------------------------------------------------------------


def test_the_state_dict_holds_weights_slow_critic_moments_and_counters(
    tiny_agent: MakeAgent, make_batch: MakeBatch
) -> None:
    agent = tiny_agent()
    agent.train_step(make_batch(agent))
    names = agent.state_dict().keys()
    assert {"updates", "model_opt.steps", "actor_opt.m0", "critic_opt.v0"} <= names
    assert any(k.startswith("behavior.slow_critic.") for k in names)
    other = tiny_agent(seed=5)
    other.load_weights(agent.state_dict())
    assert _equal(agent, other)
    noise, batch = agent.draw_noise(2, 4), make_batch(agent, seed=2)
    agent.train_step(batch, noise)
    other.train_step(batch, noise)
    assert _equal(agent, other)


def test_every_tensor_of_the_agent_is_on_its_device(tiny_agent: MakeAgent) -> None:
    agent = tiny_agent()
    assert {v.device for v in agent.state_dict().values()} == {agent.device}
    state = agent.initial(2)
    assert isinstance(state, PolicyState)
    assert not state.action.any()


def test_devices_are_chosen_and_missing_ones_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:1", "mps"):
        with pytest.raises(ValueError, match=rf"'{name}' is not available.*cpu or auto"):
            choose_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(ValueError, match="'cuda:1' is not available"):
        choose_device("cuda:1")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "CPU"])
def test_an_unknown_device_is_answered_with_what_is_allowed(name: str) -> None:
    with pytest.raises(ValueError, match=rf"Unknown device '{name}'; allowed: auto, cpu, cuda"):
        choose_device(name)
