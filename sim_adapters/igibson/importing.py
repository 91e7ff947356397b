"""Imports iGibson with its data where the user says, and without its chatter."""

from __future__ import annotations

import collections
import collections.abc
import importlib
import os
import sys
from typing import Any, Dict

from sim_adapters.igibson.errors import IGibsonError

#: folders and files of a data folder, and the variables by which iGibson is told of them
LAYOUT = {
    "assets": "GIBSON_ASSETS_PATH",
    "g_dataset": "GIBSON_DATASET_PATH",
    "ig_dataset": "IGIBSON_DATASET_PATH",
    "igibson.key": "KEY_PATH",
}
ATTRIBUTES = {
    "assets": "assets_path",
    "g_dataset": "g_dataset_path",
    "ig_dataset": "ig_dataset_path",
    "igibson.key": "key_path",
}


def import_igibson(data: str) -> Any:
    """The module `igibson`, reading robots and scenes from `data`; empty for where iGibson looks itself.

    Raises:
        IGibsonError: no such folder, nothing of iGibson's in it, a release of the data that does not fit, or iGibson
            was imported in this process with other data.
        ModuleNotFoundError: iGibson, or something that it needs, is not installed.
    """
    wanted = _paths(data)
    os.environ.setdefault("IG_LOG_LEVEL", "WARNING")  # else it prints a banner, and much more
    if "igibson" not in sys.modules:
        os.environ.update({LAYOUT[name]: path for name, path in wanted.items()})
    if not hasattr(collections, "Iterable"):  # Python 3.10 took it away, iGibson 2.2.2 imports it
        collections.Iterable = collections.abc.Iterable  # type: ignore[attr-defined]
    try:
        igibson = importlib.import_module("igibson")
    except (AssertionError, ValueError) as error:
        why = " ".join(str(part) for part in error.args)
        raise IGibsonError(
            f"iGibson refuses its data: {why}; download what fits iGibson 2.2.2"
        ) from error
    for name, path in wanted.items():
        there = getattr(igibson, ATTRIBUTES[name])
        if os.path.abspath(there) != path:
            raise IGibsonError(
                f"iGibson was imported in this process with {there}, and data={data!r} asks for {path}: "
                "use one data folder a process"
            )
    return igibson


def _paths(data: str) -> Dict[str, str]:
    if not data:
        return {}
    folder = os.path.abspath(os.path.expanduser(data))
    if not os.path.isdir(folder):
        raise IGibsonError(
            f"data: there is no folder {folder}; write a tiny scene there with "
            f"`python -m sim_adapters.igibson.tiny {data}`, or name the folder that holds iGibson's "
            "assets, g_dataset and ig_dataset"
        )
    paths = {name: os.path.join(folder, name) for name in LAYOUT}
    found = {name: path for name, path in paths.items() if os.path.exists(path)}
    if not found:
        raise IGibsonError(f"data: {folder} holds none of {', '.join(LAYOUT)}")
    return found
