"""An ONNX Runtime session whose inputs and outputs are exactly those of the contract."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from dreamer_nav_export.contract import METADATA_KEY, Contract, TensorSpec, read_contract
from dreamer_nav_export.errors import (
    ContractError,
    InferenceError,
    PolicyError,
    PolicyFileError,
)

__all__ = ["PolicySession"]

_ORT_TYPES = {
    "tensor(bool)": "bool",
    "tensor(float)": "float32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
}


class PolicySession:
    """One loaded policy; holds no state, so several robots or episodes may share it.

    Raises:
        PolicyFileError: not an ONNX model that this ONNX Runtime can load.
        ContractError: no contract, or not the graph's.
    """

    def __init__(
        self,
        data: bytes,
        providers: Optional[Sequence[str]] = None,
        options: Optional[Mapping[str, Any]] = None,
    ) -> None:
        self._session = _open(data, providers, options or {})
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        except ValueError as error:  # ONNX Runtime loads names that are not UTF-8
            raise PolicyFileError("the file is damaged: {}".format(_short(error))) from error
        self.contract: Contract = read_contract(metadata.get(METADATA_KEY))
        _compare("input", inputs, self.contract.inputs, self.contract.batch)
        _compare("output", outputs, self.contract.outputs, self.contract.batch)
        self._outputs = [o.name for o in self.contract.outputs]
        self.providers: List[str] = list(self._session.get_providers())

    def run(
        self, feeds: Mapping[str, np.ndarray], names: Optional[Sequence[str]] = None
    ) -> Dict[str, np.ndarray]:
        """The named outputs, or every one; InferenceError where ONNX Runtime fails."""
        names = self._outputs if names is None else names
        try:
            values = self._session.run(names, dict(feeds))
        except Exception as error:  # ONNX Runtime's exception types are not public
            raise InferenceError("ONNX Runtime failed: {}".format(_short(error))) from error
        return dict(zip(names, values))


def _open(data: bytes, providers: Optional[Sequence[str]], options: Mapping[str, Any]) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise PolicyError(
            "ONNX Runtime is not installed: pip install 'dreamer-nav-export[cpu]', or the wheel of "
            "your board's vendor"
        ) from error
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.inter_op_num_threads = 1
    # A robot's other processes need the cores that waiting threads would burn.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
    settings.log_severity_level = 4
    for name, value in options.items():
        setattr(settings, name, value)
    wanted = list(providers or ["CPUExecutionProvider"])
    there = onnxruntime.get_available_providers()
    missing = [p for p in wanted if p not in there]
    if missing:
        raise PolicyFileError(
            "this ONNX Runtime has no {}; it has {}".format(missing[0], ", ".join(there))
        )
    try:
        session = onnxruntime.InferenceSession(data, settings, providers=wanted)
    except Exception as error:  # ONNX Runtime's exception types are not public
        raise PolicyFileError(
            "ONNX Runtime {} cannot load the file: {}".format(
                onnxruntime.__version__, _short(error)
            )
        ) from error
    # ONNX Runtime falls back to the CPU without an error.
    lost = [p for p in wanted if p not in session.get_providers()]
    if lost:
        raise PolicyFileError("ONNX Runtime could not start {}".format(", ".join(lost)))
    return session


def _compare(
    what: str, found: Sequence[Any], expected: Sequence[TensorSpec], batch: Optional[int]
) -> None:
    by_name = {tensor.name: tensor for tensor in found}
    names = [spec.name for spec in expected]
    if sorted(by_name) != sorted(names):
        raise ContractError(
            "the graph's {}s are {} and the contract's are {}".format(
                what, ", ".join(sorted(by_name)), ", ".join(sorted(names))
            )
        )
    for spec in expected:
        tensor = by_name[spec.name]
        shape = list(tensor.shape or ())
        first_fits = bool(shape) and (shape[0] == batch if batch else not isinstance(shape[0], int))
        if (
            _ORT_TYPES.get(tensor.type) != spec.dtype
            or not first_fits
            or tuple(shape[1:]) != spec.shape
        ):
            raise ContractError(
                "the graph's {} {!r} is {}{} and the contract says {}{} after the batch".format(
                    what, spec.name, tensor.type, shape, spec.dtype, spec.shape
                )
            )


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
