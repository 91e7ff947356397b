"""What crosses the socket between the vector class and a worker.

A frame is two big-endian lengths of four bytes, the JSON texts that have them, and the raw bytes of
every array that the first text announces; the second is the value. They are two because arrays are
alike from step to step: their announcement is then compared, not read. Nothing is pickled: a pickle
written under numpy 2 cannot be read under numpy 1, and reading one executes code. Requests and
replies alternate, so at most one frame is ever on its way.
"""

from __future__ import annotations

import functools
import json
import socket
import struct
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from gymnasium import spaces

MAX_HEADER_BYTES = 16 << 20
MAX_ARRAY_BYTES = 1 << 30
_PREFIX = struct.Struct("!II")
_ARRAY_KEY = "$array"
# bool, integers, floats, complex, bytes, text: kinds whose raw bytes are the whole value.
_RAW_KINDS = frozenset("biufcSU")
_PLAIN = frozenset((bool, int, float, str))
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_DECODER = json.JSONDecoder()

_Layout = List[Tuple[np.dtype, Tuple[int, ...], int]]


class ProtocolError(RuntimeError):
    """The other side sent something that is not a frame."""


def to_plain(tree: Any, where: Any = "value", arrays: Optional[List[np.ndarray]] = None) -> Any:
    """`tree` with numpy scalars as Python ones and tuples as lists; arrays stay arrays.

    This is what a value looks like after it crossed the socket, so the in-process mode applies it
    too.

    Args:
        tree: nested dicts, lists and tuples of plain values and arrays.
        where: its name in messages, or (the name of what it is in, its key), put together on need.
        arrays: if given, arrays are appended to it and leave their number behind.

    Raises:
        TypeError: something inside is neither a plain value nor an array; the message names the
            place.
    """
    if tree is None or type(tree) in _PLAIN:
        return tree
    if isinstance(tree, np.ndarray):
        if tree.dtype.kind not in _RAW_KINDS:
            raise TypeError(
                f"{place(where)} is an array of dtype {tree.dtype}; use numbers, bool or text."
            )
        if arrays is None:
            return tree
        arrays.append(np.asarray(tree, order="C"))
        return {_ARRAY_KEY: len(arrays) - 1}
    if isinstance(tree, dict):
        return {_checked_key(k, where): to_plain(v, (where, k), arrays) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [to_plain(v, (where, i), arrays) for i, v in enumerate(tree)]
    if isinstance(tree, np.generic):
        return to_plain(tree.item(), where, arrays)
    if isinstance(tree, (bool, int, float, str)):
        return tree
    raise TypeError(
        f"{place(where)} is a {type(tree).__name__}, which cannot cross to another process. "
        "Use numbers, text, None, lists, dicts with text keys, or numpy arrays."
    )


def place(where: Any) -> str:
    """The name of a place within a tree, as `to_plain` takes it."""
    return f"{place(where[0])}[{where[1]!r}]" if isinstance(where, tuple) else str(where)


def _checked_key(key: Any, where: Any) -> str:
    if not isinstance(key, str) or key == _ARRAY_KEY:
        raise TypeError(
            f"{place(where)} has the key {key!r}; keys must be text, and not {_ARRAY_KEY!r}."
        )
    return key


def _insert_arrays(tree: Any, arrays: List[np.ndarray]) -> Any:
    if isinstance(tree, dict):
        if len(tree) == 1 and _ARRAY_KEY in tree:
            return arrays[tree[_ARRAY_KEY]]
        return {
            k: _insert_arrays(v, arrays) if isinstance(v, (dict, list)) else v
            for k, v in tree.items()
        }
    if isinstance(tree, list):
        return [_insert_arrays(v, arrays) for v in tree]
    return tree


def pack(tree: Any) -> List[Any]:
    """The frame of `tree` as buffers to send one after the other."""
    arrays: List[np.ndarray] = []
    body = _ENCODER.encode(to_plain(tree, arrays=arrays)).encode()
    announced = _announcement(tuple([(a.dtype, a.shape) for a in arrays]))
    if len(announced) + len(body) > MAX_HEADER_BYTES:
        size = len(announced) + len(body)
        raise ProtocolError(f"A message of {size} JSON bytes; at most {MAX_HEADER_BYTES}.")
    if sum([a.nbytes for a in arrays]) > MAX_ARRAY_BYTES:
        raise ProtocolError(f"A message with arrays of more than {MAX_ARRAY_BYTES} bytes.")
    head = _PREFIX.pack(len(announced), len(body)) + announced + body
    return [head, *[a for a in arrays if a.nbytes]]


@functools.lru_cache(maxsize=64)
def _announcement(arrays: Tuple[Tuple[np.dtype, Tuple[int, ...]], ...]) -> bytes:
    return _ENCODER.encode([[dtype.str, list(shape)] for dtype, shape in arrays]).encode()


def _checked_layout(announced: Any) -> _Layout:
    layout = []
    for dtype_text, shape in announced:
        dtype = np.dtype(str(dtype_text))
        if dtype.kind not in _RAW_KINDS or dtype.hasobject:
            raise ProtocolError(f"An array of dtype {dtype_text!r} was announced.")
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ProtocolError(f"An array of shape {shape!r} was announced.")
        size = dtype.itemsize
        for n in shape:
            size *= n
        layout.append((dtype, tuple(shape), size))
    if sum(size for _, _, size in layout) > MAX_ARRAY_BYTES:
        raise ProtocolError(f"Arrays of more than {MAX_ARRAY_BYTES} bytes were announced.")
    return layout


class Channel:
    """One end of the socket. After a timeout `receive` may be called again, and goes on."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = memoryview(bytearray(1 << 17))
        self._filled = 0
        self._announced = b""  # what `_layout` was made of: frames are mostly alike
        self._layout: _Layout = []
        self._body: Any = None
        self._has_header = False
        self._payload_start = 0
        self._frame_size = _PREFIX.size

    def _set_timeout(self, timeout_s: Optional[float]) -> None:
        if timeout_s != self._sock.gettimeout():  # setting it costs a system call
            self._sock.settimeout(timeout_s)

    def close(self) -> None:
        """Closes the socket; a second call does nothing."""
        self._sock.close()

    def send(self, tree: Any, timeout_s: Optional[float] = None) -> None:
        """Sends `tree` whole. Raises TimeoutError, or OSError when the other side is gone."""
        self.send_buffers(pack(tree), timeout_s)

    def send_buffers(self, buffers: List[Any], timeout_s: Optional[float] = None) -> None:
        """Sends what `pack` returned."""
        try:
            # Without waiting, for a request fits: a timeout of its own would cost system calls.
            sent = self._sock.sendmsg(buffers[:64], (), socket.MSG_DONTWAIT)
        except (BlockingIOError, socket.timeout):  # noqa: UP041
            sent = 0
        try:
            for buffer in buffers:
                size = memoryview(buffer).nbytes
                if sent < size:
                    self._set_timeout(timeout_s)
                    self._sock.sendall(np.frombuffer(buffer, np.uint8)[sent:].data)
                sent = max(0, sent - size)
        except socket.timeout as err:  # noqa: UP041  not yet TimeoutError in Python 3.8
            raise TimeoutError("The worker does not read what it is sent.") from err

    def receive(self, timeout_s: Optional[float] = None) -> Any:
        """The next tree. Raises TimeoutError, EOFError (the other side is gone), ProtocolError."""
        self._set_timeout(timeout_s)
        while not self._is_complete():
            self._reserve(self._frame_size)
            try:
                count = self._sock.recv_into(self._buffer[self._filled :])
            except socket.timeout as err:  # noqa: UP041  not yet TimeoutError in Python 3.8
                raise TimeoutError("No answer yet.") from err
            except ConnectionError as err:
                raise EOFError("The connection broke.") from err
            if count == 0:
                raise EOFError("The other side closed the connection.")
            self._filled += count
        return self._take()

    def _is_complete(self) -> bool:
        if not self._has_header and self._filled >= _PREFIX.size:
            announced_size, body_size = _PREFIX.unpack_from(self._buffer)
            size = announced_size + body_size
            if size > MAX_HEADER_BYTES:
                raise ProtocolError(f"A header of {size} bytes; at most {MAX_HEADER_BYTES}.")
            self._payload_start = self._frame_size = _PREFIX.size + size
            if self._filled >= self._payload_start:
                self._read_header(_PREFIX.size + announced_size)
        if self._has_header and self._filled > self._frame_size:
            raise ProtocolError(f"{self._filled - self._frame_size} bytes follow the frame.")
        return self._has_header and self._filled == self._frame_size

    def _read_header(self, body_start: int) -> None:
        announced = self._buffer[_PREFIX.size : body_start].tobytes()
        body = self._buffer[body_start : self._payload_start].tobytes()
        try:
            if announced != self._announced:
                self._layout = _checked_layout(_DECODER.decode(announced.decode()))
                self._announced = announced
            self._body = _DECODER.decode(body.decode())
        except (ValueError, TypeError) as err:
            text = announced[:80] + body[:80]
            raise ProtocolError(f"A header that cannot be read: {text!r}") from err
        self._frame_size = self._payload_start + sum([size for _, _, size in self._layout])
        self._has_header = True

    def _reserve(self, size: int) -> None:
        if len(self._buffer) < size:
            larger = memoryview(bytearray(size))
            larger[: self._filled] = self._buffer[: self._filled]
            self._buffer = larger

    def _take(self) -> Any:
        arrays, offset = [], self._payload_start
        for dtype, shape, size in self._layout:
            # The buffer serves the next frame too: the arrays are copies.
            arrays.append(np.ndarray(shape, dtype, self._buffer, offset if size else 0).copy())
            offset += size
        body, self._body = self._body, None
        self._has_header, self._filled, self._frame_size = False, 0, _PREFIX.size
        try:
            return _insert_arrays(body, arrays)
        except (IndexError, TypeError) as err:
            raise ProtocolError("The header refers to an array that it did not announce.") from err


def describe_space(space: spaces.Space) -> Dict[str, Any]:
    """`space` as a tree that `build_space` turns back into an equal space on the other side."""
    if isinstance(space, spaces.Box):
        return {"type": "Box", "low": space.low, "high": space.high, "dtype": space.dtype.str}
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"type": "MultiDiscrete", "nvec": space.nvec, "dtype": space.dtype.str}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "shape": list(space.shape)}
    if isinstance(space, spaces.Dict):
        # Pairs, because the order of the keys is part of the space.
        return {"type": "Dict", "spaces": [[k, describe_space(v)] for k, v in space.spaces.items()]}
    raise TypeError(
        f"A {type(space).__name__} space cannot cross to another process. "
        "Use Box, Discrete, MultiDiscrete, MultiBinary or a Dict of them."
    )


def build_space(description: Dict[str, Any]) -> spaces.Space:
    """The space that `describe_space` described."""
    kind = description["type"]
    if kind == "Box":
        dtype = np.dtype(description["dtype"]).type
        return spaces.Box(description["low"], description["high"], dtype=dtype)
    if kind == "Discrete":
        return spaces.Discrete(description["n"], start=description["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(description["nvec"], dtype=np.dtype(description["dtype"]).type)
    if kind == "MultiBinary":
        return spaces.MultiBinary(description["shape"])
    if kind == "Dict":
        return spaces.Dict([(k, build_space(v)) for k, v in description["spaces"]])
    raise ProtocolError(f"Unknown space type {kind!r}.")
