"""Single settings: their dotted names, their types, and turning what a user wrote into a value."""

from __future__ import annotations

import difflib
import math
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, NamedTuple

from dreamer_nav.config import Config

__all__ = [
    "ConfigError",
    "Setting",
    "convert",
    "find_setting",
    "flatten_fields",
    "free_mapping_of",
    "nearest",
    "section_types",
    "type_text",
    "unknown_setting",
]

_INTEGER = re.compile(r"[+-]?\d[\d_]*")


class ConfigError(ValueError):
    """A setting, preset or configuration file that cannot be used; one sentence for the user."""


class Setting(NamedTuple):
    """One leaf of the schema: dotted name, type, default and help text."""

    name: str
    type: Any
    default: Any
    help: str


def section_types(section: type) -> dict[str, Any]:
    """The fields of a section (a dataclass of the schema) and their types, in order."""
    hints = typing.get_type_hints(section)
    return {f.name: hints[f.name] for f in fields(section)}


def flatten_fields(config: Config | None = None) -> list[Setting]:
    """Every setting in the schema's order, with its value in `config` (None: the default)."""
    return list(_flatten(config or Config(), ""))


def _flatten(section: Any, prefix: str) -> Iterable[Setting]:
    hints = section_types(type(section))
    for f in fields(section):
        name, value = prefix + f.name, getattr(section, f.name)
        if is_dataclass(value):
            yield from _flatten(value, f"{name}.")
        else:
            yield Setting(name, hints[f.name], value, f.metadata["help"])


def find_setting(name: str) -> Setting | None:
    """The setting of this dotted name; None if it is a section, a free key or unknown."""
    return next((s for s in flatten_fields() if s.name == name), None)


def free_mapping_of(name: str) -> Setting | None:
    """The mapping setting that `name` lies in ("env" for "env.tier"), if any."""
    for setting in flatten_fields():
        if _is_mapping(setting.type) and name.startswith(f"{setting.name}."):
            return setting
    return None


def _is_mapping(kind: Any) -> bool:
    return typing.get_origin(kind) is dict


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None if none is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return close[0] if close else None


def unknown_setting(name: str) -> ConfigError:
    """The error for a dotted name that the schema does not have, with the nearest one it has."""
    names = [s.name for s in flatten_fields()]
    last = name.rpartition(".")[2]
    # `--steps` or `--agent.deter`: the right last word under the wrong section.
    same_last = [n for n in names if n.rpartition(".")[2] == last]
    if same_last:
        return ConfigError(f"Unknown setting '{name}'. Did you mean {_or(same_last)}?")
    close = nearest(name, names)
    if close is None:
        lasts = {n.rpartition(".")[2]: n for n in names}
        close_last = nearest(last, lasts)
        close = lasts[close_last] if close_last else None
    if close:
        return ConfigError(f"Unknown setting '{name}'. Did you mean '{close}'?")
    return ConfigError(f"Unknown setting '{name}'; `dreamer-nav train --help` lists them all")


def _or(names: list[str]) -> str:
    quoted = [f"'{n}'" for n in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def type_text(kind: Any) -> str:
    """A type as the help shows it: INT, FLOAT, true|false, TEXT, a|b, A,B or MAPPING."""
    if typing.get_origin(kind) is Literal:
        return "|".join(str(a) for a in typing.get_args(kind))
    if _is_mapping(kind):
        return "MAPPING"
    if typing.get_origin(kind) is tuple:
        return "A,B,..."
    return {int: "INT", float: "FLOAT", bool: "true|false", str: "TEXT"}[kind]


def convert(name: str, kind: Any, value: Any) -> Any:
    """`value`, from YAML or a command line, as the type `kind` of setting `name`.

    Raises:
        ConfigError: it is of another type; says what was received and what is allowed.
    """
    if typing.get_origin(kind) is Literal:
        return _to_choice(name, typing.get_args(kind), value)
    if typing.get_origin(kind) is tuple:
        return _to_names(name, value)
    if _is_mapping(kind):
        return _to_mapping(name, typing.get_args(kind)[1], value)
    return {int: _to_int, float: _to_float, bool: _to_bool, str: _to_str}[kind](name, value)


def _wrong(name: str, expected: str, value: Any) -> ConfigError:
    kind = "nothing" if value is None else f"{value!r} ({type(value).__name__})"
    return ConfigError(f"'{name}' must be {expected}, got {kind}")


def _to_int(name: str, value: Any) -> int:
    expected = "an integer (200, 1e6 and 1_000_000 are fine)"
    if isinstance(value, str):
        if _INTEGER.fullmatch(value):
            return int(value)
        value = _number_or_text(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong(name, expected, value)


def _to_float(name: str, value: Any) -> float:
    if isinstance(value, str):
        value = _number_or_text(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise _wrong(name, "a finite number", value)


def _number_or_text(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def _to_bool(name: str, value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if isinstance(value, bool):
        return value
    raise _wrong(name, "true or false", value)


def _to_str(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _wrong(name, "text", value)


def _to_choice(name: str, allowed: tuple[Any, ...], value: Any) -> Any:
    if value in allowed and isinstance(value, str):
        return value
    close = nearest(str(value), allowed)
    hint = f". Did you mean '{close}'?" if close else ""
    raise ConfigError(f"'{name}' must be one of {', '.join(allowed)}; got {value!r}{hint}")


def _to_names(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.strip("[]").split(",") if part.strip()]
    if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise _wrong(name, "a list of names such as decoder,reward", value)


def _to_mapping(name: str, item: Any, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(name, "a mapping such as {key: value}", value)
    result = {}
    for key, entry in value.items():
        if not isinstance(key, str):
            raise _wrong(f"{name}.{key}", "called by a text key", key)
        to = _to_plain if item is Any else _to_float
        result[key] = to(f"{name}.{key}", entry)
    return result


def _to_plain(name: str, value: Any) -> Any:
    """Check that a free value holds only what YAML, and so config.yaml, can hold."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_to_plain(f"{name}[{i}]", v) for i, v in enumerate(value)]
    if isinstance(value, Mapping):
        return _to_mapping(name, Any, value)
    raise _wrong(name, "text, a number, true, false, a list or a mapping", value)
