"""Agents, start states and trajectories for the tests of learning in imagination."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer_nav.agent import Agent
from dreamer_nav.behavior import ImaginationNoise, Trajectory
from dreamer_nav.rssm import State

N = 6
Loss = tuple[Tensor, Tensor, dict[str, Tensor]]


def start(agent: Agent, n: int = N) -> State:
    c = agent.config.rssm
    logits = torch.randn(n, c.stoch, c.classes)
    stoch = torch.nn.functional.one_hot(logits.argmax(-1), c.classes).float()
    return State(stoch, logits, torch.tanh(torch.randn(n, c.deter)))


def noise(agent: Agent, n: int = N) -> ImaginationNoise:
    h, size = agent.config.horizon, agent.action.size
    action = (h, n) if agent.action.discrete else (h, n, size)
    return ImaginationNoise(torch.rand(h, n, agent.config.rssm.stoch), torch.rand(action))


def vary(agent: Agent) -> Agent:
    """Make nothing trivial: biases, and a slow critic unlike the critic."""
    for p in agent.parameters():
        p.data.add_(0.2 * torch.randn_like(p))
    return agent


def dense(agent: Agent) -> Agent:
    """Imagine with one-hot latents, which tests can look into; that codes give the same is tested on its own."""
    agent.behavior.use_codes = False
    return agent


def loss(agent: Agent, start: State, terminal: Tensor, noise: ImaginationNoise) -> Loss:
    agent.model.requires_grad_(False)
    return agent.behavior.loss(agent.model, start, terminal, noise)


def hand_made(agent: Agent, steps: int = 6) -> tuple[Trajectory, Tensor, Tensor, Tensor]:
    """A trajectory of states 0..steps with made-up targets, values and weights."""
    size, h = agent.action.size, steps + 1
    action = torch.eye(size)[torch.randint(size, (h, N))]
    if not agent.action.discrete:
        action = torch.rand(h, N, size) * 1.8 - 0.9
    seq = Trajectory(torch.randn(h, N, agent.model.rssm.feat_size), action)
    return seq, torch.randn(steps, N), torch.randn(h, N), torch.rand(h, N)
