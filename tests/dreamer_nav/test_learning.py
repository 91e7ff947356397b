"""Tasks that an agent only solves if reward, memory and episode ends are all learned; trained for real.

Low losses prove little: an action paired with the wrong observation leaves them low and the agent blind. Each
threshold is close to the optimum, and far from what a random policy reaches, which is measured on the same episodes.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from dreamer_nav.agent import Agent, PolicyState
from dreamer_nav.config import (
    AgentConfig,
    Config,
    EncoderConfig,
    HeadConfig,
    OptimizerConfig,
    ReplayConfig,
    RSSMConfig,
    TrainConfig,
)
from dreamer_nav.rollouts import AgentPolicy, Policy, UniformPolicy, run_episodes
from dreamer_nav.runs import LoadedRun, build_env, load_run, to_tensors
from dreamer_nav.train import train

pytestmark = pytest.mark.slow

EPISODES = 200


class Case(NamedTuple):
    """A task, its training, and the mean returns that tell learning from luck (both by reasoning)."""

    task: str
    steps: int
    learned: float
    random_below: float


CASES = {
    # Four arms that pay 0, 1/3, 2/3 and 1: random 1/2.
    "bandit": Case("bandit", 700, 0.95, 0.6),
    # The first of two actions pays four steps later: random 1/2.
    "delayed": Case("delayed", 1500, 0.95, 0.65),
    # A cue shown once says which of two actions pays at the end: 1/2 for random and for an agent without memory.
    "memory": Case("memory", 3000, 0.9, 0.65),
    # Ending the episode exactly at zero of a countdown from 1..6: random sum(2^-(n+1)) / 6 = 0.08.
    "terminal": Case("terminal", 3500, 0.8, 0.2),
}


def _config(case: Case) -> Config:
    agent = AgentConfig(
        rssm=RSSMConfig(deter=32, hidden=32, stoch=4, classes=4),
        encoder=EncoderConfig(mlp_layers=1, mlp_units=32),
        head=HeadConfig(layers=2, units=32),
        model_opt=OptimizerConfig(lr=3e-3),
        actor_opt=OptimizerConfig(lr=1e-3),
        critic_opt=OptimizerConfig(lr=2e-3),
        loss_scales={"kl": 0.3, "reward": 10.0, "discount": 5.0, "state": 10.0},
        horizon=8,
        discount=0.95,
        actor_entropy=1e-2,
        slow_critic_every_updates=20,
    )
    training = TrainConfig(
        steps=case.steps,
        prefill_steps=300,
        pretrain_updates=50,
        steps_per_update=2.0,
        num_envs=4,
        log_every_steps=500,
        checkpoint_every_steps=10**6,
        keep_checkpoints=1,
    )
    return Config(
        env={"name": "dummy", "task": case.task, "image": False, "vector": True},
        device="cpu",
        agent=agent,
        replay=ReplayConfig(capacity_steps=5000, batch_size=16, batch_length=10),
        train=training,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedRun]:
    """Trained agents by task, filled as tests ask for them."""
    return {}


def _trained(runs: dict[str, LoadedRun], task: str, folder: Path) -> LoadedRun:
    if task not in runs:
        runs[task] = load_run(train(_config(CASES[task]), folder / task))
    return runs[task]


def _mean_return(run: LoadedRun, policy: Policy) -> float:
    results = run_episodes(policy, lambda: build_env(run.config), episodes=EPISODES, seed=7)
    return float(np.mean([r.measures["return"] for r in results]))


@pytest.mark.parametrize("task", CASES)
def test_the_agent_learns_what_a_random_policy_fails(
    runs: dict[str, LoadedRun], task: str, tmp_path: Path
) -> None:
    run, case = _trained(runs, task, tmp_path), CASES[task]
    assert _mean_return(run, UniformPolicy()) < case.random_below
    assert _mean_return(run, AgentPolicy(run.agent, sample_actions=False)) >= case.learned


def _step(agent: Agent, obs: dict[str, np.ndarray], state: PolicyState, first: bool) -> PolicyState:
    batch = to_tensors(
        {k: v[None] for k, v in obs.items()}, agent.obs, np.array([first]), agent.device
    )
    return agent.policy(batch, state)[1]


def test_imagined_reward_is_one_at_the_goal_and_none_before_it(
    runs: dict[str, LoadedRun], tmp_path: Path
) -> None:
    """From a real state one action before the goal, imagination must see the reward of taking that action.

    Off-by-one pairings of action and observation leave every loss low and this reward at zero.
    """
    run = _trained(runs, "terminal", tmp_path)
    agent, env = run.agent, build_env(run.config)
    wait, end = torch.eye(2)[:1], torch.eye(2)[1:]
    imagined: dict[tuple[bool, str], list[float]] = {}
    for episode in range(20):
        obs, _ = env.reset(seed=1000 + episode)
        state, first = agent.initial(1), True
        while True:
            state, first = _step(agent, obs, state, first), False
            at_zero = float(obs["state"][0]) == pytest.approx(1.0)
            for name, action in (("wait", wait), ("end", end)):
                noise = torch.full((1, run.config.agent.rssm.stoch), 0.5)
                with torch.no_grad():
                    after = agent.model.rssm.img_step(state.latent, action, noise)
                    reward = agent.model.imagined_reward(after.feat).item()
                imagined.setdefault((at_zero, name), []).append(reward)
            if at_zero:
                break
            state = PolicyState(state.latent, wait)
            obs, *_ = env.step(0)
    env.close()
    mean = {k: float(np.mean(v)) for k, v in imagined.items()}
    assert mean[True, "end"] > 0.5
    assert mean[True, "end"] > 0
    for elsewhere in ((True, "wait"), (False, "wait"), (False, "end")):
        assert mean[elsewhere] < 0.3, elsewhere
