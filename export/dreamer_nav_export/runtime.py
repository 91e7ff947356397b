"""Runs a policy file on a robot: NumPy and ONNX Runtime, no torch, Python 3.8 or later.

policy = Policy.load("policy.onnx")
policy.selftest()
policy.reset()
action = policy.act({"depth": depth, "pointgoal": goal})
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from dreamer_nav_export.contract import Contract
from dreamer_nav_export.errors import InferenceError, SelfTestError
from dreamer_nav_export.golden import NoiseStream, golden_observations
from dreamer_nav_export.observation_check import ObservationCheck
from dreamer_nav_export.policy_file import MAX_FILE_BYTES, PathLike, read_policy_file
from dreamer_nav_export.session import PolicySession

__all__ = ["Action", "Policy", "SelfTest"]

_FIRST, _NOT_FIRST = np.array([True]), np.array([False])


@dataclass(frozen=True)
class Action:
    """What to do next.

    Attributes:
        index: of the discrete action; None for continuous ones.
        name: of the discrete action; of a continuous one `stop` or `move` where the contract says what stop is,
            else None.
        values: float32 (A,), the continuous action in the environment's units (the contract's components say what
            they are in m/s and rad/s); None for discrete ones.
        probs: float32 (A,), probability of each discrete action; None for continuous ones.
        ok: the network's own check of its numbers. Always true: what is not ok is raised.
    """

    index: Optional[int]
    name: Optional[str]
    values: Optional[np.ndarray]
    probs: Optional[np.ndarray]
    ok: bool


class SelfTest(NamedTuple):
    """What the golden vectors gave: steps made, and the largest difference to what they should give."""

    steps: int
    max_error: float


class Policy:
    """A policy with its recurrent state: one object for each robot, used by one thread at a time.

    After any exception the state and the noise are what they were before the call.
    """

    def __init__(self, session: PolicySession, seed: Optional[int] = None) -> None:
        self._session = session
        self._check = ObservationCheck(self.spec.observations)
        # Not every output: the logits are for comparisons with torch.
        actions = ["action"] if self.spec.discrete is None else ["action", "probs"]
        self._outputs = [*dict.fromkeys(["ok", *actions, *(s.output for s in self.spec.state)])]
        self._seed = 0
        self._memory: Dict[str, np.ndarray] = {}
        self._is_first = True
        self._noise: Optional[NoiseStream] = None
        self._drawn: Optional[Dict[str, np.ndarray]] = None
        self.reset(seed)

    @classmethod
    def load(
        cls,
        path: PathLike,
        expected_sha256: Optional[str] = None,
        providers: Optional[Sequence[str]] = None,
        max_bytes: int = MAX_FILE_BYTES,
        session_options: Optional[Mapping[str, Any]] = None,
    ) -> Policy:
        """Read, check and load a policy file.

        Args:
            path: the `.onnx`; `<path>.sha256` beside it is checked where it exists.
            expected_sha256: a hash from elsewhere, checked too.
            providers: ONNX Runtime's execution providers; all of them must start.
            max_bytes: a bigger file is refused.
            session_options: attributes of onnxruntime.SessionOptions (default: one thread, no spinning).

        Raises:
            PolicyFileError: absent, too big, another hash, or nothing that ONNX Runtime can load.
            ContractError: its contract is missing, of another schema, malformed, or not the graph's.
        """
        data = read_policy_file(path, expected_sha256, max_bytes)
        return cls(PolicySession(data, providers, session_options))

    @property
    def spec(self) -> Contract:
        """The contract: observations, actions, units, rates, provenance, figures."""
        return self._session.contract

    @property
    def seed(self) -> int:
        """The seed of the noise since the last reset."""
        return self._seed

    def fork(self, seed: Optional[int] = None) -> Policy:
        """Another policy of the same file with a state of its own, sharing the weights."""
        return Policy(self._session, seed)

    def reset(self, seed: Optional[int] = None) -> None:
        """Forget everything: before an episode, on a new goal, after a gap in the observations.

        Args:
            seed: of the noise, 0 to 2^32 - 1; None draws one, which `seed` then tells.

        Raises:
            ValueError: another seed; the state is as it was.
        """
        if seed is None:
            seed = random.SystemRandom().getrandbits(32)
        is_integer = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
        if not is_integer or not 0 <= seed < 2**32:
            raise ValueError("seed must be an integer from 0 to 2^32 - 1, got {!r}".format(seed))
        self._seed = int(seed)
        self._noise = NoiseStream(self._seed)
        self._restart()

    def _restart(self) -> None:
        # New zeros, never a product with the old state: NaN times 0 is NaN.
        self._memory = {s.input: np.zeros((1, *s.shape), s.dtype) for s in self.spec.state}
        self._is_first = True
        self._drawn = None

    def act(self, observations: Mapping[str, np.ndarray]) -> Action:
        """The action for one observation of each sensor; remembers it.

        Args:
            observations: arrays as `spec.observations` describes them, without a batch axis. They may be read-only
                or not contiguous; they are copied.

        Raises:
            ObservationError: one is missing, unknown, of another type or shape, out of range or not finite.
            InferenceError: the network failed, or its numbers are not finite.
        """
        feeds = self._check(observations)
        outputs = self._session.run({**feeds, **self._own_inputs()}, self._outputs)
        action = self._read_action(outputs)
        memory = {s.input: outputs[s.output] for s in self.spec.state}
        for name, value in memory.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise InferenceError("the new state {!r} is not finite".format(name))
        self._memory, self._is_first, self._drawn = memory, False, None
        return action

    def _own_inputs(self) -> Dict[str, np.ndarray]:
        if self._drawn is None:  # else the last call failed, and its noise was not used
            assert self._noise is not None
            self._drawn = self._noise.step(self.spec.noise)
        first = _FIRST if self._is_first else _NOT_FIRST
        return {**self._memory, self.spec.is_first: first, **self._drawn}

    def _read_action(self, outputs: Mapping[str, np.ndarray]) -> Action:
        if not bool(outputs["ok"].all()):
            raise InferenceError(
                "the network's numbers are not finite: check the observations and the file"
            )
        value = outputs["action"][0]
        if self.spec.discrete is None:
            return self._continuous(value)
        index, probs = int(value), outputs["probs"][0]
        choices = self.spec.discrete.choices
        # Tolerance: the sum of float32 numbers.
        if not 0 <= index < len(choices) or not abs(float(probs.sum()) - 1.0) < 1e-3:
            raise InferenceError(
                "the network gave action {} of {} with probabilities {}".format(
                    index, len(choices), probs
                )
            )
        return Action(index, choices[index].name, None, probs, True)

    def _continuous(self, value: np.ndarray) -> Action:
        actions = self.spec.continuous
        assert actions is not None
        for number, c in zip(value, actions.components):
            if not np.float32(c.low) <= number <= np.float32(c.high):
                raise InferenceError(
                    "the network gave {} = {}, allowed is [{}, {}]".format(
                        c.name, number, c.low, c.high
                    )
                )
        name = None
        if all(c.stop_below is not None for c in actions.components):
            name = "stop" if _is_stop(value, actions.components) else "move"
        return Action(None, name, value, None, True)

    def selftest(self) -> SelfTest:
        """Run the file's golden vectors on this machine; the policy's own state is not touched.

        Raises:
            SelfTestError: an action or the final state is not what the golden vectors say, or there are none.
            PolicyError: what `act` raises.
        """
        golden = self.spec.golden
        if golden is None:
            raise SelfTestError("the file has no golden vectors: export it again")
        policy = self.fork(golden.noise_seed)
        errors: List[float] = [0.0]
        for step, observations in enumerate(golden_observations(self.spec, golden)):
            if step in golden.resets:
                policy._restart()
            action = policy.act(observations)
            given = [float(action.index)] if action.index is not None else action.values
            limit = 0.0 if action.index is not None else golden.tolerance
            _compare("action", step, given, golden.actions[step], limit, errors)
            if action.probs is not None:
                _compare("probs", step, action.probs, golden.probs[step], golden.tolerance, errors)
        for name, expected in golden.final_state.items():
            found = policy._memory[name].ravel()
            _compare(name, golden.steps - 1, found, expected, golden.tolerance, errors)
        return SelfTest(golden.steps, max(errors))


def _is_stop(value: np.ndarray, components: Sequence[Any]) -> bool:
    physical = (c.offset + c.scale * float(x) for c, x in zip(components, value))
    return all(abs(x) < c.stop_below for c, x in zip(components, physical))


def _compare(
    what: str, step: int, found: Any, expected: Any, tolerance: float, errors: List[float]
) -> None:
    given, wanted = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    error = float(np.abs(given - wanted).max()) if given.shape == wanted.shape else float("inf")
    errors.append(error)
    if not error <= tolerance:
        raise SelfTestError(
            "golden vectors, step {}: {} differs by {:.3g}, allowed is {:.3g}; this machine or "
            "this ONNX Runtime computes something else than the file was made with".format(
                step, what, error, tolerance
            )
        )
