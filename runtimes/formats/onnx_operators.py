"""Finds the operators in an ONNX graph that no image classifier needs, such as loops.

A network for images is a fixed sequence of layers. An ONNX file, however, may also contain loops
that never end, functions whose expansion takes any amount of memory, operators that produce tensors
of any size from a few numbers, and operators of other libraries. `ALLOWED_OPERATORS` are those that
tinyvit-export and other exporters write for image classifiers. A few of these, such as Pad and
MatMul, can also make large tensors from small ones, so this check does not bound the memory.

The field numbers come from onnx/onnx.proto3 in https://github.com/onnx/onnx.
"""

from __future__ import annotations

from tinyvit.runtimes.formats.protobuf import BYTES, Field, FieldBudget, iterate_fields

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

# Field numbers of ModelProto, GraphProto and NodeProto.
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE = 1
_NODE_OPERATOR, _NODE_DOMAIN = 4, 7

_MAX_NAME_LENGTH = 80
"""Number of characters of an operator's name that are shown."""


def find_foreign_operators(model: memoryview) -> tuple[str, ...]:
    """Find the operators of a model that are not in `ALLOWED_OPERATORS`.

    Args:
        model: The model, a serialized ModelProto.

    Returns:
        Names of the operators, sorted. The name is preceded by the domain and "::" if the domain is
        not that of ONNX itself. Functions that the file defines are called "a function".

    Raises:
        ValueError: If the bytes are not a ModelProto, or if a message in it has more than 100,000
            fields.
    """
    names: set[str] = set()
    budget = FieldBudget()
    for field in iterate_fields(model):
        if (field.number, field.wire_type) == (_MODEL_GRAPH, BYTES):
            graph = _slice(model, field)
            names.update(_find_in_graph(graph, budget))
        elif field.number == _MODEL_FUNCTIONS:
            names.add("a function")
    return tuple(sorted(names))


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


def _find_in_graph(graph: memoryview, budget: FieldBudget) -> set[str]:
    """Find the operators of a graph that are not allowed."""
    return {
        name
        for field in iterate_fields(graph, budget)
        if (field.number, field.wire_type) == (_GRAPH_NODE, BYTES)
        if (name := _check_node(_slice(graph, field), budget))
    }


def _check_node(node: memoryview, budget: FieldBudget) -> str:
    """Return the name of a node's operator if it is not allowed, otherwise ""."""
    operator, domain = b"", b""
    for field in iterate_fields(node, budget):
        if (field.number, field.wire_type) == (_NODE_OPERATOR, BYTES):
            operator = bytes(_slice(node, field))
        elif (field.number, field.wire_type) == (_NODE_DOMAIN, BYTES):
            domain = bytes(_slice(node, field))
    return name_if_foreign(domain.decode("utf-8", "replace"), operator.decode("utf-8", "replace"))


def _slice(message: memoryview, field: Field) -> memoryview:
    """Return the value of a field without copying it."""
    return message[field.value_start : field.end]
