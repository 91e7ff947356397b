"""The node's parameters: name, default and one sentence each, in this one place."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Dict, List, Mapping, NamedTuple

from dreamer_nav_ros.command import Limits
from dreamer_nav_ros.moves import MoveSettings
from dreamer_nav_ros.pictures import RESIZE_METHODS


class Parameter(NamedTuple):
    """One ROS parameter."""

    name: str
    default: Any
    description: str


def _p(default: Any, description: str) -> Any:
    return field(default=default, metadata={"description": description})


@dataclass(frozen=True)
class Settings:
    """Every parameter of the node.

    Raises:
        ValueError: a value out of its range, or values that contradict each other.
    """

    policy_file: str = _p("", "path of the .onnx policy file; must be given")
    policy_sha256: str = _p("", "SHA-256 that the policy file must have, empty to accept any")
    policy_seed: int = _p(
        -1, "seed of the policy's noise at every reset, -1 for a new one each time"
    )
    odom_frame: str = _p("odom", "frame in which odometry is given and the goal is followed")
    base_frame: str = _p("base_link", "frame_id of stamped commands")
    enable_stamped_cmd_vel: bool = _p(
        True, "publish TwistStamped (ROS 2 Jazzy and later), else Twist"
    )
    control_rate_hz: float = _p(20.0, "rate of the control loop and of the commands")
    camera_info_timeout_s: float = _p(5.0, "how long configure waits for CameraInfo, wall time")
    hfov_tolerance_deg: float = _p(
        2.0, "how much the fields of view of camera and contract may differ"
    )
    allow_crop: bool = _p(False, "cut a wider camera picture down to the policy's field of view")
    depth_resize: str = _p("area", "how depth is made smaller: area (mean of readings) or nearest")
    max_invalid_share: float = _p(
        0.9, "share of depth pixels without a reading above which it is a fault"
    )
    max_image_age_s: float = _p(
        0.0, "oldest picture acted on, 0 for the contract's max_staleness_s"
    )
    max_image_skew_s: float = _p(
        0.1, "how far depth and rgb may be apart, for a policy that takes both"
    )
    max_odom_age_s: float = _p(0.2, "oldest odometry acted on")
    max_odom_jump_m: float = _p(0.5, "a larger step between two odometry messages is a fault")
    max_goal_age_s: float = _p(2.0, "oldest transform from the goal's frame to odom_frame acted on")
    max_frame_gap_s: float = _p(1.0, "a longer gap between two pictures resets the policy")
    max_clock_step_s: float = _p(0.5, "a longer time between two control steps is a clock jump")
    max_inference_s: float = _p(
        0.1, "a slower inference is a fault and its action is dropped, wall time"
    )
    watchdog_timeout_s: float = _p(
        0.5, "without a finished control step for so long: zero, wall time"
    )
    max_consecutive_faults: int = _p(
        20, "so many faults with no completed action between latch the stop"
    )
    max_moves_given_up: int = _p(
        10, "so many moves given up since a drive succeeded latch the stop"
    )
    same_goal_m: float = _p(
        0.05, "a goal message within this distance of the goal is the same goal"
    )
    goal_tolerance_m: float = _p(
        0.3, "a stop farther from the goal than this is reported as short of it"
    )
    max_speed_mps: float = _p(0.25, "speed limit forward; the speed of discrete drives")
    max_reverse_mps: float = _p(0.0, "speed limit backward")
    max_turn_rate_rps: float = _p(0.8, "turn rate limit; the rate of discrete turns")
    max_acceleration_mps2: float = _p(0.5, "acceleration limit")
    max_turn_acceleration_rps2: float = _p(2.0, "turn acceleration limit")
    creep_mps: float = _p(0.05, "least speed towards the end of a discrete drive")
    creep_rps: float = _p(0.15, "least turn rate towards the end of a discrete turn")
    move_tolerance_m: float = _p(0.02, "a discrete drive ends this near to its length")
    move_tolerance_deg: float = _p(2.0, "a discrete turn ends this near to its angle")
    move_timeout_s: float = _p(5.0, "a discrete move that has not ended by then is given up")
    stall_timeout_s: float = _p(
        1.0, "a discrete move without progress by odometry for so long is given up"
    )
    settle_timeout_s: float = _p(
        1.0, "longest wait for the base to stand still after a discrete move"
    )
    settled_mps: float = _p(0.02, "odometry below this speed is standing still")
    settled_rps: float = _p(0.05, "odometry below this turn rate is standing still")

    def __post_init__(self) -> None:
        """Check the ranges that no other object checks."""
        may_be_zero = {"max_image_age_s", "max_reverse_mps", "same_goal_m", "max_invalid_share"}
        for f in fields(self):
            value = getattr(self, f.name)
            if not isinstance(value, float):
                continue
            if not math.isfinite(value) or value < 0 or (value == 0 and f.name not in may_be_zero):
                raise ValueError(f"{f.name} must be finite and > 0, got {value!r}")
        if self.depth_resize not in RESIZE_METHODS:
            raise ValueError(
                f"depth_resize must be one of {RESIZE_METHODS}, got {self.depth_resize!r}"
            )
        if self.max_invalid_share > 1:
            raise ValueError(f"max_invalid_share must be in [0, 1], got {self.max_invalid_share}")
        if min(self.max_consecutive_faults, self.max_moves_given_up) < 1:
            raise ValueError("max_consecutive_faults and max_moves_given_up must be >= 1")
        period_s = 1.0 / self.control_rate_hz
        if self.max_clock_step_s < 2 * period_s or self.watchdog_timeout_s < 2 * period_s:
            raise ValueError(
                f"max_clock_step_s and watchdog_timeout_s must be at least two control periods "
                f"({2 * period_s:.3f} s), got {self.max_clock_step_s} and {self.watchdog_timeout_s}"
            )
        if self.max_inference_s >= self.watchdog_timeout_s:
            raise ValueError(
                f"max_inference_s must be below watchdog_timeout_s, got {self.max_inference_s} and "
                f"{self.watchdog_timeout_s}"
            )

    def limits(self) -> Limits:
        """Return the base's limits."""
        return Limits(
            self.max_speed_mps,
            self.max_reverse_mps,
            self.max_turn_rate_rps,
            self.max_acceleration_mps2,
            self.max_turn_acceleration_rps2,
        )

    def move_settings(self) -> MoveSettings:
        """Return how discrete moves are driven.

        Braking is planned at half the acceleration limit: the command follows the plan a control
        period and the base's own delay later.
        """
        return MoveSettings(
            speed_mps=self.max_speed_mps,
            turn_rate_rps=self.max_turn_rate_rps,
            creep_mps=min(self.creep_mps, self.max_speed_mps),
            creep_rps=min(self.creep_rps, self.max_turn_rate_rps),
            braking_mps2=0.5 * self.max_acceleration_mps2,
            braking_rps2=0.5 * self.max_turn_acceleration_rps2,
            tolerance_m=self.move_tolerance_m,
            tolerance_rad=math.radians(self.move_tolerance_deg),
            timeout_s=self.move_timeout_s,
            stall_timeout_s=self.stall_timeout_s,
        )


def parameters() -> List[Parameter]:
    """Return every parameter that the node declares."""
    return [Parameter(f.name, f.default, f.metadata["description"]) for f in fields(Settings)]


def read_settings(values: Mapping[str, Any]) -> Settings:
    """Return the settings of declared parameters' `values`, all of them given.

    Raises:
        ValueError: no `policy_file`, a missing or unknown name, or see `Settings`.
    """
    names = {f.name for f in fields(Settings)}
    if set(values) != names:
        raise ValueError(
            f"missing {sorted(names - set(values))}, unknown {sorted(set(values) - names)}"
        )
    if not values["policy_file"]:
        raise ValueError("policy_file is empty; give the path of the .onnx file")
    arguments: Dict[str, Any] = dict(values)
    return Settings(**arguments)
