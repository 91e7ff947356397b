"""What observations and actions mean, read from the options of the run's environment.

Only what the environment's own code and options say: a fact that nobody stated is null in the contract.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from dreamer_nav.config import Config
from dreamer_nav.spaces import ActionSpec, ObsSpec
from dreamer_nav_export.contract import (
    Camera,
    Choice,
    Component,
    ContinuousActions,
    Control,
    DiscreteActions,
    InvalidReading,
    Observation,
)
from dreamer_nav_export.errors import PolicyError
from dreamer_nav_export.graph import observation_dtype

__all__ = ["ExportError", "TaskFacts", "read_task_facts"]

_GOAL_SIGN = "phi positive to the left, 0 straight ahead"
_STOP_WITHIN = "the goal is within {} m: ends the episode"


class ExportError(PolicyError):
    """A run that cannot be exported, or a check of the written file that failed."""


@dataclass(frozen=True)
class TaskFacts:
    """Observations and actions with their meaning."""

    observations: tuple[Observation, ...]
    discrete: DiscreteActions | None
    continuous: ContinuousActions | None
    control: Control


def read_task_facts(
    config: Config,
    obs: tuple[ObsSpec, ...],
    action: ActionSpec,
    *,
    control_hz: float | None = None,
    max_staleness_s: float | None = None,
) -> TaskFacts:
    """The facts of a run.

    Args:
        config: the run's.
        obs, action: what the agent reads and does.
        control_hz: asks of the policy a second; None for what the environment's step lasts, if it says.
        max_staleness_s: age beyond which an observation must not be acted on; None for one control period, and for
            actions without a duration half a second.
    """
    options = _options(config)
    is_pointgoal = {"actions", "forward_m", "turn_deg", "require_stop", "step_s"} <= options.keys()
    discrete = continuous = None
    if action.discrete:
        discrete = _pointgoal_choices(options) if is_pointgoal else _plain_choices(action)
    else:
        continuous = _pointgoal_velocities(options) if is_pointgoal else _plain_components(action)
    if discrete is not None and len(discrete.choices) != action.size:
        raise ExportError(
            f"the environment's options describe {len(discrete.choices)} actions and the agent has "
            f"{action.size}: the environment has changed since the run; install the version that trained it"
        )
    duration = continuous.duration_s if continuous is not None else None
    rate = control_hz if control_hz is not None else (1 / duration if duration else None)
    stale = max_staleness_s if max_staleness_s is not None else (1 / rate if rate else 0.5)
    camera = _camera(config, options)
    observations = tuple(_observation(o, camera, is_pointgoal) for o in obs)
    return TaskFacts(observations, discrete, continuous, Control(rate, stale))


def _options(config: Config) -> dict[str, Any]:
    """The environment's options with their defaults; without the defaults where it is not installed."""
    from sim_adapters import registry

    given = {k: v for k, v in config.env.items() if k != "name"}
    try:
        return {**registry.options(config.env["name"]), **given}
    except (registry.SimulatorNotInstalled, registry.UnknownEnvironment):
        return given


def _camera(config: Config, options: dict[str, Any]) -> Camera:
    height, pitch = options.get("camera_height_m"), options.get("camera_pitch_deg")
    if config.env["name"] == "bullet":
        from sim_adapters.bullet.camera import HEIGHT_M

        height, pitch = HEIGHT_M, 0.0
    return Camera(height, pitch, options.get("hfov_deg"))


def _observation(spec: ObsSpec, camera: Camera, is_pointgoal: bool) -> Observation:
    dtype = observation_dtype(spec)
    if spec.is_image:
        return _image(spec, dtype, camera)
    count = math.prod(spec.shape)
    if is_pointgoal and spec.name == "pointgoal":
        return Observation(
            spec.name,
            dtype,
            spec.shape,
            "goal",
            low=(0.0, -math.pi),
            high=(None, math.pi),
            components=("rho", "phi"),
            units=("m", "rad"),
            frame="robot base, x forward, y left, z up; rho is the horizontal distance",
            sign=_GOAL_SIGN,
        )
    low, high = (_finite(spec.low),) * count, (_finite(spec.high),) * count
    return Observation(spec.name, dtype, spec.shape, "vector", low, high)


def _image(spec: ObsSpec, dtype: str, camera: Camera) -> Observation:
    low, high = (_finite(spec.low),), (_finite(spec.high),)
    channels: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    kind, invalid = "image", None
    if spec.name == "depth" and spec.shape[2] == 1 and dtype == "float32":
        kind, units = "depth", ("m",)
        invalid = InvalidReading(spec.high, "farther than the range, or no reading")
    elif spec.shape[2] == 3 and dtype == "uint8":
        kind, channels = "rgb", ("R", "G", "B")
    elif spec.shape[2] == 1 and dtype == "uint8":
        kind = "gray"
    return Observation(
        spec.name,
        dtype,
        spec.shape,
        kind,
        low,
        high,
        layout="HWC",
        channels=channels,
        units=units,
        camera=camera,
        invalid=invalid,
    )


def _finite(bound: float) -> float | None:
    # Spaces without a bound hold infinity or the largest float32.
    return bound if abs(bound) < 3e38 else None


def _stop_means(options: dict[str, Any]) -> str:
    return _STOP_WITHIN.format(options["success_distance_m"])


def _pointgoal_choices(options: dict[str, Any]) -> DiscreteActions:
    turn = math.radians(float(options["turn_deg"]))
    moves = [
        ("forward", "forward", float(options["forward_m"]), "m"),
        ("left", "turn", turn, "rad"),
        ("right", "turn", -turn, "rad"),
    ]
    choices = []
    if options["require_stop"]:
        choices.append(Choice(0, "stop", "stop", stop=True))
    for name, motion, magnitude, unit in moves:
        choices.append(Choice(len(choices), name, motion, magnitude, unit))
    means = _stop_means(options) if options["require_stop"] else None
    return DiscreteActions(tuple(choices), means)


def _plain_choices(action: ActionSpec) -> DiscreteActions:
    return DiscreteActions(tuple(Choice(i, f"action_{i}") for i in range(action.size)))


def _pointgoal_velocities(options: dict[str, Any]) -> ContinuousActions:
    slowest, fastest = float(options["min_speed_mps"]), float(options["max_speed_mps"])
    turn = math.radians(float(options["max_turn_rate_dps"]))
    stops = bool(options["require_stop"])
    speed = Component(
        "v",
        -1.0,
        1.0,
        unit="m/s",
        scale=(fastest - slowest) / 2,
        offset=(fastest + slowest) / 2,
        sign="positive forward",
        stop_below=float(options["stop_speed_mps"]) if stops else None,
    )
    turn_rate = Component(
        "w",
        -1.0,
        1.0,
        unit="rad/s",
        scale=turn,
        offset=0.0,
        sign="positive to the left",
        stop_below=math.radians(float(options["stop_turn_rate_dps"])) if stops else None,
    )
    means = _stop_means(options) if stops else None
    return ContinuousActions((speed, turn_rate), float(options["step_s"]), means)


def _plain_components(action: ActionSpec) -> ContinuousActions:
    bounds = zip(action.low, action.high, strict=True)
    return ContinuousActions(
        tuple(Component(f"action_{i}", low, high) for i, (low, high) in enumerate(bounds))
    )
