"""From the policy's actions to wished velocities: discrete moves, or held velocities."""

from __future__ import annotations

import math
from typing import Callable, NamedTuple, Optional, Protocol, Tuple

import numpy as np

from dreamer_nav_ros.contract_fields import MoveAction, PolicyFields, VelocityAction
from dreamer_nav_ros.faults import Fault
from dreamer_nav_ros.inputs import Odometry
from dreamer_nav_ros.moves import Move, MoveSettings
from dreamer_nav_ros.policy_runner import PolicyAction
from dreamer_nav_ros.settings import Settings

Decide = Callable[[], PolicyAction]


class Moment(NamedTuple):
    """What a drive is told at every control step.

    `picture_s` is the stamp of the picture that a decision would be made of; `is_at_rest` whether
    zero was last commanded.
    """

    now_s: float
    odometry: Odometry
    picture_s: float
    is_at_rest: bool


class Wish(NamedTuple):
    """Wished velocity (m/s, rad/s), and what happened in this step.

    `is_stop`: the policy ended the episode. `is_completed`: an action was carried out;
    `has_driven`: it was a drive to its end.
    `given_up`: why a move was given up, None if none was.
    """

    v_mps: float = 0.0
    w_rps: float = 0.0
    is_stop: bool = False
    is_completed: bool = False
    has_driven: bool = False
    given_up: Optional[Fault] = None


class Drive(Protocol):
    """Carries out a policy's actions."""

    action_name: str

    def wish(self, moment: Moment, decide: Decide) -> Wish:
        """Return the wish of this step; calls `decide` when the policy's next action is due.

        Raises:
            Fault: `bad_action`, if the policy's action is none of the contract's.
        """

    def abort(self) -> None:
        """Drop the action under way."""


def make_drive(fields: PolicyFields, settings: Settings) -> Drive:
    """Return the drive for the policy's kind of actions.

    Raises:
        ValueError: a discrete action that the settings cannot carry out.
    """
    if fields.velocity is not None:
        return VelocityDrive(fields.velocity, 1.0 / settings.control_rate_hz)
    assert fields.moves is not None
    return MoveDrive(fields.moves, settings)


class MoveDrive:
    """Discrete actions: one move at a time, decided of a picture taken while the robot stands.

    In training a picture is taken between moves. So after a move the base is given time to come
    to rest, and only a picture taken after that is shown to the policy.
    """

    def __init__(self, moves: Tuple[MoveAction, ...], settings: Settings) -> None:
        """Carry out `moves`, by the policy's index."""
        self._moves = moves
        self._settings = settings
        self._move_settings: MoveSettings = settings.move_settings()
        for action in moves:
            if not action.is_stop:
                self._move_settings.check(action)
        self._move: Optional[Move] = None
        self._settle_until_s: Optional[float] = None
        self._is_settling = True
        self._not_before_s = -math.inf
        self.action_name = ""

    def abort(self) -> None:
        """Drop the move under way; the robot settles before the next."""
        self._move = None
        self._is_settling = True
        self._settle_until_s = None
        self.action_name = ""

    def wish(self, moment: Moment, decide: Decide) -> Wish:
        """See `Drive.wish`."""
        if self._move is None:
            if not self._may_decide(moment):
                return Wish()
            action = self._choose(decide())
            if action.is_stop:
                return Wish(is_stop=True)
            self._move = Move(action, self._move_settings, moment.odometry.pose, moment.now_s)
        return self._drive(self._move, moment)

    def _choose(self, answer: PolicyAction) -> MoveAction:
        index = answer.index
        if index is None or not 0 <= index < len(self._moves):
            raise Fault(
                "bad_action",
                f"index {index} is none of the {len(self._moves)} actions of the contract",
            )
        self.action_name = self._moves[index].name
        return self._moves[index]

    def _may_decide(self, moment: Moment) -> bool:
        if self._is_settling and self._has_settled(moment):
            self._is_settling = False
            self._not_before_s = moment.now_s
        return not self._is_settling and moment.picture_s >= self._not_before_s

    def _has_settled(self, moment: Moment) -> bool:
        if self._settle_until_s is None:
            self._settle_until_s = moment.now_s + self._settings.settle_timeout_s
        stands = (
            abs(moment.odometry.v_mps) < self._settings.settled_mps
            and abs(moment.odometry.w_rps) < self._settings.settled_rps
        )
        return moment.is_at_rest and (stands or moment.now_s > self._settle_until_s)

    def _drive(self, move: Move, moment: Moment) -> Wish:
        left = move.advance(moment.odometry.pose, moment.now_s)
        if move.is_complete(left):
            self.abort()
            return Wish(is_completed=True, has_driven=move.action.forward_m != 0.0)
        try:
            move.check_progress(moment.now_s)
        except Fault as fault:
            self.abort()
            return Wish(given_up=fault)
        v, w = move.velocity(left)
        return Wish(v, w)


class VelocityDrive:
    """Continuous actions: a velocity held for the action's duration, then the next one."""

    def __init__(self, action: VelocityAction, control_period_s: float) -> None:
        """Decide in the control step that is nearest to the end of an action."""
        self._action = action
        self._due_after_s = action.duration_s - 0.5 * control_period_s
        self.abort()

    def abort(self) -> None:
        """Hold nothing; decide at once."""
        self._decided_s = -math.inf
        self._picture_s = -math.inf
        self._held = (0.0, 0.0)
        self.action_name = ""

    def wish(self, moment: Moment, decide: Decide) -> Wish:
        """See `Drive.wish`. While no new picture comes the velocity is held; its age ends that."""
        is_due = moment.now_s - self._decided_s >= self._due_after_s
        if not is_due or moment.picture_s <= self._picture_s:
            return Wish(*self._held)
        answer = decide()
        if answer.name == "stop":
            return Wish(is_stop=True)
        self._held = self._velocities(answer.values)
        self._decided_s, self._picture_s = moment.now_s, moment.picture_s
        self.action_name = f"v={self._held[0]:.2f} w={self._held[1]:.2f}"
        return Wish(*self._held, is_completed=True)

    def _velocities(self, values: Optional[np.ndarray]) -> Tuple[float, float]:
        # That they are finite is checked with the limits.
        if values is None or np.shape(values) != (2,):
            raise Fault("bad_action", f"a continuous action must be two numbers, got {values}")
        return self._action.velocities(values)
