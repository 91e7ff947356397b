"""The few fields of a policy file's contract that the node needs, read in this one place."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

DEPTH, RGB, GOAL = "depth", "rgb", "goal"
"""Kinds of observation that this node gives."""
RADIANS = {"rad": 1.0, "rad/s": 1.0, "deg": math.pi / 180, "deg/s": math.pi / 180}


class ContractError(ValueError):
    """The contract lacks a field, or asks for something that this node cannot give."""


class CameraField(NamedTuple):
    """A camera as the policy was trained with it: pixels, degrees, metres.

    `name` is the observation's. For depth, `near_m` and `far_m` bound the readings and `invalid_m`
    stands for none. The mount is None where the contract does not tell it.
    """

    name: str
    height: int
    width: int
    hfov_deg: float
    mount_height_m: Optional[float]
    pitch_deg: Optional[float]
    near_m: float = 0.0
    far_m: float = 0.0
    invalid_m: float = 0.0


class MoveAction(NamedTuple):
    """A discrete action: drive `forward_m` or turn `turn_rad` (left positive); both 0 is stop."""

    name: str
    forward_m: float
    turn_rad: float

    @property
    def is_stop(self) -> bool:
        """Whether the action ends the episode."""
        return self.forward_m == 0.0 and self.turn_rad == 0.0


class LinearMap(NamedTuple):
    """One number of a continuous action: `offset + scale * number` is m/s or rad/s."""

    position: int
    offset: float
    scale: float


class VelocityAction(NamedTuple):
    """How a continuous action becomes speed and turn rate, and how long it lasts."""

    speed: LinearMap
    turn: LinearMap
    duration_s: float
    has_stop: bool

    def velocities(self, values: np.ndarray) -> Tuple[float, float]:
        """Return (v m/s, w rad/s, left positive) of the action `values`, shape (2,)."""
        v, w = (m.offset + m.scale * float(values[m.position]) for m in (self.speed, self.turn))
        return v, w


class PolicyFields(NamedTuple):
    """What the node needs to know of a policy. Exactly one of `moves` and `velocity` is given.

    `goal_name` is the observation that holds (rho m, phi rad). `moves` are in the order of the
    policy's indices. Without a stop (`has_stop`) the policy never says that it has arrived.
    """

    depth: Optional[CameraField]
    rgb: Optional[CameraField]
    goal_name: str
    moves: Optional[Tuple[MoveAction, ...]]
    velocity: Optional[VelocityAction]
    max_staleness_s: float

    @property
    def has_stop(self) -> bool:
        """Whether the policy has an action that ends the episode."""
        if self.velocity is not None:
            return self.velocity.has_stop
        return any(move.is_stop for move in self.moves or ())

    @property
    def cameras(self) -> Tuple[CameraField, ...]:
        """The cameras that the policy looks through."""
        return tuple(camera for camera in (self.depth, self.rgb) if camera is not None)


def read_fields(spec: Any) -> PolicyFields:
    """Return what the node needs of a contract: a mapping, or an object with `to_json`.

    Raises:
        ContractError: a field is missing or wrong, or the policy wants or does something that
            this node cannot give or carry out.
    """
    contract: Mapping[str, Any] = spec.to_json() if hasattr(spec, "to_json") else spec
    by_kind = _observations_by_kind(_get(contract, "observations"))
    discrete, continuous = contract.get("discrete"), contract.get("continuous")
    if (discrete is None) == (continuous is None):
        raise ContractError("the contract must give either 'discrete' or 'continuous' actions")
    control = _get(contract, "control")
    return PolicyFields(
        depth=_depth(by_kind[DEPTH]) if DEPTH in by_kind else None,
        rgb=_camera(by_kind[RGB], (3, "uint8")) if RGB in by_kind else None,
        goal_name=_goal_name(by_kind[GOAL]),
        moves=_moves(discrete) if discrete is not None else None,
        velocity=_velocity(continuous, control) if continuous is not None else None,
        max_staleness_s=_positive(control, "max_staleness_s"),
    )


def _get(mapping: Mapping[str, Any], key: str) -> Any:
    if mapping.get(key) is None:
        raise ContractError(
            f"the contract has no {key!r} among {sorted(mapping)}; export the policy again, from a "
            "task that tells it"
        )
    return mapping[key]


def _positive(mapping: Mapping[str, Any], key: str) -> float:
    value = float(_get(mapping, key))
    if not (math.isfinite(value) and value > 0):
        raise ContractError(f"the contract's {key!r} must be finite and > 0, got {value!r}")
    return value


def _observations_by_kind(entries: List[Mapping[str, Any]]) -> Dict[str, Mapping[str, Any]]:
    by_kind = {_get(entry, "kind"): entry for entry in entries}
    allowed = {DEPTH, RGB, GOAL}
    if not set(by_kind) <= allowed or len(by_kind) != len(entries) or GOAL not in by_kind:
        raise ContractError(
            f"the policy wants {[(e.get('name'), e['kind']) for e in entries]}; this node gives at "
            f"most one of each kind of {sorted(allowed)}, and the goal always: export a policy "
            "trained on those"
        )
    return by_kind


def _goal_name(entry: Mapping[str, Any]) -> str:
    if list(_get(entry, "shape")) != [2] or list(_get(entry, "units")) != ["m", "rad"]:
        raise ContractError(
            "the goal must have shape [2] and units ['m', 'rad'] (distance, direction with left "
            f"positive), got {entry['shape']} and {entry['units']}"
        )
    return str(_get(entry, "name"))


def _camera(entry: Mapping[str, Any], wanted: Tuple[int, str]) -> CameraField:
    camera = _get(entry, "camera")
    shape, dtype = _get(entry, "shape"), _get(entry, "dtype")
    if len(shape) != 3 or (shape[2], dtype) != wanted:
        raise ContractError(
            f"{entry['name']!r} must be (height, width, {wanted[0]}) {wanted[1]}, got {shape} {dtype}"
        )
    return CameraField(
        name=_get(entry, "name"),
        height=int(shape[0]),
        width=int(shape[1]),
        hfov_deg=_positive(camera, "hfov_deg"),
        mount_height_m=camera.get("height_m"),
        pitch_deg=camera.get("pitch_deg"),
    )


def _depth(entry: Mapping[str, Any]) -> CameraField:
    field = _camera(entry, (1, "float32"))
    if list(_get(entry, "units")) != ["m"]:
        raise ContractError(f"depth must be in ['m'], got {entry['units']!r}")
    (near,), (far,) = _get(entry, "low"), _get(entry, "high")
    invalid = float(_get(_get(entry, "invalid"), "value"))
    if near is None or far is None or not 0 <= near < far or not near <= invalid <= far:
        raise ContractError(
            "depth needs 0 <= low < high and an invalid value within, got "
            f"[{near}, {far}] and {invalid}"
        )
    return field._replace(near_m=float(near), far_m=float(far), invalid_m=invalid)


def _moves(discrete: Mapping[str, Any]) -> Tuple[MoveAction, ...]:
    choices = sorted(_get(discrete, "choices"), key=lambda choice: int(choice["index"]))
    return tuple(_move(choice) for choice in choices)


def _move(choice: Mapping[str, Any]) -> MoveAction:
    name = str(_get(choice, "name"))
    motion = _get(choice, "motion")
    if motion == "stop":
        return MoveAction(name, 0.0, 0.0)
    magnitude, unit = float(_get(choice, "magnitude")), _get(choice, "unit")
    if motion == "forward" and unit == "m" and magnitude > 0:
        return MoveAction(name, magnitude, 0.0)
    if motion == "turn" and unit in RADIANS and 0 < abs(magnitude * RADIANS[unit]) <= math.pi:
        return MoveAction(name, 0.0, magnitude * RADIANS[unit])
    raise ContractError(
        f"action {name!r} is {motion!r} by {magnitude} {unit}; this node carries out 'stop', "
        "'forward' by a positive number of m and 'turn' by up to half a turn in rad or deg"
    )


def _velocity(continuous: Mapping[str, Any], control: Mapping[str, Any]) -> VelocityAction:
    components = _get(continuous, "components")
    units = [component.get("unit") for component in components]
    if len(units) != 2 or "m/s" not in units or not set(units) & set(RADIANS):
        raise ContractError(
            f"a continuous action must have one component in m/s and one in rad/s or deg/s, got {units}"
        )
    forward = units.index("m/s")
    duration = continuous.get("duration_s") or 1.0 / _positive(control, "rate_hz")
    return VelocityAction(
        speed=_linear(components[forward], forward, 1.0),
        turn=_linear(components[1 - forward], 1 - forward, RADIANS[units[1 - forward]]),
        duration_s=float(duration),
        has_stop=all(component.get("stop_below") is not None for component in components),
    )


def _linear(component: Mapping[str, Any], position: int, factor: float) -> LinearMap:
    offset, scale = float(_get(component, "offset")), float(_get(component, "scale"))
    return LinearMap(position, offset * factor, scale * factor)
