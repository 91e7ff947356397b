"""A policy that really was exported drives the node's pilot to a goal: units, signs and frames agree end to end."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamer_nav.agent import Agent
from dreamer_nav.distributions import OneHot
from dreamer_nav.rssm import State
from dreamer_nav_export.contract import Contract
from dreamer_nav_export.golden import NoiseStream, random_observation
from dreamer_nav_export.runtime import Action, Policy
from dreamer_nav_export.session import PolicySession
from dreamer_nav_export.writer import ExportOptions, export_policy
from dreamer_nav_ros.camera_info import Intrinsics, fit_camera
from dreamer_nav_ros.command import ARRIVED, Command
from dreamer_nav_ros.contract_fields import read_fields
from dreamer_nav_ros.goal import FrameTransform, GoalMessage
from dreamer_nav_ros.inputs import Odometry, Picture, Pose
from dreamer_nav_ros.pilot import Pilot
from dreamer_nav_ros.settings import Settings
from sim_adapters.nav_actions import DiscreteActions
from sim_adapters.nav_baselines import GreedyPolicy
from tests.dreamer_nav_export.agents import contract_of, make_run

pytestmark = pytest.mark.slow  # teaching and exporting take some 15 s

STOP_WITHIN_M = 0.3
ACTIONS = DiscreteActions(forward_m=0.25, turn_deg=30.0, with_stop=True)
GOALS = [(1.5, 0.0), (0.7, 1.2), (-1.0, 0.6), (-0.8, -0.9), (0.6, -1.3)]  # ahead and all around


def label(goal: np.ndarray) -> int:
    """What the simulators' greedy baseline does for (rho, phi)."""
    rho, phi = (float(x) for x in goal)
    if rho < STOP_WITHIN_M:
        return 0
    return GreedyPolicy._discrete(ACTIONS, phi)


def teach(agent: Agent, contract: Contract) -> float:
    """Have the agent imitate the greedy baseline, whatever it remembers and sees; how often it does in the end."""
    stream, rng, size = NoiseStream(5), np.random.default_rng(5), 32
    generator = torch.Generator().manual_seed(5)
    depth = np.stack([random_observation(contract.observations[0], stream) for _ in range(32)])
    parts = [agent.model.encoder, agent.model.rssm, agent.behavior.actor]
    optimizer = torch.optim.Adam([w for part in parts for w in part.parameters()], 6e-3)
    recent: list[float] = []
    for _ in range(400):
        near, anywhere = rng.uniform(0, 0.6, size), rng.uniform(0.2, 3, size)
        rho = np.where(rng.random(size) < 0.3, near, anywhere)
        goal = np.stack([rho, rng.uniform(-np.pi, np.pi, size)], -1).astype(np.float32)
        wanted = torch.tensor([label(g) for g in goal])
        obs = {"depth": torch.from_numpy(depth), "pointgoal": torch.from_numpy(goal)}
        logits = step(agent, obs, generator)
        optimizer.zero_grad()
        F.cross_entropy(logits, wanted).backward()
        optimizer.step()
        recent = [*recent[-19:], float((logits.argmax(-1) == wanted).float().mean())]
    return sum(recent) / len(recent)


def step(agent: Agent, obs: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """Logits of the action after observations (B, ...) and a past drawn at random."""
    c, size = agent.config.rssm, len(obs["pointgoal"])
    noise = torch.rand(size, c.stoch, generator=generator)
    stoch = F.one_hot(torch.randint(0, c.classes, (size, c.stoch), generator=generator)).float()
    deter = 2 * torch.rand(size, c.deter, generator=generator) - 1
    action = F.one_hot(torch.randint(0, 4, (size,), generator=generator), 4).float()
    embed = agent.model.encoder(agent.model.preprocess(obs))
    first = torch.rand(size, generator=generator) < 0.2
    before = State(stoch, torch.zeros_like(stoch), deter)
    state = agent.model.rssm.obs_step(before, action, embed, first, noise)
    policy = agent.behavior.actor(state.feat)
    assert isinstance(policy, OneHot)
    return policy.logits


@pytest.fixture(scope="module")
def taught() -> PolicySession:
    run = make_run("pointgoal")
    assert teach(run.agent, contract_of("pointgoal")) > 0.85
    data, _ = export_policy(run, ExportOptions(variant="deterministic"))
    return PolicySession(data)


class Base:
    """A base with a camera that sees a wall, whose odometry frame is not the map's."""

    def __init__(self, session: PolicySession) -> None:
        self.policy = Policy(session, 0)
        fields = read_fields(self.policy.spec)
        assert fields.depth is not None
        width = fields.depth.width
        focal = width / 2 / math.tan(math.radians(fields.depth.hfov_deg) / 2)
        self.camera = Intrinsics(width, width, focal, focal, width / 2, width / 2, False)
        windows = {"depth": fit_camera(self.camera, fields.depth, 2.0, False)}
        settings = Settings(policy_file="x", policy_seed=0, goal_tolerance_m=STOP_WITHIN_M)
        # A clock that stands still: how fast this machine computes is no matter here.
        self.pilot = Pilot(
            self.policy, fields, {"depth": self.camera}, windows, settings, lambda: 5.0
        )
        self.pilot.activate()
        self.map = FrameTransform(Pose(2.0, -1.0, 2.0), math.inf)  # where the map lies in odom
        self.pose = Pose(2.0, -1.0, 2.0)  # at the map's origin, looking along its x
        self.now_s = 100.0
        self.sent: list[Command] = [Command(0.0, 0.0, "idle")]

    def sense(self) -> None:
        side = self.camera.width
        data = np.full((side, side), 3000, "<u2").tobytes()
        self.pilot.on_depth(Picture(self.now_s, side, side, "16UC1", False, 2 * side, data))
        v, w = self.sent[-1].v_mps, self.sent[-1].w_rps
        self.pilot.on_odometry(Odometry(self.now_s, self.pose, v, w))

    def drive(self, x: float, y: float, seconds: float = 120.0) -> Command:
        """Go to (x, y) of the map; the last command."""
        self.pilot.on_goal(GoalMessage("map", self.now_s, x, y))
        command = self.sent[-1]
        for _ in range(int(20 * seconds)):
            self.now_s += 0.05
            self.sense()
            command = self.pilot.tick(self.now_s, lambda frame: self.map, self.sent.append)
            yaw = self.pose.yaw + 0.05 * command.w_rps
            step = 0.05 * command.v_mps
            self.pose = Pose(
                self.pose.x + step * math.cos(yaw), self.pose.y + step * math.sin(yaw), yaw
            )
            if command.state != "driving":
                break
        return command

    def left_m(self, x: float, y: float) -> float:
        """Metres to (x, y) of the map, worked out without the node's code."""
        m = self.map.pose
        goal = complex(m.x, m.y) + complex(x, y) * complex(math.cos(m.yaw), math.sin(m.yaw))
        return abs(goal - complex(self.pose.x, self.pose.y))


@pytest.mark.parametrize("goal", GOALS)
def test_a_policy_that_learned_to_go_to_the_goal_gets_there(
    taught: PolicySession, goal: tuple[float, float]
) -> None:
    base = Base(taught)
    command = base.drive(*goal)
    assert (command.state, command.fault) == (ARRIVED, "")
    assert base.left_m(*goal) < STOP_WITHIN_M
    assert max(c.v_mps for c in base.sent) > 0.2
    assert base.sent[-1].v_mps == base.sent[-1].w_rps == 0.0


def test_goals_one_after_the_other_each_with_a_memory_of_its_own(taught: PolicySession) -> None:
    base = Base(taught)
    act, began_with_a_reset = base.policy.act, []

    def watched(obs: dict[str, np.ndarray]) -> Action:
        began_with_a_reset.append(base.policy._is_first)
        return act(obs)

    base.policy.act = watched  # type: ignore[method-assign]
    for goal in GOALS:
        began_with_a_reset.clear()
        assert base.drive(*goal).state == ARRIVED
        assert base.left_m(*goal) < STOP_WITHIN_M
        assert began_with_a_reset == [True, *[False] * (len(began_with_a_reset) - 1)]


def mirror_goal(obs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**obs, "pointgoal": obs["pointgoal"] * np.array([1, -1], np.float32)}


def halve_distance(obs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**obs, "pointgoal": obs["pointgoal"] * np.array([0.5, 1], np.float32)}


@pytest.mark.parametrize("spoil", [mirror_goal, halve_distance])
def test_with_another_convention_it_does_not_get_there(
    taught: PolicySession, spoil: Callable[..., dict[str, np.ndarray]]
) -> None:
    """The test above can fail: a sign or a unit of the goal that is not the contract's."""
    base = Base(taught)
    act = base.policy.act
    base.policy.act = lambda obs: act(spoil(obs))  # type: ignore[method-assign]
    arrived = [Base.drive(base, *goal, seconds=60.0).state == ARRIVED for goal in GOALS[1:3]]
    assert not all(arrived)


def test_turns_of_the_other_hand_do_not_get_there(taught: PolicySession) -> None:
    base = Base(taught)
    moves = base.pilot._controller._drive._moves  # type: ignore[attr-defined]
    flipped = tuple(m._replace(turn_rad=-m.turn_rad) for m in moves)
    base.pilot._controller._drive._moves = flipped  # type: ignore[attr-defined]
    assert base.drive(*GOALS[1], seconds=60.0).state != ARRIVED
