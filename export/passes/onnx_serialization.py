"""Serializes ONNX models for compilers that read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


def serialize_checked(model: ir.Model) -> bytes:
    """Check a model with ONNX's own checker, and serialize it.

    Args:
        model: The model.

    Returns:
        The bytes of an ONNX file; equal models give equal bytes.
    """
    import onnx
    import onnx_ir as ir

    proto = ir.serde.serialize_model(model)
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data
