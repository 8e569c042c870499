"""Reads the operators of a .tflite file, and the sizes and types of their tensors.

The field numbers and the names of the operators come from tensorflow/lite/schema/schema.fbs in
https://github.com/tensorflow/tensorflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from flatbuffers import number_types
from flatbuffers.table import Table

from tinyvit.runtimes.formats.flatbuffer_tables import (
    read_numbers,
    read_scalar,
    read_string,
    read_table,
    read_tables,
)
from tinyvit.runtimes.formats.network_graph import check_rank
from tinyvit.runtimes.formats.stated_operators import StatedNetwork, StatedOperator

_NAMES = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6
RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM
EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND
TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN
EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX
MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV
SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT
REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV
REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU
SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU
REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM
MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1
"""

_OPERATOR_NAMES = tuple(_NAMES.split())
"""Names of the values of BuiltinOperator, from 0. Newer ones are shown as numbers."""

# Numbers of the fields in the tables Model, SubGraph, OperatorCode, Operator and Tensor.
_MODEL_CODES, _MODEL_GRAPHS = 1, 2
_GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OPERATORS = 0, 1, 3
_CODE_OLD_NUMBER, _CODE_NUMBER = 0, 3
_OPERATOR_CODE, _OPERATOR_INPUTS, _OPERATOR_OUTPUTS, _OPERATOR_OPTIONS = 0, 1, 2, 4
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_QUANTIZATION, _TENSOR_SIGNATURE = 0, 1, 3, 4, 7
_QUANTIZATION_SCALE = 2
_OPTIONS_TRANSPOSE_FIRST = 0
"""Number of the field `adj_x` in BatchMatMulOptions."""

_FLOAT_TYPES = frozenset((0, 1, 10, 18))
"""Values of TensorType for float32, float16, float64 and bfloat16."""
_OPEN_SIZE = -1

_MAX_OPERATOR_TENSORS = 100
"""Largest number of inputs and of outputs of an operator."""
_MAX_NAME_LENGTH = 200
"""Number of characters of a tensor's name that are kept: many tensors may share one long name."""


@dataclass(frozen=True)
class _TensorFacts:
    shape: tuple[int, ...]
    is_float: bool
    is_quantized: bool
    has_open_sizes: bool
    name: str


def read_network(model: Table) -> StatedNetwork:
    """Read the operators of a file.

    Args:
        model: The root table of the file.

    Returns:
        The operators.

    Raises:
        ValueError, struct.error, TypeError: If the file is damaged.
    """
    graphs = list(read_tables(model, _MODEL_GRAPHS))
    if len(graphs) != 1:
        raise ValueError(f"the model has {len(graphs)} subgraphs instead of one")
    (graph,) = graphs
    names = [_read_operator_name(code) for code in read_tables(model, _MODEL_CODES)]
    tensors = [_read_tensor(table) for table in read_tables(graph, _GRAPH_TENSORS)]
    inputs = _read_indices(graph, _GRAPH_INPUTS, tensors)
    rows = [_read_row(table, names, tensors) for table in read_tables(graph, _GRAPH_OPERATORS)]
    computed = {index for *_, outputs in rows for index in outputs} | set(inputs)
    return StatedNetwork(
        "tflite",
        tuple(
            _describe_operator(table, name, sources, outputs, tensors, computed)
            for table, name, sources, outputs in rows
        ),
        is_quantized=any(tensors[index].is_quantized for index in computed),
        has_open_sizes=any(tensors[index].has_open_sizes for index in inputs),
    )


def _read_operator_name(code: Table) -> str:
    """Read the name of an operator code. Files from before 2021 have only the old number."""
    old_number = int(read_scalar(code, _CODE_OLD_NUMBER, number_types.Int8Flags))
    number = max(old_number, int(read_scalar(code, _CODE_NUMBER, number_types.Int32Flags)))
    if 0 <= number < len(_OPERATOR_NAMES):
        return _OPERATOR_NAMES[number]
    return f"BuiltinOperator {number}"


def _read_tensor(table: Table) -> _TensorFacts:
    shape = tuple(read_numbers(table, _TENSOR_SHAPE, "<i4"))
    check_rank(shape)
    if min(shape, default=0) < 0:
        raise ValueError("a tensor has a negative size")
    signature = read_numbers(table, _TENSOR_SIGNATURE, "<i4")
    is_float = read_scalar(table, _TENSOR_TYPE, number_types.Int8Flags) in _FLOAT_TYPES
    quantization = read_table(table, _TENSOR_QUANTIZATION)
    scales = read_numbers(quantization, _QUANTIZATION_SCALE, "<f4") if quantization else []
    return _TensorFacts(
        shape=shape,
        is_float=is_float,
        is_quantized=bool(scales) and not is_float,
        has_open_sizes=_OPEN_SIZE in signature[1:],
        name=read_string(table, _TENSOR_NAME)[:_MAX_NAME_LENGTH],
    )


_Row = tuple[Table, str, list[int], list[int]]
"""Table, name, inputs and outputs of an operator."""


def _read_row(table: Table, names: list[str], tensors: list[_TensorFacts]) -> _Row:
    code = read_scalar(table, _OPERATOR_CODE, number_types.Uint32Flags)
    if code >= len(names):
        raise ValueError("an operator has a code that does not exist")
    inputs = _read_indices(table, _OPERATOR_INPUTS, tensors)
    return table, names[code], inputs, _read_indices(table, _OPERATOR_OUTPUTS, tensors)


def _read_indices(table: Table, field: int, tensors: list[_TensorFacts]) -> list[int]:
    """Read indices of tensors, without -1, which is stated for an optional input."""
    indices = [index for index in read_numbers(table, field, "<i4") if index != -1]
    if len(indices) > _MAX_OPERATOR_TENSORS:
        raise ValueError(f"an operator has more than {_MAX_OPERATOR_TENSORS} tensors")
    if any(not 0 <= index < len(tensors) for index in indices):
        raise ValueError("an operator uses a tensor that does not exist")
    return indices


def _describe_operator(
    table: Table,
    name: str,
    inputs: list[int],
    outputs: list[int],
    tensors: list[_TensorFacts],
    computed: set[int],
) -> StatedOperator:
    shapes = [tensors[index].shape for index in (*inputs, *outputs)]
    checked = [index for index in inputs[:1] if index in computed] + outputs
    multiplications = 0
    if len(inputs) > 1 and outputs:
        first, second = (tensors[index].shape for index in inputs[:2])
        options = read_table(table, _OPERATOR_OPTIONS)
        transposes_first = name == "BATCH_MATMUL" and bool(
            options and read_scalar(options, _OPTIONS_TRANSPOSE_FIRST, number_types.BoolFlags)
        )
        length = _find_product_length(name, first, second, transposes_first)
        multiplications = prod(tensors[outputs[0]].shape) * length
    return StatedOperator(
        name=name,
        output=tensors[outputs[0]].name if outputs else "",
        max_rank=max(map(len, shapes), default=0),
        has_floats=any(tensors[index].is_float for index in checked),
        multiplications=multiplications,
    )


def _find_product_length(
    name: str, first: tuple[int, ...], second: tuple[int, ...], transposes_first: bool
) -> int:
    """Return how many products are added for an element of the output; 0 if it is no product."""
    if name in ("CONV_2D", "FULLY_CONNECTED"):  # weights: (outputs, height, width, inputs)
        return prod(second[1:])
    if name == "DEPTHWISE_CONV_2D":  # weights: (1, height, width, outputs)
        return prod(second[1:-1])
    if name == "BATCH_MATMUL" and len(first) > 1:
        return first[-2] if transposes_first else first[-1]
    return 0
