from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dreamer_nav_export.contract import SCHEMA, Contract, Golden, Parity, read_contract
from dreamer_nav_export.errors import ContractError, PolicyError
from dreamer_nav_export.task_facts import ExportError, read_task_facts
from dreamer_nav_export.writer import ExportOptions
from sim_adapters.nav_actions import DiscreteActions, VelocityActions
from tests.dreamer_nav_export.agents import CASES, config_of, contract_of

PARITY = Parity(10, (1, 3), 1e-5, 1e-6, 0.0, 1, 0, 9, 1e-3, 1e-4)
GOLDEN = Golden(1, 2, 2, (0,), ((1.0,), (2.0,)), ((0.1, 0.9),), {"deter": (0.5,)}, 1e-3)


def full(case: str = "pointgoal") -> dict[str, Any]:
    value = contract_of(case).to_json()
    value["parity"] = json.loads(json.dumps(PARITY.__dict__))
    return value


# -- round trip ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("variant", ["mode", "sample", "deterministic"])
def test_a_contract_read_back_is_the_one_that_was_written(case: str, variant: str) -> None:
    from dataclasses import replace

    contract = replace(
        contract_of(case, ExportOptions(variant)), parity=PARITY, golden=GOLDEN, batch=3
    )
    again = read_contract(contract.dumps())
    assert again == contract
    assert again.dumps() == contract.dumps()


def test_the_text_is_strict_json_without_infinities() -> None:
    text = contract_of("dmc proprio").dumps()

    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(text, parse_constant=refuse)["schema"] == SCHEMA


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*prefix, key)
        if isinstance(item, (dict, list)):
            yield from paths(item, (*prefix, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


# Free-form places: any JSON is right there.
FREE = ("config", "environment_options", "evaluation_options", "spaces", "versions")


def test_every_value_of_a_wrong_type_is_refused_with_its_place() -> None:
    value = full()
    checked = 0
    for path in paths(value):
        if any(name in path for name in FREE):
            continue
        spoiled = copy.deepcopy(value)
        at(spoiled, path[:-1])[path[-1]] = {"no": "sense"}
        with pytest.raises(ContractError):
            Contract.from_json(spoiled)
        checked += 1
    assert checked > 100


REQUIRED = ["schema", "variant", "observations", "is_first", "state", "noise", "outputs", "control"]


@pytest.mark.parametrize("key", [*REQUIRED, "provenance", "batch"])
def test_a_missing_part_is_named(key: str) -> None:
    value = full()
    del value[key]
    with pytest.raises(ContractError, match=key):
        Contract.from_json(value)


@pytest.mark.parametrize("schema", [0, 2, "1", None, True, 1.5])
def test_another_schema_is_refused_before_anything_else(schema: Any) -> None:
    with pytest.raises(ContractError, match="schema"):
        Contract.from_json({"schema": schema, "of": "the future"})


def spoil_unknown_key(value: dict[str, Any]) -> None:
    value["observations"][0]["colour"] = "green"


def spoil_nan(value: dict[str, Any]) -> None:
    value["control"]["max_staleness_s"] = float("nan")


def spoil_staleness(value: dict[str, Any]) -> None:
    value["control"]["max_staleness_s"] = -1.0


def spoil_duplicate_name(value: dict[str, Any]) -> None:
    value["observations"][1]["name"] = "depth"


def spoil_dtype(value: dict[str, Any]) -> None:
    value["observations"][0]["dtype"] = "object"


def spoil_shape(value: dict[str, Any]) -> None:
    value["observations"][0]["shape"] = [64, -64, 1]


def spoil_size(value: dict[str, Any]) -> None:
    value["observations"][0]["shape"] = [2**20, 2**20, 2**20]


def spoil_bounds(value: dict[str, Any]) -> None:
    value["observations"][1]["low"] = [0.0]


def spoil_order(value: dict[str, Any]) -> None:
    value["observations"][0]["low"], value["observations"][0]["high"] = [10.0], [0.1]


def spoil_indices(value: dict[str, Any]) -> None:
    value["discrete"]["choices"][1]["index"] = 3


def spoil_actions(value: dict[str, Any]) -> None:
    value["discrete"] = None


def spoil_state(value: dict[str, Any]) -> None:
    value["state"][1]["shape"] = [7]


def spoil_outputs(value: dict[str, Any]) -> None:
    value["outputs"] = [o for o in value["outputs"] if o["name"] != "ok"]


def spoil_batch(value: dict[str, Any]) -> None:
    value["batch"] = 0


def spoil_observations(value: dict[str, Any]) -> None:
    value["observations"] = []


def spoil_overflow(value: dict[str, Any]) -> None:
    value["control"]["rate_hz"] = 10**400


SPOILS = [f for name, f in list(globals().items()) if name.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda f: f.__name__)
def test_a_contract_that_contradicts_itself_is_refused(spoil: Any) -> None:
    value = full()
    spoil(value)
    with pytest.raises(ContractError):
        Contract.from_json(value)


@pytest.mark.parametrize(
    "text",
    [None, 7, "", "{", "[]", "null", '{"schema": NaN}', "[" * 100_000, "x" * (4 * 2**20 + 1)],
    ids=lambda t: repr(t)[:20],
)
def test_what_is_no_contract_at_all_is_refused(text: Any) -> None:
    with pytest.raises(ContractError):
        read_contract(text)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_no_json_is_refused_where_any_value_is_allowed(constant: str) -> None:
    value = full()
    value["provenance"]["config"] = {"seed": "here"}
    text = json.dumps(value)
    assert read_contract(text).provenance.config == {"seed": "here"}
    with pytest.raises(ContractError, match=f"{constant} is not JSON"):
        read_contract(text.replace('"here"', constant))


# -- the facts -----------------------------------------------------------------------------------


def test_choices_are_the_motions_of_the_environment() -> None:
    discrete = contract_of("pointgoal").discrete
    assert discrete is not None
    actions = DiscreteActions(forward_m=0.25, turn_deg=30, with_stop=True)
    for choice in discrete.choices:
        motions = actions.motions(choice.index)
        if motions is None:
            assert (choice.name, choice.stop, choice.magnitude) == ("stop", True, None)
            continue
        ((forward, turn),) = motions
        assert (forward, turn) == (
            (choice.magnitude, 0.0) if choice.motion == "forward" else (0.0, choice.magnitude)
        )
        assert choice.unit == ("m" if choice.motion == "forward" else "rad")
    assert [c.name for c in discrete.choices] == ["stop", "forward", "left", "right"]


def test_without_a_stop_action_forward_is_the_first() -> None:
    from dataclasses import replace

    from dreamer_nav.spaces import ActionSpec

    config = config_of("pointgoal")
    config = replace(config, env={**config.env, "require_stop": False})
    obs = CASES["pointgoal"][1]
    discrete = read_task_facts(config, obs, ActionSpec(True, 3)).discrete
    assert discrete is not None
    assert [c.name for c in discrete.choices] == ["forward", "left", "right"]
    assert discrete.stop_means is None
    with pytest.raises(ExportError, match="3 actions and the agent has 4"):
        read_task_facts(config, obs, ActionSpec(True, 4))


@pytest.mark.parametrize("value", [(-1.0, -1.0), (1.0, 1.0), (0.3, -0.6)])
def test_velocities_follow_from_scale_and_offset(value: tuple[float, float]) -> None:
    contract = contract_of("pointgoal velocities")
    continuous = contract.continuous
    assert continuous is not None
    actions = VelocityActions(
        min_speed_mps=-0.1,
        max_speed_mps=0.5,
        max_turn_rate_dps=30.0,
        step_s=1.0,
        with_stop=True,
        stop_speed_mps=0.025,
        stop_turn_rate_dps=1.0,
    )
    speed, turn_dps = actions.velocities(np.array(value))
    v, w = continuous.components
    assert v.scale is not None and v.offset is not None and w.scale is not None  # noqa: PT018
    assert v.offset + v.scale * value[0] == pytest.approx(speed)
    assert w.scale * value[1] == pytest.approx(math.radians(turn_dps))
    assert (v.unit, w.unit) == ("m/s", "rad/s")
    assert (v.stop_below, w.stop_below) == (0.025, pytest.approx(math.radians(1.0)))
    assert contract.control.rate_hz == 1.0


def test_sensors_are_described_as_the_simulator_has_them() -> None:
    from sim_adapters.bullet.camera import DEPTH_RANGE_M, HEIGHT_M

    depth, goal = contract_of("pointgoal").observations
    assert (depth.kind, depth.layout, depth.units) == ("depth", "HWC", ("m",))
    assert (depth.low[0], depth.high[0]) == pytest.approx(DEPTH_RANGE_M)
    assert depth.camera is not None
    assert depth.invalid is not None
    assert (depth.camera.height_m, depth.camera.hfov_deg) == (HEIGHT_M, 79.0)
    assert depth.invalid.value == DEPTH_RANGE_M[1]
    assert (goal.kind, goal.components, goal.units) == ("goal", ("rho", "phi"), ("m", "rad"))
    assert goal.high == (None, pytest.approx(math.pi))
    (rgb,) = contract_of("dmc vision").observations
    assert (rgb.kind, rgb.channels, rgb.dtype) == ("rgb", ("R", "G", "B"), "uint8")
    height, joints = contract_of("dmc proprio").observations
    assert (height.dtype, joints.low) == ("float32", (None,) * 5)


def test_rates_and_ages_can_be_set() -> None:
    config, obs, action = config_of("pointgoal"), *CASES["pointgoal"][1:]
    control = read_task_facts(config, obs, action, control_hz=4.0).control
    assert (control.rate_hz, control.max_staleness_s) == (4.0, 0.25)
    assert read_task_facts(config, obs, action, max_staleness_s=0.1).control.max_staleness_s == 0.1


def test_provenance_names_the_run() -> None:
    origin = contract_of("pointgoal").provenance
    assert (origin.environment, origin.steps, origin.seed) == ("bullet", 1234, 0)
    assert origin.environment_options["tier"] == "room"
    assert origin.config["env"]["name"] == "bullet"
    assert len(origin.config_sha256) == len(origin.weights_sha256) == 64
    other = contract_of("atari").provenance
    assert other.config_sha256 != origin.config_sha256
    assert other.weights_sha256 != origin.weights_sha256


def test_every_error_is_a_policy_error() -> None:
    assert issubclass(ContractError, PolicyError)
    assert issubclass(ExportError, PolicyError)
