"""Everything that a broken sensor or a careless caller can hand over: a typed error, and nothing has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dreamer_nav_export.contract import Observation
from dreamer_nav_export.errors import ObservationError, PolicyError
from dreamer_nav_export.observation_check import ObservationCheck
from dreamer_nav_export.runtime import Policy
from tests.dreamer_nav_export.agents import assert_same, contract_of, frames

Obs = dict[str, Any]


def depth(obs: Obs, change: Callable[[np.ndarray], Any]) -> Obs:
    return {**obs, "depth": change(obs["depth"].copy())}


def goal(obs: Obs, value: Any) -> Obs:
    return {**obs, "pointgoal": value}


def put(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[31, 7, 0] = value
        return array

    return change


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


# name: what is handed over for a good observation, the key that the error names, a part of its reason
CASES: dict[str, tuple[Callable[[Obs], Any], str, str]] = {
    "nothing": (lambda o: {}, "depth", "missing"),
    "None": (lambda o: None, "", "must be a dict"),
    "a list": (lambda o: list(o.values()), "", "must be a dict"),
    "an array": (lambda o: o["depth"], "", "must be a dict"),
    "no depth": (lambda o: {"pointgoal": o["pointgoal"]}, "depth", "missing"),
    "no goal": (lambda o: {"depth": o["depth"]}, "pointgoal", "missing"),
    "another key": (lambda o: {**o, "rgb": o["depth"]}, "rgb", "unknown"),
    "a misspelt key": (lambda o: {"Depth": o["depth"], "pointgoal": o["pointgoal"]}, "Depth", "un"),
    "the state": (lambda o: {**o, "deter": f32(*[0.0] * 16)}, "deter", "unknown"),
    "is_first": (lambda o: {**o, "is_first": np.array(True)}, "is_first", "unknown"),
    "a key that is no string": (lambda o: {**o, 7: o["depth"]}, "7", "unknown"),
    "float64 depth": (lambda o: depth(o, lambda d: d.astype(np.float64)), "depth", "float32"),
    "float16 depth": (lambda o: depth(o, lambda d: d.astype(np.float16)), "depth", "float32"),
    "millimetres": (lambda o: depth(o, lambda d: (1e3 * d).astype(np.uint16)), "depth", "float32"),
    "uint8 depth": (lambda o: depth(o, lambda d: d.astype(np.uint8)), "depth", "float32"),
    "objects": (lambda o: depth(o, lambda d: d.astype(object)), "depth", "float32"),
    "swapped bytes": (lambda o: depth(o, lambda d: d.astype(">f4")), "depth", "float32"),
    "complex numbers": (lambda o: depth(o, lambda d: d.astype(np.complex64)), "depth", "float32"),
    "no channel axis": (lambda o: depth(o, lambda d: d[..., 0]), "depth", "shape"),
    "a batch axis": (lambda o: depth(o, lambda d: d[None]), "depth", "shape"),
    "channels first": (lambda o: depth(o, lambda d: d.transpose(2, 0, 1)), "depth", "shape"),
    "a smaller picture": (lambda o: depth(o, lambda d: d[:32, :32]), "depth", "shape"),
    "a bigger picture": (lambda o: depth(o, lambda d: d.repeat(2, 0)), "depth", "shape"),
    "an empty picture": (lambda o: depth(o, lambda d: d[:0]), "depth", "shape"),
    "flat": (lambda o: depth(o, np.ravel), "depth", "shape"),
    "a list of numbers": (lambda o: depth(o, lambda d: d.tolist()), "depth", "numpy array"),
    "a number": (lambda o: depth(o, lambda d: 1.5), "depth", "numpy array"),
    "no picture": (lambda o: depth(o, lambda d: None), "depth", "numpy array"),
    "bytes": (lambda o: depth(o, lambda d: d.tobytes()), "depth", "numpy array"),
    "a masked array": (lambda o: depth(o, lambda d: np.ma.masked_less(d, 1)), "depth", "numpy arr"),
    "one NaN": (lambda o: depth(o, put(np.nan)), "depth", "1 of 4096 numbers are NaN"),
    "one infinity": (lambda o: depth(o, put(np.inf)), "depth", "infinite"),
    "a negative infinity": (lambda o: depth(o, put(-np.inf)), "depth", "infinite"),
    "all NaN": (lambda o: depth(o, lambda d: d * np.nan), "depth", "4096 of 4096"),
    "no reading as 0": (lambda o: depth(o, put(0.0)), "depth", "without a reading to 10"),
    "too near": (lambda o: depth(o, put(0.09)), "depth", "within"),
    "too far": (lambda o: depth(o, put(10.001)), "depth", "within"),
    "millimetres as floats": (lambda o: depth(o, lambda d: 1e3 * d), "depth", "unit (m)"),
    "the largest number": (lambda o: depth(o, put(3.4e38)), "depth", "within"),
    "a negative distance": (lambda o: goal(o, f32(-0.1, 0.0)), "pointgoal", "within"),
    "degrees": (lambda o: goal(o, f32(2.0, 90.0)), "pointgoal", "within"),
    "an angle below -pi": (lambda o: goal(o, f32(2.0, -3.2)), "pointgoal", "within"),
    "a NaN goal": (lambda o: goal(o, f32(np.nan, 0.0)), "pointgoal", "NaN"),
    "a NaN angle": (lambda o: goal(o, f32(1.0, np.nan)), "pointgoal", "NaN"),
    "an infinite goal": (lambda o: goal(o, f32(np.inf, 0.0)), "pointgoal", "infinite"),
    "a Cartesian goal": (lambda o: goal(o, f32(1.0, 2.0, 0.0)), "pointgoal", "shape"),
    "a goal in a column": (lambda o: goal(o, f32(1.0, 2.0)[:, None]), "pointgoal", "shape"),
    "a tuple": (lambda o: goal(o, (1.0, 2.0)), "pointgoal", "numpy array"),
    "a float64 goal": (lambda o: goal(o, np.array([1.0, 0.0])), "pointgoal", "float32"),
    "swapped inputs": (
        lambda o: {"depth": o["pointgoal"], "pointgoal": o["depth"]},
        "depth",
        "shape",
    ),
}


def snapshot(policy: Policy) -> tuple[Any, ...]:
    """Everything that the next action depends on."""
    memory = {name: value.copy() for name, value in policy._memory.items()}
    assert policy._noise is not None
    pending = None if policy._drawn is None else {k: v.copy() for k, v in policy._drawn.items()}
    return memory, policy._is_first, policy._noise._draws.state["state"], pending


@pytest.mark.parametrize("started", [False, True], ids=["at the start", "under way"])
@pytest.mark.parametrize("name", CASES)
def test_a_bad_observation_is_refused_and_changes_nothing(
    policy: Policy, name: str, started: bool
) -> None:
    good = frames(policy.spec, 3)
    spoil, key, reason = CASES[name]
    if started:
        policy.act(good[0])
    twin = policy.fork(0)
    if started:
        twin.act(good[0])
    before = snapshot(policy)
    with np.errstate(all="ignore"):
        handed = spoil(good[1])
    with pytest.raises(ObservationError) as caught:
        policy.act(handed)
    assert caught.value.key == key
    assert reason in caught.value.reason
    assert isinstance(caught.value, PolicyError)
    np.testing.assert_equal(snapshot(policy), before)
    for frame in good[1:]:
        assert_same(policy.act(frame), twin.act(frame))


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 30


# -- what is allowed -----------------------------------------------------------------------------

ALLOWED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "read-only": lambda d: np.frombuffer(d.tobytes(), np.float32).reshape(d.shape),
    "not contiguous": lambda d: np.concatenate([d, d], 2)[..., :1],
    "Fortran order": np.asfortranarray,
    "negative strides": lambda d: d[::-1].copy()[::-1],
    "a subclass": lambda d: d.view(np.memmap),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_the_layout_in_memory_is_the_callers_business(policy: Policy, name: str) -> None:
    (frame,) = frames(policy.spec, 1)
    expected = policy.fork(0).act(frame)
    given = ALLOWED[name](frame["depth"].copy())
    if name == "not contiguous":
        assert not given.flags["C_CONTIGUOUS"]
    assert_same(policy.act({**frame, "depth": given}), expected)


def test_the_bounds_themselves_are_allowed(policy: Policy) -> None:
    pi = np.float32(np.pi)  # more than pi
    near = np.full((64, 64, 1), 0.1, np.float32)
    policy.act({"depth": near, "pointgoal": f32(0.0, pi)})
    policy.act({"depth": np.full_like(near, 10.0), "pointgoal": f32(1e6, -pi)})


@pytest.mark.parametrize("bound", [0.1, 0.7])
def test_a_bound_is_the_nearest_number_that_the_observation_can_hold(bound: float) -> None:
    """0.1 as float32 is more than 0.1, 0.7 less: neither sensor value is beyond the bound."""
    for shape in ((2, 2, 1), (1,)):
        spec = Observation("x", "float32", shape, "image", (-bound,), (bound,))
        check = ObservationCheck((spec,))
        for value in (bound, -bound):
            assert check({"x": np.full(shape, value, np.float32)})["x"].shape == (1, *shape)
            beyond = np.nextafter(np.float32(value), np.float32(2 * value), dtype=np.float32)
            with pytest.raises(ObservationError, match="within"):
                check({"x": np.full(shape, beyond, np.float32)})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(2, 2, 1), (3,)])
def test_without_bounds_a_number_must_still_be_finite(value: float, shape: tuple[int, ...]) -> None:
    count = 1 if len(shape) == 3 else 3
    spec = Observation("x", "float32", shape, "image", (None,) * count, (None,) * count)
    array = np.zeros(shape, np.float32)
    most = np.finfo(np.float32).max
    ObservationCheck((spec,))({"x": array + most})
    ObservationCheck((spec,))({"x": array - most})
    array.ravel()[-1] = value
    with pytest.raises(ObservationError, match="NaN or infinite"):
        ObservationCheck((spec,))({"x": array})


def test_a_buffer_that_is_overwritten_later_does_no_harm(policy: Policy) -> None:
    first, second = frames(policy.spec, 2)
    buffer = {k: v.copy() for k, v in first.items()}
    twin = policy.fork(0)
    policy.act(buffer)
    for value in buffer.values():
        value.fill(np.nan)
    twin.act(first)
    assert_same(policy.act(second), twin.act(second))


def test_uint8_pictures_have_their_own_mistakes() -> None:
    specs = contract_of("dmc vision").observations
    image = np.zeros((64, 64, 3), np.uint8)
    assert ObservationCheck(specs)({"image": image})["image"].shape == (1, 64, 64, 3)
    for wrong in (image.astype(np.float32) / 255, image[..., :1], image.astype(np.int8)):
        with pytest.raises(ObservationError):
            ObservationCheck(specs)({"image": wrong})


def test_what_was_checked_is_a_copy_that_no_driver_writes_into(policy: Policy) -> None:
    (frame,) = frames(policy.spec, 1)
    checked = ObservationCheck(policy.spec.observations)(frame)
    assert not any(np.shares_memory(checked[name], frame[name]) for name in frame)
