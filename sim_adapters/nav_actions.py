"""What a navigation action means: motions of a differential-drive robot, and their noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, List, NamedTuple, Optional, Tuple, Union

import numpy as np
from gymnasium import spaces


class Motion(NamedTuple):
    """One rigid motion: turn on the spot by `turn_rad` (left positive), then drive `forward_m`."""

    forward_m: float
    turn_rad: float


@dataclass(frozen=True)
class ActuationNoise:
    """Independent zero-mean Gaussian error on every motion that is carried out.

    Args:
        forward_std_m: standard deviation of the distance driven, for motions that drive.
        turn_std_deg: standard deviation of the turn, for every motion, driving ones included
            (a robot told to go straight veers).
    """

    forward_std_m: float = 0.0
    turn_std_deg: float = 0.0

    def __post_init__(self) -> None:
        """Refuse negative standard deviations."""
        if self.forward_std_m < 0 or self.turn_std_deg < 0:
            raise ValueError(f"noise standard deviations must be >= 0, got {self}")

    def apply(self, motion: Motion, rng: np.random.Generator) -> Motion:
        """Return `motion` as the robot carries it out; draws two normals whatever the motion."""
        forward_error, turn_error = rng.normal(size=2)
        forward = motion.forward_m
        if forward != 0.0:
            forward += self.forward_std_m * float(forward_error)
        turn = motion.turn_rad + math.radians(self.turn_std_deg) * float(turn_error)
        return Motion(forward, turn)


class DiscreteActions:
    """Habitat's discrete actions, in its order: stop, forward, left, right.

    Without a stop action the order is forward, left, right.
    """

    def __init__(self, *, forward_m: float, turn_deg: float, with_stop: bool) -> None:
        """Fix the step length in metres and the turn in degrees."""
        if not forward_m > 0 or not 0 < turn_deg <= 180:
            raise ValueError(
                "forward_m must be > 0 and turn_deg in (0, 180], "
                f"got forward_m={forward_m!r}, turn_deg={turn_deg!r}"
            )
        self.turn_rad = turn = math.radians(turn_deg)
        moves = [Motion(forward_m, 0.0), Motion(0.0, turn), Motion(0.0, -turn)]
        self.stop: Optional[int] = 0 if with_stop else None
        self._motions: List[Optional[Motion]] = [None, *moves] if with_stop else [*moves]
        self.space = spaces.Discrete(len(self._motions))
        self.forward, self.left, self.right = range(int(with_stop), int(with_stop) + 3)

    def motions(self, action: Any) -> Optional[Tuple[Motion, ...]]:
        """Return the motions that `action` asks for, in order, or None if it is stop.

        Raises:
            ValueError: `action` is not in `space`.
        """
        if not self.space.contains(action):
            raise ValueError(f"action must be an integer in [0, {self.space.n}), got {action!r}")
        motion = self._motions[int(action)]
        return None if motion is None else (motion,)

    def primitives(self) -> List[Any]:
        """Return the actions that move the robot, for planners."""
        return [self.forward, self.left, self.right]


class VelocityActions:
    """Continuous (v, w) in [-1, 1]^2, scaled as habitat-lab's `velocity_control` scales them.

    v runs linearly from `min_speed_mps` at -1 to `max_speed_mps` at 1; w from
    -`max_turn_rate_dps` to `max_turn_rate_dps`, left positive. An action lasts `step_s` seconds,
    in which the robot drives the arc of a unicycle. With `with_stop`, an action slower than both
    thresholds is stop.
    """

    def __init__(
        self,
        *,
        min_speed_mps: float,
        max_speed_mps: float,
        max_turn_rate_dps: float,
        step_s: float,
        with_stop: bool,
        stop_speed_mps: float,
        stop_turn_rate_dps: float,
    ) -> None:
        """Fix the physical ranges."""
        if not (max_speed_mps > 0 and max_turn_rate_dps > 0 and step_s > 0):
            raise ValueError(
                "max_speed_mps, max_turn_rate_dps and step_s must be > 0, got "
                f"{max_speed_mps!r}, {max_turn_rate_dps!r}, {step_s!r}"
            )
        if not min_speed_mps <= 0:
            raise ValueError(f"min_speed_mps must be <= 0 (0: no reverse), got {min_speed_mps!r}")
        self.min_speed_mps = min_speed_mps
        self.max_speed_mps = max_speed_mps
        self.max_turn_rate_dps = max_turn_rate_dps
        self.step_s = step_s
        self.stop_speed_mps = stop_speed_mps
        self.stop_turn_rate_dps = stop_turn_rate_dps
        self.space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.stop: Optional[np.ndarray] = self.action(0.0, 0.0) if with_stop else None

    def action(self, speed_mps: float, turn_rate_dps: float) -> np.ndarray:
        """Return the action, float32 (2,), nearest to the physical velocities given."""
        speed_range = self.max_speed_mps - self.min_speed_mps
        v = 2.0 * (speed_mps - self.min_speed_mps) / speed_range - 1.0
        w = turn_rate_dps / self.max_turn_rate_dps
        return np.clip(np.array([v, w]), -1.0, 1.0).astype(np.float32)

    def velocities(self, action: Any) -> Tuple[float, float]:
        """Return (speed m/s, turn rate deg/s) for `action`; values outside [-1, 1] are clipped.

        Raises:
            ValueError: `action` does not have shape (2,) or is not finite.
        """
        array = np.asarray(action, dtype=np.float64)
        if array.shape != (2,) or not np.all(np.isfinite(array)):
            raise ValueError(f"action must be two finite numbers (v, w) in [-1, 1], got {action!r}")
        v, w = np.clip(array, -1.0, 1.0)
        speed_range = self.max_speed_mps - self.min_speed_mps
        return self.min_speed_mps + 0.5 * (v + 1.0) * speed_range, w * self.max_turn_rate_dps

    def motions(self, action: Any) -> Optional[Tuple[Motion, ...]]:
        """Return the motions that `action` asks for, in order, or None if it is stop.

        The arc of length v dt that turns by w dt ends where the chord of length
        (2 v / w) sin(w dt / 2), driven at the middle heading, ends.
        """
        speed, turn_rate = self.velocities(action)
        slow = abs(speed) < self.stop_speed_mps and abs(turn_rate) < self.stop_turn_rate_dps
        if self.stop is not None and slow:
            return None
        half_turn = 0.5 * math.radians(turn_rate) * self.step_s
        chord = speed * self.step_s * float(np.sinc(half_turn / math.pi))
        return (Motion(chord, half_turn), Motion(0.0, half_turn))

    def primitives(self) -> List[Any]:
        """Return a few actions that move the robot, for planners: straight, arcs, turns."""
        turns = (0.0, 0.3, -0.3, 1.0, -1.0)
        fastest = [np.array([1.0, w], np.float32) for w in turns]
        rate = self.max_turn_rate_dps
        return fastest + [self.action(0.0, w * rate) for w in turns[1:]]


Actions = Union[DiscreteActions, VelocityActions]
