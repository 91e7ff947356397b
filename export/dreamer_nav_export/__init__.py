"""Policies of dreamer-nav as ONNX files: written where torch is, run on a robot where it is not.

What a robot runs (`Policy` and all it imports) needs NumPy and ONNX Runtime alone, Python 3.8 or later.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "Action",
    "ContractError",
    "InferenceError",
    "ObservationError",
    "Policy",
    "PolicyError",
    "PolicyFileError",
    "SelfTestError",
    "__version__",
]

_HOME = {"Action": "runtime", "Policy": "runtime"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `dreamer-nav --help` must not wait for NumPy."""
    if name not in __all__:
        raise AttributeError("module {!r} has no attribute {!r}".format(__name__, name))
    module = importlib.import_module("{}.{}".format(__name__, _HOME.get(name, "errors")))
    return getattr(module, name)
