"""Weights of the dense layers as 8-bit integers: smaller and faster on a CPU, and another policy than was trained."""

from __future__ import annotations

from typing import Any

__all__ = ["quantize"]

# Convolutions become ConvInteger, which was measured to be slower than float32.
_OPERATORS = ["MatMul", "Gemm"]


def quantize(model: Any) -> Any:
    """A model with dynamically quantised dense layers: int8 weights for each output, activations uint8 as they come.

    Args:
        model: an onnx.ModelProto; it is left as it was.
    """
    import logging

    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    logging.getLogger().setLevel(max(logging.getLogger().level, logging.ERROR))
    return quantize_dynamic_model(copy, quantize_dynamic, QuantType)


def quantize_dynamic_model(model: Any, quantize_dynamic: Any, kind: Any) -> Any:
    """Through files, which is the only way that ONNX Runtime's quantiser takes."""
    import tempfile
    from pathlib import Path

    import onnx

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model,
            output,
            op_types_to_quantize=_OPERATORS,
            weight_type=kind.QInt8,
            per_channel=True,
        )
        return onnx.load(str(output))
