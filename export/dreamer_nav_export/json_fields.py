"""Frozen dataclasses to JSON values and back, strictly: what does not fit the types is refused with its place."""

from __future__ import annotations

import math
import typing
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Dict, Union

from dreamer_nav_export.errors import ContractError

__all__ = ["from_json", "to_json"]

_JSON = (dict, list, str, int, float, bool, type(None))


def to_json(value: Any) -> Any:
    """A dataclass, tuple or plain value as JSON values; numbers must be finite."""
    if is_dataclass(value):
        return {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if isinstance(value, dict):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("JSON has no {}".format(value))
    if not isinstance(value, _JSON):
        raise TypeError("{!r} is not a JSON value".format(value))
    return value


def from_json(kind: Any, value: Any, where: str) -> Any:
    """An object of type `kind`; `where` names the place in messages.

    Raises:
        ContractError: a missing or unknown key, or a value of another type.
    """
    origin = typing.get_origin(kind)
    if is_dataclass(kind):
        return _object(kind, value, where)
    if origin is Union:
        if value is None:
            return None
        (inner,) = (a for a in typing.get_args(kind) if a is not type(None))
        return from_json(inner, value, where)
    if origin is tuple:
        _expect(isinstance(value, list), "a list", value, where)
        inner = typing.get_args(kind)[0]
        return tuple(from_json(inner, v, "{}[{}]".format(where, i)) for i, v in enumerate(value))
    if origin is dict:
        _expect(isinstance(value, dict), "an object", value, where)
        inner = typing.get_args(kind)[1]
        return {k: from_json(inner, v, "{}.{}".format(where, k)) for k, v in value.items()}
    return _plain(kind, value, where)


def _object(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), "an object", value, where)
    types = typing.get_type_hints(kind)
    declared = {f.name: f for f in fields(kind)}
    unknown = sorted(set(value) - set(declared))
    if unknown:
        raise ContractError("{}: unknown key {!r}".format(where, unknown[0]))
    arguments: Dict[str, Any] = {}
    for name, declaration in declared.items():
        if name in value:
            arguments[name] = from_json(types[name], value[name], "{}.{}".format(where, name))
        elif declaration.default is MISSING and declaration.default_factory is MISSING:
            raise ContractError("{}: {!r} is missing".format(where, name))
    return kind(**arguments)


def _plain(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    is_bool = isinstance(value, bool)
    if kind is float:
        _expect(isinstance(value, (int, float)) and not is_bool, "a number", value, where)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        _expect(math.isfinite(number), "a finite number", value, where)
        return number
    if kind is int:
        _expect(isinstance(value, int) and not is_bool, "an integer", value, where)
    else:
        _expect(isinstance(value, kind), "of type {}".format(kind.__name__), value, where)
    return value


def _expect(condition: bool, what: str, value: Any, where: str) -> None:
    if not condition:
        raise ContractError("{} must be {}, got {:.80}".format(where, what, repr(value)))
