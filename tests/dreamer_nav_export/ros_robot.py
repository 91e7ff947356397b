"""A policy without a network, a robot without hardware, and contracts, for the tests of the ROS 2 node."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dreamer_nav_ros.camera_info import Intrinsics, fit_camera
from dreamer_nav_ros.command import Command
from dreamer_nav_ros.contract_fields import read_fields
from dreamer_nav_ros.controller import Controller
from dreamer_nav_ros.inputs import Goal, Odometry, Picture, Pose
from dreamer_nav_ros.settings import Settings

STOP, FORWARD, LEFT, RIGHT = range(4)
SIZE = 8  # pixels of the policy's square picture


def _image(name: str, kind: str, dtype: str, channels: int) -> dict[str, Any]:
    camera = {"hfov_deg": 90.0, "height_m": 0.88, "pitch_deg": 0.0}
    return {
        "name": name,
        "kind": kind,
        "dtype": dtype,
        "shape": [SIZE, SIZE, channels],
        "low": [0.0],
        "high": [255.0],
        "units": [],
        "camera": camera,
        "invalid": None,
    }


DEPTH_FIELD = {
    **_image("depth", "depth", "float32", 1),
    "low": [0.1],
    "high": [10.0],
    "units": ["m"],
    "invalid": {"value": 10.0, "meaning": "nothing within range"},
}
RGB_FIELD = _image("rgb", "rgb", "uint8", 3)
GOAL_FIELD = {
    "name": "pointgoal",
    "kind": "goal",
    "dtype": "float32",
    "shape": [2],
    "low": [0.0, -3.1415927410125732],
    "high": [None, 3.1415927410125732],
    "units": ["m", "rad"],
}
CHOICES = [
    {"index": 0, "name": "stop", "motion": "stop", "stop": True},
    {"index": 1, "name": "forward", "motion": "forward", "magnitude": 0.25, "unit": "m"},
    {"index": 2, "name": "left", "motion": "turn", "magnitude": math.pi / 6, "unit": "rad"},
    {"index": 3, "name": "right", "motion": "turn", "magnitude": -math.pi / 6, "unit": "rad"},
]
DISCRETE: dict[str, Any] = {
    "observations": [DEPTH_FIELD, GOAL_FIELD],
    "discrete": {"choices": CHOICES},
    "continuous": None,
    "control": {"rate_hz": None, "max_staleness_s": 0.5},
}
CONTINUOUS: dict[str, Any] = {
    "observations": [DEPTH_FIELD, GOAL_FIELD],
    "discrete": None,
    "continuous": {
        "components": [
            {"name": "v", "unit": "m/s", "offset": 0.5, "scale": 0.5, "stop_below": 0.025},
            {"name": "w", "unit": "deg/s", "offset": 0.0, "scale": 90.0, "stop_below": 1.0},
        ],
        "duration_s": 0.2,
    },
    "control": {"rate_hz": 5.0, "max_staleness_s": 0.5},
}
CAMERA = Intrinsics(SIZE, SIZE, SIZE / 2, SIZE / 2, SIZE / 2, SIZE / 2, False)


def contract(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy of `base` with other top-level entries."""
    return {**copy.deepcopy(base), **changes}


class FakeAction(NamedTuple):
    index: int | None
    name: str | None
    values: np.ndarray | None
    ok: bool = True


class FakePolicy:
    """Says what `script` says, its last entry for ever; an exception in it is raised."""

    def __init__(self, script: list[Any], spec: dict[str, Any] = DISCRETE) -> None:
        self.spec = spec
        self.script = list(script)
        self.observations: list[dict[str, np.ndarray]] = []
        self.resets: list[int] = []  # the number of observations seen at each reset
        self.seeds: list[int | None] = []
        self.before_answer: Callable[[], None] = lambda: None
        self.tested = False

    def selftest(self) -> None:
        self.tested = True

    def reset(self, seed: int | None = None) -> None:
        self.seeds.append(seed)
        self.resets.append(len(self.observations))

    def act(self, observations: dict[str, np.ndarray]) -> FakeAction:
        self.observations.append(observations)
        self.before_answer()
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, FakeAction):
            return answer
        if isinstance(answer, int):
            return FakeAction(answer, str(answer), None)
        return FakeAction(None, "move", np.array(answer, np.float32))


def depth_picture(stamp_s: float, metres: float = 2.0) -> Picture:
    """A wall at `metres`, 32FC1."""
    data = np.full((SIZE, SIZE), metres, "<f4").tobytes()
    return Picture(stamp_s, SIZE, SIZE, "32FC1", False, SIZE * 4, data)


class Robot:
    """A base that does as it is told, a camera and odometry, stepped with a controller.

    `period_s` is the control loop's. Attributes may be changed between steps to break something.
    """

    def __init__(
        self,
        policy: FakePolicy,
        settings: Settings | None = None,
        now_s: float = 100.0,
    ) -> None:
        self.settings = settings or Settings(policy_file="x")
        self.fields = read_fields(policy.spec)
        windows = {f.name: fit_camera(CAMERA, f, 2.0, False) for f in self.fields.cameras}
        self.steady_s = 5.0
        self.policy = policy
        self.controller = Controller(
            policy, self.fields, windows, self.settings, lambda: self.steady_s
        )
        self.period_s = 1.0 / self.settings.control_rate_hz
        self.now_s = now_s
        self.pose = Pose(0.0, 0.0, 0.0)
        self.command = Command(0.0, 0.0, "idle")
        self.commands: list[Command] = []
        self.goal: Goal | None = Goal(1, 5.0, 0.0, math.inf)
        self.is_blocked = False
        self.depth: Picture | None = depth_picture(now_s)
        self.image: Picture | None = None
        self.camera_alive = True
        self.odometry_alive = True
        self.odometry: Odometry | None = None

    def sense(self) -> None:
        if self.odometry_alive:
            moves = 0.0 if self.is_blocked else 1.0
            v, w = self.command.v_mps * moves, self.command.w_rps * moves
            self.odometry = Odometry(self.now_s, self.pose, v, w)
        if self.camera_alive:
            self.depth = depth_picture(self.now_s)

    def move(self) -> None:
        if self.is_blocked:
            return
        x, y, yaw = self.pose
        v, w = self.command.v_mps * self.period_s, self.command.w_rps * self.period_s
        self.pose = Pose(x + v * math.cos(yaw), y + v * math.sin(yaw), yaw + w)

    def step(self, count: int = 1) -> Command:
        """Drive for a period and make a control step, `count` times."""
        for _ in range(count):
            self.move()
            self.now_s += self.period_s
            self.sense()
            goal = None if self.goal is None else self.goal._replace(stamp_s=self.now_s)
            self.command = self.controller.step(
                self.now_s, self.image, self.depth, self.odometry, goal
            )
            self.commands.append(self.command)
        return self.command

    def step_until(self, condition: Callable[[], bool], at_most: int = 400) -> int:
        """Step until `condition`; the number of steps."""
        for number in range(at_most):
            if condition():
                return number
            self.step()
        raise AssertionError(f"not within {at_most} steps; last: {self.command}")


def is_zero(command: Command) -> bool:
    return command.v_mps == 0.0 and command.w_rps == 0.0
