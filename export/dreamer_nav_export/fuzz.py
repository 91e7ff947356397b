"""Throws broken observations and broken files at the runtime: `python -m dreamer_nav_export.fuzz FILE --minutes 5`.

Every call must either give an action of the contract or raise a `PolicyError`, and after an error the policy must go
on as a twin that never saw the broken observation. A file must load and pass its self-test, or raise a `PolicyError`.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import numpy as np

from dreamer_nav_export.errors import PolicyError
from dreamer_nav_export.golden import NoiseStream, random_observation
from dreamer_nav_export.runtime import Action, Policy

__all__ = ["fuzz", "main"]

Observations = Dict[str, np.ndarray]

# No texts or dates: numpy 1.24 itself crashed in astype while they were among these.
_DTYPES = ["f2", "f4", ">f4", "f8", "u1", "i1", "i4", "i8", "c8", "?", "O"]
_NUMBERS = [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 1e-45, 3.4e38, -3.4e38, 255.0, 1e9]
_JUNK: List[Any] = [None, 0, 1.5, "depth", b"", [], {}, [[1.0]], object(), np.float32(1), float]


def _mutations() -> List[Callable[[random.Random, Any], Any]]:
    def junk(rng: random.Random, value: Any) -> Any:
        return rng.choice(_JUNK)

    def dtype(rng: random.Random, value: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.asarray(value).astype(rng.choice(_DTYPES))

    def number(rng: random.Random, value: Any) -> Any:
        array = np.array(value)
        if array.size and array.dtype.kind in "fc":
            with np.errstate(all="ignore"):
                array.reshape(-1)[rng.randrange(array.size)] = rng.choice(_NUMBERS)
        return array

    def scale(rng: random.Random, value: Any) -> Any:
        array = np.asarray(value)
        if array.dtype.kind != "f":
            return array
        with np.errstate(all="ignore"):
            return (array * array.dtype.type(10.0 ** rng.uniform(-6, 6))).astype(array.dtype)

    def shape(rng: random.Random, value: Any) -> Any:
        array = np.asarray(value)
        axis = rng.randrange(-1, array.ndim) if array.ndim else -1
        options: List[Callable[[], Any]] = [
            lambda: array[None],
            lambda: array[..., None],
            lambda: array.reshape(-1),
            lambda: array.T,
            lambda: array[:0] if array.ndim else array,
            lambda: array.repeat(2, axis) if axis >= 0 else array,
            lambda: array[::-1] if array.ndim else array,
            lambda: np.broadcast_to(array, (2, *array.shape)),
        ]
        return rng.choice(options)()

    def memory(rng: random.Random, value: Any) -> Any:
        array = np.asarray(value)
        if not array.size or array.dtype.kind not in "fu":
            return array
        options: List[Callable[[], Any]] = [
            lambda: np.asfortranarray(array),
            lambda: np.ma.masked_array(array),
            lambda: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
            lambda: (
                np.frombuffer(b"\0" + array.tobytes(), np.uint8)[1:]
                .view(array.dtype)
                .reshape(array.shape)
            ),
        ]
        return rng.choice(options)()

    return [junk, dtype, number, number, scale, shape, memory]


def _spoil(rng: random.Random, good: Mapping[str, Any]) -> Any:
    """An observation after one or more changes; sometimes it is still a good one."""
    spoiled: Any = dict(good)
    mutations = _mutations()
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if rng.random() < 0.05:
            return rng.choice(_JUNK)
        name = rng.choice(sorted(spoiled, key=str)) if spoiled else "none"
        kind = rng.random()
        if kind < 0.05:
            spoiled.pop(name, None)
        elif kind < 0.1:
            spoiled[rng.choice(["x", "", 7, None, "is_first", "deter"])] = spoiled.get(name)
        else:
            # What numpy itself cannot make is left out.
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    spoiled[name] = rng.choice(mutations)(rng, spoiled.get(name))
    return spoiled


def _same(left: Action, right: Action) -> bool:
    return all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        for a, b in zip(vars(left).values(), vars(right).values())
    )


def _fuzz_observations(policy: Policy, rng: random.Random, rounds: int) -> int:
    """Returns the number of refusals."""
    stream = NoiseStream(rng.getrandbits(32))
    seed = rng.getrandbits(32)
    tested, twin = policy.fork(seed), policy.fork(seed)
    refused = 0
    for _ in range(rounds):
        good = {o.name: random_observation(o, stream) for o in policy.spec.observations}
        handed = _spoil(rng, good)
        if rng.random() < 0.02:
            seed = rng.getrandbits(32)
            tested.reset(seed)
            twin.reset(seed)
        try:
            action = tested.act(handed)
        except PolicyError:
            refused += 1
        else:
            if not _same(action, twin.act(handed)):
                raise AssertionError("two policies gave different actions for {!r}".format(handed))
        if not _same(tested.act(good), twin.act(good)):
            raise AssertionError("{!r} changed the state of the policy".format(handed))
    return refused


def _fuzz_file(data: bytes, rng: random.Random, path: Path) -> bool:
    """Returns whether the changed file was refused."""
    spoiled = bytearray(data)
    kind = rng.random()
    if kind < 0.3:
        spoiled = spoiled[: rng.randrange(len(spoiled))]
    elif kind < 0.8:
        # The structure is at both ends; most of the middle is weights.
        ends = [rng.randrange(min(4096, len(spoiled))), len(spoiled) - 1 - rng.randrange(20_000)]
        for _ in range(rng.randrange(1, 20)):
            place = rng.choice([max(0, rng.choice(ends)), rng.randrange(len(spoiled))])
            spoiled[place] ^= 1 << rng.randrange(8)
    else:
        start = rng.randrange(len(spoiled))
        del spoiled[start : start + rng.randrange(1, 64)]
    path.write_bytes(bytes(spoiled))
    try:
        Policy.load(path).selftest()
    except PolicyError:
        return True
    return False


def fuzz(file: Path, seconds: float, seed: int) -> Dict[str, int]:
    """Run until the time is over; counts of what was tried and refused.

    Raises:
        Exception: whatever the runtime let through that is no PolicyError; the seed is in the message of `main`.
    """
    rng = random.Random(seed)
    policy = Policy.load(file)
    data = file.read_bytes()
    counts = {"observations": 0, "refused": 0, "files": 0, "files refused": 0}
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            counts["refused"] += _fuzz_observations(policy, rng, 50)
            counts["observations"] += 50
            for _ in range(2):
                counts["files refused"] += _fuzz_file(data, rng, Path(folder) / "p.onnx")
                counts["files"] += 1
    return counts


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The command line; returns 0, or raises what it found."""
    parser = argparse.ArgumentParser(prog="python -m dreamer_nav_export.fuzz", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    counts = fuzz(args.file, 60 * args.minutes, args.seed)
    print(
        "seed {}: {}".format(args.seed, ", ".join("{} {}".format(v, k) for k, v in counts.items()))
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
