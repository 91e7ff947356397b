"""Environments by name: which class, what it needs, and how to install that."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import gymnasium


class SimulatorNotInstalled(ImportError):
    """The module that an environment needs is missing; the message holds the install line."""


class UnknownEnvironment(LookupError):
    """No environment of that name is registered."""


class UnknownOption(TypeError):
    """An environment was given an option that it does not have."""


class MissingOption(TypeError):
    """An environment was not given an option that it cannot do without."""


@dataclass(frozen=True)
class Entry:
    """One registered environment.

    Args:
        entry_point: "module:callable"; its keyword arguments are the environment's options.
        install: the line that installs what it needs.
        description: one line for people.
        requires: top-level modules that must be importable.
    """

    entry_point: str
    install: str
    description: str
    requires: Tuple[str, ...]

    def missing(self) -> Optional[str]:
        """Return the first required module that is not installed, without importing it."""
        for module in self.requires:
            if importlib.util.find_spec(module) is None:
                return module
        return None


class Availability(NamedTuple):
    """Whether an environment can be made here, and if not what to type."""

    name: str
    installed: bool
    missing: Optional[str]
    install: str


_ENTRIES: Dict[str, Entry] = {}


def register(
    name: str, entry_point: str, install: str, description: str, requires: Sequence[str] = ()
) -> None:
    """Add an environment; see `Entry` for the arguments.

    Raises:
        ValueError: the name is taken by something else, or `entry_point` is malformed.
    """
    module, _, attribute = entry_point.partition(":")
    if not module or not attribute:
        raise ValueError(f"entry_point must be 'module:callable', got {entry_point!r}")
    entry = Entry(entry_point, install, description, tuple(requires))
    if _ENTRIES.get(name, entry) != entry:
        raise ValueError(f"{name!r} is registered already, as {_ENTRIES[name].entry_point}")
    _ENTRIES[name] = entry


def available() -> List[Availability]:
    """Return every registered environment, by name, without importing any simulator."""
    rows = []
    for name in sorted(_ENTRIES):
        missing = _ENTRIES[name].missing()
        rows.append(Availability(name, missing is None, missing, _ENTRIES[name].install))
    return rows


def describe(name: str) -> str:
    """Return the one-line description of environment `name`."""
    return _entry(name).description


def options(name: str) -> Dict[str, Any]:
    """Return the options of environment `name` and their defaults.

    An option without a default maps to `inspect.Parameter.empty`.

    Raises:
        SimulatorNotInstalled: what it needs is missing.
        UnknownEnvironment: no such name.
    """
    return _options(_load(name))


def make(name: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Build environment `name` with its options.

    Raises:
        UnknownEnvironment: no such name.
        UnknownOption: it has no such option.
        MissingOption: it has an option without a default, which was not given.
        SimulatorNotInstalled: what it needs is missing.
    """
    target = _load(name)
    known = _options(target)
    for key in kwargs:
        if key not in known:
            raise UnknownOption(
                f"{name} has no option {key!r}.{_suggest(key, known)} Options: {', '.join(known)}"
            )
    for key, default in known.items():
        if default is inspect.Parameter.empty and key not in kwargs:
            raise MissingOption(f"{name} needs the option {key!r}. Options: {', '.join(known)}")
    environment: gymnasium.Env[Any, Any] = target(**kwargs)
    return environment


def _entry(name: str) -> Entry:
    if name not in _ENTRIES:
        raise UnknownEnvironment(
            f"no environment is called {name!r}.{_suggest(name, _ENTRIES)} "
            f"Known: {', '.join(sorted(_ENTRIES))}"
        )
    return _ENTRIES[name]


def _suggest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _load(name: str) -> Any:
    entry = _entry(name)
    missing = entry.missing()
    if missing is not None:
        raise _not_installed(name, missing, entry)
    module_name, _, attribute = entry.entry_point.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise _not_installed(name, str(error.name), entry) from error
    return getattr(module, attribute)


def _not_installed(name: str, module: str, entry: Entry) -> SimulatorNotInstalled:
    return SimulatorNotInstalled(
        f"the environment {name!r} needs the Python module {module!r}, which is not installed: "
        f"{entry.install}",
        name=module,
    )


def _options(target: Any) -> Dict[str, Any]:
    """Collect keyword arguments; a class that takes **kwargs hands them to its base classes."""
    functions = [target]
    if inspect.isclass(target):
        functions = [vars(c)["__init__"] for c in target.__mro__ if "__init__" in vars(c)]
    found: Dict[str, Any] = {}
    for function in functions:
        parameters = list(inspect.signature(function).parameters.values())
        for p in parameters:
            # What a base class cannot do without, the derived class gives it.
            given = function is not functions[0] and p.default is p.empty
            named = p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name != "self"
            if named and not given:
                found.setdefault(p.name, p.default)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


register(
    "atari",
    "sim_adapters.atari:AtariEnv",
    "pip install 'dreamer-nav[atari]'",
    "Atari 2600 games with sticky actions, 64x64 gray, by the protocol of Machado et al. 2018",
    requires=("ale_py",),
)
register(
    "bullet",
    "sim_adapters.bullet.env:BulletPointGoalEnv",
    "pip install 'dreamer-nav[bullet]'",
    "PointGoal in procedural homes and Gibson meshes, rendered by PyBullet",
    requires=("pybullet", "scipy"),
)
register(
    "dmc",
    "sim_adapters.dmc:DMControlEnv",
    "pip install 'dreamer-nav[dmc]'",
    "DeepMind Control suite, from pixels or joint angles: walker_walk, humanoid_run, ...",
    requires=("dm_control",),
)
register(
    "dummy",
    "sim_adapters.dummy:make_dummy",
    "pip install dreamer-nav",
    "tiny tasks that show whether an agent learns: bandit, delayed, memory, terminal, point",
)
register(
    "gymnasium",
    "sim_adapters.gymnasium_env:make_gymnasium",
    "pip install dreamer-nav",
    "any environment registered with Gymnasium, by its id",
)
register(
    "habitat",
    "sim_adapters.habitat.env:HabitatEnv",
    "pip install habitat-lab==0.3.320260507 'dreamer-nav[habitat]' (docs/habitat.md; a Python 3.11 of its own)",
    "habitat-lab's PointNav (Gibson, MP3D, HM3D, your YAML) on habitat-sim or, without it, on PyBullet",
    requires=("habitat",),
)
register(
    "igibson",
    "sim_adapters.igibson.env:IGibsonEnv",
    "make igibson-env, then --train.env_python .venv-igibson/bin/python (docs/igibson.md; a Python 3.9 of its own)",
    "iGibson's PointNav in Gibson meshes and interactive scenes, or in a tiny room of our own",
    requires=("igibson",),
)
