"""Frames and space descriptions of the worker protocol."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from sim_adapters import wire


@pytest.fixture
def ends() -> Iterator[tuple[wire.Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield wire.Channel(ours), theirs
    ours.close()
    theirs.close()


def frame(arrays: Any, body: Any, raw: bytes = b"") -> bytes:
    texts = [t if isinstance(t, bytes) else json.dumps(t).encode() for t in (arrays, body)]
    return struct.pack("!II", *map(len, texts)) + b"".join(texts) + raw


def crossed(tree: Any) -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=wire.Channel(ours).send, args=(tree,))
        sender.start()
        received = wire.Channel(theirs).receive(10)
        sender.join()
    return received


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int64", ">i2", "float16", "float32", "float64", "complex64", "<U5"]
)
def test_arrays_of_every_plain_dtype_cross_unchanged(dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    received = crossed({"a": [array, {"b": array[:, ::2]}]})
    for sent, got in ((array, received["a"][0]), (array[:, ::2], received["a"][1]["b"])):
        assert got.dtype == sent.dtype
        assert got.flags.writeable
        np.testing.assert_array_equal(got, sent)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,)])
def test_arrays_without_axes_or_elements_keep_their_shape(shape: tuple[int, ...]) -> None:
    received = crossed(np.full(shape, 7, np.int32))
    assert received.shape == shape
    assert received.dtype == np.int32
    assert (received == 7).all()


def test_numbers_cross_exactly() -> None:
    tree = {
        "third": 1 / 3,
        "tiny": 5e-324,
        "inf": -np.inf,
        "big": 2**127 + 1,
        "text": "\u20ac \ud800",
    }
    assert crossed(tree) == tree
    assert np.isnan(crossed(float("nan")))
    assert crossed((np.float32(0.1), np.bool_(True), None)) == [float(np.float32(0.1)), True, None]


def test_an_array_larger_than_the_socket_buffer_crosses_whole() -> None:
    array = np.random.default_rng(0).random((1000, 1000))
    np.testing.assert_array_equal(crossed(array), array)


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ({"a": {"b": object()}}, r"value\['a'\]\['b'\] is a object"),
        ([1, {2}], r"value\[1\] is a set"),
        ({"a": np.array([None])}, r"value\['a'\] is an array of dtype object"),
        ({1: 2}, "key 1"),
        ({"$array": 0}, "key"),
    ],
)
def test_what_cannot_cross_is_named_with_its_place(tree: Any, place: str) -> None:
    with pytest.raises(TypeError, match=place):
        wire.pack(tree)


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack("!II", wire.MAX_HEADER_BYTES, 1),
        frame(b"not json", 1),
        frame([], b"not json"),
        frame([], b"\xff"),
        frame(1, 1),
        frame([["<f4"]], 1),
        frame([["|O", [1]]], 1, b"\0" * 8),
        frame([["<f4", [-1]]], 1),
        frame([["<f4", [1.5]]], 1),
        frame([["<f8", [1 << 40]]], 1),
        frame([["no dtype", [1]]], 1),
        frame([], {"$array": 3}),
        frame([], {"$array": "x"}),
        frame([], 1, b"and more"),
    ],
)
def test_a_malformed_frame_is_refused(
    ends: tuple[wire.Channel, socket.socket], sent: bytes
) -> None:
    channel, other = ends
    other.sendall(sent)
    with pytest.raises(wire.ProtocolError):
        channel.receive(5)


def test_arrays_follow_what_each_frame_announces(
    ends: tuple[wire.Channel, socket.socket],
) -> None:
    channel, other = ends
    sent = [np.arange(6, dtype="<i2").reshape(2, 3), np.arange(6, dtype="<i2").reshape(3, 2)]
    kept = []
    for array in (*sent, sent[0] + 9, np.arange(3.0), sent[1]):
        for part in wire.pack([array]):
            other.sendall(part)
        kept.append((array, channel.receive(1)[0]))
    for array, got in kept:  # the buffer was written again since
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)


def test_a_frame_that_fills_the_buffer_may_end_with_an_empty_array(
    ends: tuple[wire.Channel, socket.socket],
) -> None:
    channel, other = ends
    tree = [np.zeros(1 << 17, np.uint8), np.zeros((0, 3), np.float32)]
    sender = threading.Thread(target=wire.Channel(other).send, args=(tree,))
    sender.start()
    assert [a.shape for a in channel.receive(10)] == [(1 << 17,), (0, 3)]
    sender.join()


def test_a_reader_that_does_not_read_is_a_timeout(
    ends: tuple[wire.Channel, socket.socket],
) -> None:
    channel, _ = ends
    for _ in range(2):  # the second time not a byte fits
        with pytest.raises(TimeoutError, match="does not read"):
            channel.send(np.zeros(1 << 22), 0.1)


def test_a_receive_that_timed_out_goes_on_where_it_stopped(
    ends: tuple[wire.Channel, socket.socket],
) -> None:
    channel, other = ends
    array = np.arange(5000)
    message = b"".join(bytes(part) for part in wire.pack({"a": array}))
    for start, end in ((0, 3), (3, 20), (20, 900), (900, len(message) - 1)):
        other.sendall(message[start:end])
        with pytest.raises(TimeoutError):
            channel.receive(0.01)
    other.sendall(message[-1:])
    np.testing.assert_array_equal(channel.receive(1)["a"], array)


def test_the_end_of_the_stream_is_an_error(ends: tuple[wire.Channel, socket.socket]) -> None:
    channel, other = ends
    other.sendall(frame([], 1)[:-1])
    other.close()
    with pytest.raises(EOFError):
        channel.receive(1)


def test_spaces_are_equal_after_crossing() -> None:
    space = spaces.Dict(
        {
            "z": spaces.Box(np.array([-1.0, -np.inf]), np.array([0.5, np.inf]), dtype=np.float64),
            "a": spaces.Box(0, 255, (4, 4, 3), np.uint8),
            "n": spaces.Dict({"d": spaces.Discrete(5, start=-2), "b": spaces.MultiBinary((2, 3))}),
            "m": spaces.MultiDiscrete([3, 4]),
        }
    )
    built = wire.build_space(crossed(wire.describe_space(space)))
    assert built == space
    assert isinstance(built, spaces.Dict)
    assert list(built.spaces) == list(space.spaces)


def test_a_space_that_cannot_be_described_says_what_can() -> None:
    with pytest.raises(TypeError, match=r"Text space.*Use Box"):
        wire.describe_space(spaces.Text(3))
