"""The contract of a policy file: everything a robot must know to feed the graph and to carry out what it says.

One JSON value in the ONNX file's metadata, under `METADATA_KEY`. It can be read without the onnx package (ONNX
Runtime's `custom_metadata_map`) and from C++ (`LookupCustomMetadataMapAllocated`). Standard library only.

Shapes leave out the batch axis, which every tensor of the graph has first.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple

from dreamer_nav_export.errors import ContractError
from dreamer_nav_export.json_fields import from_json, to_json

__all__ = [
    "METADATA_KEY",
    "SCHEMA",
    "Camera",
    "Choice",
    "Component",
    "ContinuousActions",
    "Contract",
    "Control",
    "DiscreteActions",
    "Evaluation",
    "Golden",
    "InvalidReading",
    "Noise",
    "Observation",
    "Parity",
    "Provenance",
    "RecurrentState",
    "TensorSpec",
    "Variant",
    "read_contract",
]

METADATA_KEY = "dreamer_nav.contract"
SCHEMA = 1
MAX_BYTES = 4 * 2**20
DTYPES = ("bool", "float32", "int64", "uint8")
_MAX_ELEMENTS = 2**26

Bounds = Tuple[Optional[float], ...]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of the graph, without its batch axis."""

    name: str
    dtype: str
    shape: Tuple[int, ...]


@dataclass(frozen=True)
class Camera:
    """How the camera that the policy was trained with is mounted; null where training did not say."""

    height_m: Optional[float] = None
    pitch_deg: Optional[float] = None  # 0 looks ahead, positive up
    hfov_deg: Optional[float] = None


@dataclass(frozen=True)
class InvalidReading:
    """What a pixel without a reading must be replaced by before it reaches the policy."""

    value: float
    meaning: str


@dataclass(frozen=True)
class Observation:
    """One observation as the sensor gives it: scaling and encoding are inside the graph.

    `kind` is rgb, gray, depth, image, goal or vector. `low` and `high` hold one bound for an image and one for each
    component of a vector; null is unbounded. Values must be finite in any case.
    """

    name: str
    dtype: str
    shape: Tuple[int, ...]
    kind: str
    low: Bounds
    high: Bounds
    layout: Optional[str] = None
    channels: Tuple[str, ...] = ()
    components: Tuple[str, ...] = ()
    units: Tuple[str, ...] = ()
    frame: Optional[str] = None
    sign: Optional[str] = None
    camera: Optional[Camera] = None
    invalid: Optional[InvalidReading] = None

    @property
    def is_image(self) -> bool:
        """Whether it has rank 3."""
        return len(self.shape) == 3


@dataclass(frozen=True)
class Choice:
    """One discrete action: a motion of `magnitude` in `unit`, or none.

    `motion` is stop, forward, turn, or null where the environment gave no meaning. Turns are positive to the left.
    """

    index: int
    name: str
    motion: Optional[str] = None
    magnitude: Optional[float] = None
    unit: Optional[str] = None
    stop: bool = False
    duration_s: Optional[float] = None


@dataclass(frozen=True)
class DiscreteActions:
    """Choices in the order of their index. `stop_means` says what stop asserts."""

    choices: Tuple[Choice, ...]
    stop_means: Optional[str] = None


@dataclass(frozen=True)
class Component:
    """One number of a continuous action, within [low, high] as the graph gives it.

    In `unit` it is `offset + scale * value`; unit, scale and offset are null where the environment gave no meaning.
    An action all of whose components are below their `stop_below` in size (in `unit`) is stop.
    """

    name: str
    low: float
    high: float
    unit: Optional[str] = None
    scale: Optional[float] = None
    offset: Optional[float] = None
    sign: Optional[str] = None
    stop_below: Optional[float] = None


@dataclass(frozen=True)
class ContinuousActions:
    """Components in the order of the vector; each action lasts `duration_s`."""

    components: Tuple[Component, ...]
    duration_s: Optional[float] = None
    stop_means: Optional[str] = None


@dataclass(frozen=True)
class Control:
    """When to ask the policy.

    `rate_hz` null: when the motion of the last action has ended. An observation older than `max_staleness_s` must
    not be acted on.
    """

    rate_hz: Optional[float]
    max_staleness_s: float


@dataclass(frozen=True)
class RecurrentState:
    """A tensor that goes out as `output` and in again as `input`; zeros before the first step."""

    input: str
    output: str
    dtype: str
    shape: Tuple[int, ...]


@dataclass(frozen=True)
class Noise:
    """An input of uniform noise in [0, 1).

    All noise of a step is drawn in the order of `Contract.noise`, entries that are not `used` included, from one
    32-bit Mersenne Twister (mt19937, seeded by one integer): (draw mod 2^24) / 2^24 in float32. This is also
    torch.rand on a CPU generator, so a policy file replays the noise of an evaluation.
    """

    name: str
    shape: Tuple[int, ...]
    used: bool


@dataclass(frozen=True)
class Variant:
    """How the file chooses: `latents` sample or argmax, `actions` sample or mode."""

    name: str
    latents: str
    actions: str


@dataclass(frozen=True)
class Provenance:
    """Where the policy comes from.

    `config` is the whole resolved configuration of the run, `commit` that of the source that exported it, if known.
    `spaces` holds the agent's own description of observations and actions, as a checkpoint does.
    """

    algorithm: str
    environment: str
    environment_options: Dict[str, Any]
    evaluation_options: Dict[str, Any]
    steps: int
    updates: int
    seed: int
    config: Dict[str, Any]
    spaces: Dict[str, Any]
    config_sha256: str
    weights_sha256: str
    commit: Optional[str]
    versions: Dict[str, str]
    precision: str = "float32"
    quantization: Optional[str] = None


@dataclass(frozen=True)
class Evaluation:
    """Figures of one evaluation of these weights: each measure's mean, 95% interval and n.

    `by` is checkpoint or policy file; `environment` holds the options it was made with.
    """

    name: str
    by: str
    variant: str
    environment: Dict[str, Any]
    seed: int
    measures: Dict[str, Dict[str, float]]


@dataclass(frozen=True)
class Parity:
    """What the check against torch found: largest absolute differences and changed choices.

    In a closed loop the recurrence may multiply rounding, torch's own as well; there the differences may exceed the
    tolerances by as much as it does.
    """

    steps: int
    batches: Tuple[int, ...]
    max_error_logits: float
    max_error_state: float
    max_error_action: float
    latent_flips: int
    action_flips: int
    closed_loop_steps: int
    tolerance_logits: float
    tolerance_state: float


@dataclass(frozen=True)
class Golden:
    """A sequence with known outcome, made of random numbers that any machine can draw again.

    Observations come from a Mersenne Twister seeded `observation_seed`: for each step and each observation in the
    contract's order one draw for each number in C order, an image one draw for each cell of 8 x 8 pixels and
    channel. uint8 is the draw mod 256; floats are low + u (high - low) with u as in `Noise`, where an unbounded low
    is -1 (0 if high is at least 0 and bounded), an unbounded high low + 10. Policy noise is seeded `noise_seed`
    once, before the first step. State is reset before the steps in `resets`.
    """

    observation_seed: int
    noise_seed: int
    steps: int
    resets: Tuple[int, ...]
    actions: Tuple[Tuple[float, ...], ...]
    probs: Tuple[Tuple[float, ...], ...]
    final_state: Dict[str, Tuple[float, ...]]
    tolerance: float


@dataclass(frozen=True)
class Contract:
    """Everything about a policy file; see the classes of its parts."""

    schema: int
    variant: Variant
    batch: Optional[int]  # null: any
    observations: Tuple[Observation, ...]
    is_first: str
    state: Tuple[RecurrentState, ...]
    noise: Tuple[Noise, ...]
    outputs: Tuple[TensorSpec, ...]
    control: Control
    provenance: Provenance
    discrete: Optional[DiscreteActions] = None
    continuous: Optional[ContinuousActions] = None
    evaluations: Tuple[Evaluation, ...] = field(default=())
    parity: Optional[Parity] = None
    golden: Optional[Golden] = None

    @property
    def inputs(self) -> Tuple[TensorSpec, ...]:
        """Every input of the graph, in its order."""
        return (
            *(TensorSpec(o.name, o.dtype, o.shape) for o in self.observations),
            TensorSpec(self.is_first, "bool", ()),
            *(TensorSpec(s.input, s.dtype, s.shape) for s in self.state),
            *(TensorSpec(n.name, "float32", n.shape) for n in self.noise if n.used),
        )

    @property
    def action_size(self) -> int:
        """Number of choices, or of components."""
        if self.discrete is not None:
            return len(self.discrete.choices)
        assert self.continuous is not None
        return len(self.continuous.components)

    def to_json(self) -> Dict[str, Any]:
        """As JSON values."""
        value = to_json(self)
        assert isinstance(value, dict)
        return value

    def dumps(self) -> str:
        """As the text that goes into the file."""
        return json.dumps(self.to_json(), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, value: Any) -> Contract:
        """Inverse of `to_json`.

        Raises:
            ContractError: another schema, or a value that does not fit; the message says where.
        """
        if not isinstance(value, dict):
            raise ContractError("the contract must be a JSON object, got {}".format(type(value)))
        if value.get("schema") != SCHEMA or isinstance(value.get("schema"), bool):
            raise ContractError(
                "the contract has schema {!r} and this version reads {}; install the "
                "dreamer-nav-export that wrote the file, or export it again".format(
                    value.get("schema"), SCHEMA
                )
            )
        contract = from_json(cls, value, "contract")
        assert isinstance(contract, Contract)
        _check(contract)
        return contract


def read_contract(text: Any) -> Contract:
    """The contract in a file's metadata value.

    Raises:
        ContractError: no text, too long, not JSON, or not a contract.
    """
    if not isinstance(text, str):
        raise ContractError(
            "the file has no metadata {!r}: it is not a policy of dreamer-nav".format(METADATA_KEY)
        )
    if len(text) > MAX_BYTES:
        raise ContractError(
            "the contract is {} characters long; at most {}".format(len(text), MAX_BYTES)
        )
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ContractError("the contract is not JSON: {}".format(error)) from error
    return Contract.from_json(value)


def _no_constant(name: str) -> float:
    raise ValueError("{} is not JSON".format(name))


def _check(contract: Contract) -> None:
    """What the types do not say."""
    _require(
        (contract.discrete is None) != (contract.continuous is None),
        "exactly one of discrete and continuous must be given",
    )
    _require(contract.batch is None or contract.batch >= 1, "batch must be null or at least 1")
    _require(bool(contract.observations), "there must be an observation")
    for observation in contract.observations:
        _check_bounds(observation)
    for tensors in (contract.inputs, contract.outputs):
        names = [t.name for t in tensors]
        _require(len(set(names)) == len(names), "names must differ, got {}".format(names))
        for tensor in tensors:
            _check_tensor(tensor)
    outputs = {t.name: t for t in contract.outputs}
    for state in contract.state:
        expected = TensorSpec(state.output, state.dtype, state.shape)
        _require(
            outputs.get(state.output) == expected,
            "state {!r} has no such output".format(state.output),
        )
    _check_actions(contract, outputs)
    _require(
        contract.control.max_staleness_s > 0
        and (contract.control.rate_hz is None or contract.control.rate_hz > 0),
        "control needs max_staleness_s > 0 and rate_hz null or > 0",
    )


def _check_tensor(tensor: TensorSpec) -> None:
    _require(
        tensor.dtype in DTYPES, "{}: dtype must be one of {}".format(tensor.name, ", ".join(DTYPES))
    )
    positive = all(0 < n <= _MAX_ELEMENTS for n in tensor.shape)
    size = 1
    for n in tensor.shape:
        size *= n
    _require(
        positive and size <= _MAX_ELEMENTS,
        "{}: impossible shape {}".format(tensor.name, tensor.shape),
    )


def _check_bounds(observation: Observation) -> None:
    count = 1 if observation.is_image else math.prod(observation.shape)
    _require(
        len(observation.low) == len(observation.high) == count,
        "{}: needs {} bounds".format(observation.name, count),
    )
    for low, high in zip(observation.low, observation.high):
        _require(
            low is None or high is None or low <= high, "{}: low > high".format(observation.name)
        )


def _check_actions(contract: Contract, outputs: Dict[str, TensorSpec]) -> None:
    size = contract.action_size
    _require(size >= 1, "there must be an action")
    if contract.discrete is not None:
        indices = [c.index for c in contract.discrete.choices]
        _require(indices == list(range(size)), "choices must be numbered 0 to {}".format(size - 1))
        needed = [TensorSpec("action", "int64", ()), TensorSpec("probs", "float32", (size,))]
    else:
        needed = [TensorSpec("action", "float32", (size,))]
    for tensor in [*needed, TensorSpec("ok", "bool", ())]:
        _require(outputs.get(tensor.name) == tensor, "outputs need {}".format(tensor))


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ContractError("contract: {}".format(what))
