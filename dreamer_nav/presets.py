"""Configurations from presets: YAML files and dotted overrides stacked on the schema's defaults."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from dreamer_nav.atomic import write_atomic
from dreamer_nav.config import Config
from dreamer_nav.limits import check_limits
from dreamer_nav.settings import (
    ConfigError,
    Setting,
    convert,
    find_setting,
    flatten_fields,
    free_mapping_of,
    nearest,
    section_types,
    unknown_setting,
)

__all__ = [
    "DEFAULT_PRESET",
    "ConfigError",
    "Setting",
    "changed_settings",
    "flatten_fields",
    "from_dict",
    "load_config",
    "load_yaml",
    "override",
    "preset_names",
    "save_yaml",
    "to_dict",
]

DEFAULT_PRESET = "pointgoal_room"
_DIGITS = r"(0|[1-9][\d_]*)"
_FLOAT = (
    rf"[-+]?({_DIGITS}\.[\d_]*|\.\d[\d_]*)(e[-+]?\d+)?|[-+]?{_DIGITS}e[-+]?\d+|[-+]?\.inf|\.nan"
)


# PyYAML reads YAML 1.1, where 1e-3 is text, `off` is false, 010 is eight and 1:30 is ninety.
class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either version of YAML would not read back as the same text."""


_PLAIN = {
    "bool": (re.compile(r"true|false", re.I), "tTfF"),
    "int": (re.compile(rf"[-+]?{_DIGITS}"), "-+0123456789"),
    "float": (re.compile(_FLOAT, re.I), "-+0123456789."),
    "null": (re.compile(r"~|null|", re.I), ["~", "n", "N", ""]),
}
for _name, (_pattern, _first) in _PLAIN.items():
    _whole = re.compile(rf"(?:{_pattern.pattern})\Z", _pattern.flags)
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _whole, list(_first))
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _whole, list(_first))


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [key.value for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{key}' appears twice", node.start_mark
            )
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def load_config(
    preset: str | None = None, overrides: Mapping[str, Any] | Sequence[str] = ()
) -> Config:
    """The configuration of a preset, with overrides on top, checked.

    Args:
        preset: a name (`pointgoal_room`), a path to a YAML file, or None for the defaults alone.
        overrides: dotted names to values, or command-line words: `agent.rssm.deter=200`,
            `--agent.rssm.deter=200`, or `--agent.rssm.deter` and `200`.

    Raises:
        ConfigError: unknown preset, unknown setting, or a value that is not allowed.
    """
    tree = to_dict(Config())
    for path in _preset_files(preset):
        tree = _stack(tree, _read_layer(path), f"{path}: ")
    return _apply(tree, overrides)


def override(config: Config, overrides: Mapping[str, Any] | Sequence[str]) -> Config:
    """`config` with dotted overrides on top, checked; see `load_config`."""
    return _apply(to_dict(config), overrides)


def _apply(tree: dict[str, Any], overrides: Mapping[str, Any] | Sequence[str]) -> Config:
    pairs = overrides.items() if isinstance(overrides, Mapping) else _pairs(overrides)
    layer: dict[str, Any] = {}
    for name, value in pairs:
        _put(layer, name, _read_value(name, value))
    return _checked(_stack(tree, layer, ""))


def to_dict(config: Config) -> dict[str, Any]:
    """Nested plain dictionaries and lists, as YAML holds them."""
    return _plain(config)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def from_dict(tree: Mapping[str, Any]) -> Config:
    """The configuration of nested dictionaries; what is absent keeps its default.

    Raises:
        ConfigError: unknown setting, or a value that is not allowed.
    """
    return _checked(_stack(to_dict(Config()), tree, ""))


def save_yaml(config: Config, path: Path) -> None:
    """Write every setting to a file that `load_yaml` reads back as the same configuration."""
    text = yaml.dump(to_dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    write_atomic(Path(path), text.encode())


def load_yaml(path: Path) -> Config:
    """The configuration in a file; what the file does not name keeps its default.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds settings that are not allowed.
    """
    tree = _read_yaml(Path(path))
    try:
        return from_dict(tree)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def changed_settings(before: Config, after: Config) -> list[tuple[str, Any, Any]]:
    """Dotted name, value before and value after, of every setting that differs."""
    pairs = zip(flatten_fields(before), flatten_fields(after), strict=True)
    return [(a.name, a.default, b.default) for a, b in pairs if a.default != b.default]


def preset_names() -> list[str]:
    """Names of the presets that ship with the package."""
    return sorted(path.stem for path in _presets_folder().glob("*.yaml"))


def _presets_folder() -> Path:
    """Package data in a wheel; the repository's configs/ in a checkout."""
    packaged = Path(__file__).parent / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "configs"


def _preset_files(preset: str | None) -> list[Path]:
    """The preset's file after those it is based on, in the order they are stacked."""
    files: list[Path] = []
    folder = Path()
    while preset is not None:
        path = _preset_path(preset, folder)
        if path in files:
            raise ConfigError(f"{path}: the preset is based on itself ({_chain(files, path)})")
        files.append(path)
        folder, preset = path.parent, _read_base(path)
    return files[::-1]


def _chain(files: list[Path], again: Path) -> str:
    return " -> ".join(p.stem for p in [*files, again])


def _preset_path(preset: str, folder: Path) -> Path:
    if preset.endswith((".yaml", ".yml")) or "/" in preset:
        path = (folder / Path(preset).expanduser()).resolve()
        if not path.is_file():
            raise ConfigError(f"there is no preset file {path}")
        return path
    names = preset_names()
    if preset not in names:
        close = nearest(preset, names)
        hint = f" Did you mean '{close}'?" if close else ""
        known = ", ".join(names)
        raise ConfigError(f"Unknown preset '{preset}'.{hint} Presets: {known}, or a .yaml file")
    return _presets_folder() / f"{preset}.yaml"


def _read_base(path: Path) -> str | None:
    base = _read_yaml(path).get("base")
    if base is not None and not isinstance(base, str):
        raise ConfigError(f"{path}: 'base' must name a preset, got {base!r}")
    return base


def _read_layer(path: Path) -> dict[str, Any]:
    return {key: value for key, value in _read_yaml(path).items() if key != "base"}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {_yaml_problem(error)}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold settings as `name: value`, got {tree!r}")
    return tree


def _yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"{problem} (line {mark.line + 1})" if mark else problem


def _pairs(words: Sequence[str]) -> Iterable[tuple[str, Any]]:
    """Names and values of command-line words."""
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if equals:
            yield name, value
        elif word.startswith("--") and waiting and not waiting[0].startswith("--"):
            yield name, waiting.pop(0)
        elif (setting := find_setting(name)) is not None and setting.type is bool:
            yield name, True  # `--compile` alone
        else:
            raise ConfigError(f"'{word}' needs a value: --{name} VALUE")


def _read_value(name: str, value: Any) -> Any:
    """A command-line word as YAML where the schema leaves the type open."""
    mapping = free_mapping_of(name)
    whole = find_setting(name)
    is_mapping = whole is not None and isinstance(whole.default, dict)
    if not isinstance(value, str) or (mapping is None and not is_mapping):
        return value
    try:
        return yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"'{name}': {value!r} is not YAML: {_yaml_problem(error)}") from error


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    """Set a dotted name in nested dictionaries."""
    *sections, last = name.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"'{name}' does not fit beside a value given for '{section}'")
    if isinstance(value, dict) and isinstance(tree.get(last), dict):
        value = _merged(tree[last], value)
    tree[last] = value


def _stack(tree: dict[str, Any], layer: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`tree` with a layer of settings on top, every one of them converted to its type."""
    nested: dict[str, Any] = {}
    try:
        for key, value in layer.items():
            _put(nested, str(key), value)  # `agent.rssm.deter: 200` works in a file too
        return _stack_section(Config, _without_other_env(tree, nested), nested, "")
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from error


def _without_other_env(tree: dict[str, Any], layer: dict[str, Any]) -> dict[str, Any]:
    """Options of one environment mean nothing to another: a layer that names another drops them."""
    env = layer.get("env")
    if not isinstance(env, dict) or env.get("name", tree["env"]["name"]) == tree["env"]["name"]:
        return tree
    return {**tree, "env": {}, "eval": {**tree["eval"], "env": {}}}


def _stack_section(
    section: type, tree: dict[str, Any], layer: Mapping[str, Any], prefix: str
) -> dict[str, Any]:
    result, types = dict(tree), section_types(section)
    for key, value in layer.items():
        name = f"{prefix}{key}"
        if key not in types:
            raise unknown_setting(_first_leaf(name, value))
        if is_dataclass(types[key]):
            result[key] = _stack_section(types[key], tree[key], _section(name, value), f"{name}.")
        else:
            converted = _plain(convert(name, types[key], value))
            is_mapping = isinstance(converted, dict)
            result[key] = _merged(tree[key], converted) if is_mapping else converted
    return result


def _first_leaf(name: str, value: Any) -> str:
    """The whole name the user wrote, for the message."""
    while isinstance(value, Mapping) and value:
        key, value = next(iter(value.items()))
        name = f"{name}.{key}"
    return name


def _section(name: str, value: Any) -> Mapping[str, Any]:
    if value is None:  # a section whose lines are all comments
        return {}
    if not isinstance(value, Mapping):
        example = next(s.name for s in flatten_fields() if s.name.startswith(f"{name}."))
        raise ConfigError(f"'{name}' is a section, set one of its settings ({example}, ...)")
    return value


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


def _checked(tree: dict[str, Any]) -> Config:
    config = _build(Config, tree, "")
    check_limits(config)
    return config


def _build(section: Any, tree: Mapping[str, Any], prefix: str) -> Any:
    values = {}
    for key, kind in section_types(section).items():
        if is_dataclass(kind):
            values[key] = _build(kind, tree[key], f"{prefix}{key}.")
        else:
            values[key] = convert(f"{prefix}{key}", kind, tree[key])
    return section(**values)
