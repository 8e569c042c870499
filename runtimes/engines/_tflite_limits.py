"""Limits on a .tflite file, which are checked before objects are made of its tables.

In a flatbuffer, a million entries of a vector can lead to one table, so that a file of a few
megabytes unpacks to any size.
"""

from __future__ import annotations

from typing import Any

MAX_TABLES = 20_000
"""Largest number of tensors, of operators, of buffers and of operator codes. TinyViT-21M has fewer
than 3,000 tensors."""

_MAX_OTHER_TABLES = 100
"""Largest number of metadata entries and of signatures. tinyvit-export writes one of each."""

_MAX_NAME_BYTES = 2**24
"""Largest size of the names of all tensors and operators together, in bytes."""

ALLOWED_OPERATORS = frozenset(
    (
        "ABS",
        "ADD",
        "ADD_N",
        "AVERAGE_POOL_2D",
        "BATCH_MATMUL",
        "CAST",
        "CONCATENATION",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "DEPTH_TO_SPACE",
        "DEQUANTIZE",
        "DIV",
        "ELU",
        "EXP",
        "EXPAND_DIMS",
        "FULLY_CONNECTED",
        "GATHER",
        "GELU",
        "HARD_SWISH",
        "L2_NORMALIZATION",
        "LEAKY_RELU",
        "LOG",
        "LOGISTIC",
        "LOG_SOFTMAX",
        "MAXIMUM",
        "MAX_POOL_2D",
        "MEAN",
        "MINIMUM",
        "MIRROR_PAD",
        "MUL",
        "NEG",
        "PACK",
        "PAD",
        "PADV2",
        "POW",
        "PRELU",
        "QUANTIZE",
        "REDUCE_MAX",
        "RELU",
        "RELU6",
        "RELU_N1_TO_1",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "RSQRT",
        "SLICE",
        "SOFTMAX",
        "SPACE_TO_DEPTH",
        "SPLIT",
        "SPLIT_V",
        "SQRT",
        "SQUARE",
        "SQUARED_DIFFERENCE",
        "SQUEEZE",
        "STRIDED_SLICE",
        "SUB",
        "SUM",
        "TANH",
        "TRANSPOSE",
        "UNPACK",
    )
)
"""Names of the BuiltinOperators that image classifiers consist of. The others include loops, random
numbers, and operators that make tensors of any size from a few numbers."""


def check_counts(model: Any) -> None:
    """Raise ValueError if the model has too many tables, or more than one graph.

    Args:
        model: A Model of the generated reader, which reads a table when it is asked for it.
    """
    if model.SubgraphsLength() != 1:
        raise ValueError(f"the model has {model.SubgraphsLength()} subgraphs instead of one")
    graph = model.Subgraphs(0)
    _check_count("tensors", graph.TensorsLength(), MAX_TABLES)
    _check_count("operators", graph.OperatorsLength(), MAX_TABLES)
    _check_count("buffers", model.BuffersLength(), MAX_TABLES)
    _check_count("operator codes", model.OperatorCodesLength(), MAX_TABLES)
    _check_count("metadata entries", model.MetadataLength(), _MAX_OTHER_TABLES)
    _check_count("signatures", model.SignatureDefsLength(), _MAX_OTHER_TABLES)
    for index in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(index)
        count = signature.InputsLength() + signature.OutputsLength()
        _check_count("values of a signature", count, _MAX_OTHER_TABLES)
    _check_names(graph, model)


def find_foreign_operators(kinds: list[int], schema: Any) -> list[str]:
    """Find the operators that image classifiers do not need.

    Args:
        kinds: Numbers of BuiltinOperators.
        schema: The generated reader.

    Returns:
        Their names, each once, sorted.
    """
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    return sorted({str(names[kind]) for kind in kinds} - ALLOWED_OPERATORS)


def _check_count(kind: str, count: int, limit: int) -> None:
    if count > limit:
        raise ValueError(f"it has {count} {kind}, more than {limit}")


def _check_names(graph: Any, model: Any) -> None:
    """Raise ValueError if the names, sparsities and codes take more space than a file would need.

    Many tensors may share one long name, which would be copied for each of them.
    """
    total_bytes = 0
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        total_bytes += len(tensor.Name() or b"")
        if tensor.Sparsity() is not None or tensor.VariantTensorsLength():
            raise ValueError("a tensor is of an unknown kind")
        if total_bytes > _MAX_NAME_BYTES:
            raise ValueError(f"the names of its tensors take more than {_MAX_NAME_BYTES} bytes")
    for index in range(model.OperatorCodesLength()):
        total_bytes += len(model.OperatorCodes(index).CustomCode() or b"")
        if total_bytes > _MAX_NAME_BYTES:
            raise ValueError(f"its names take more than {_MAX_NAME_BYTES} bytes")
