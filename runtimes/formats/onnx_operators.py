"""Lists the operators that an ONNX model for images may contain.

A network for images is a fixed sequence of layers. An ONNX file, however, may also contain loops
that never end, functions whose expansion takes any amount of memory, operators that produce tensors
of any size from a few numbers, and operators of other libraries. `ALLOWED_OPERATORS` are those that
tinyvit-export and other exporters write for image classifiers. A few of these, such as Pad and
MatMul, can also make large tensors from small ones, so this check does not bound the memory.
"""

from __future__ import annotations

_ALLOWED_NAMES = """
Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Celu Clip Concat Constant Conv
ConvInteger DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf
Exp Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater
GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization
LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpPool LRN MatMul MatMulInteger Max
MaxPool Mean Min Mish Mod Mul Neg Not Or Pad Pow PRelu QLinearConv QLinearMatMul QuantizeLinear
Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Resize RMSNormalization
Round Selu Shape Sigmoid Sign Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze
Sub Sum Tanh ThresholdedRelu Transpose Unsqueeze Where
"""

ALLOWED_OPERATORS = frozenset(_ALLOWED_NAMES.split())
"""Operators of ONNX that a file may contain without the option --allow-foreign-operators."""

_ALLOWED_DOMAINS = ("", "ai.onnx")
"""Names of the domain (the library of operators) of ONNX itself."""

_MAX_NAME_LENGTH = 80
"""Number of characters of an operator's name that are shown."""


def name_if_foreign(domain: str, operator: str) -> str:
    """Name an operator for a message if it is not one of `ALLOWED_OPERATORS`.

    Args:
        domain: The operator's domain.
        operator: The operator's name in the domain.

    Returns:
        At most 80 characters of the name, preceded by the domain and "::" unless the domain is that
        of ONNX itself; "" for an operator of `ALLOWED_OPERATORS`.
    """
    shown_name = operator[:_MAX_NAME_LENGTH]
    if domain not in _ALLOWED_DOMAINS:
        return f"{domain[:_MAX_NAME_LENGTH]}::{shown_name}"
    if operator not in ALLOWED_OPERATORS:
        return shown_name or "an operator without a name"
    return ""
