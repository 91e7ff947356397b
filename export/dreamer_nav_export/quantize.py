"""Weights of the dense layers as 8-bit integers: smaller and faster on a CPU, and another policy than was trained."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["quantize"]

# Convolutions become ConvInteger, which was measured to be slower than float32.
_OPERATORS = ["MatMul", "Gemm"]


def quantize(model: Any) -> Any:
    """A model with dynamically quantised dense layers: int8 weights for each output, activations uint8 as they come.

    Args:
        model: an onnx.ModelProto; it is left as it was.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends a preparation that nothing here needs
    try:
        # ONNX Runtime's quantiser writes files only.
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "int8.onnx"
            quantize_dynamic(
                copy,
                output,
                op_types_to_quantize=_OPERATORS,
                weight_type=QuantType.QInt8,
                per_channel=True,
            )
            quantized = onnx.load(str(output))
    finally:
        root.setLevel(level)
    quantized.ir_version = model.ir_version
    return quantized
