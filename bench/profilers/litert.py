"""Implements the profiler of LiteRT, which always runs on one thread.

LiteRT's profile lists kernels in the order of the file's operators, but without shapes. The
multiply-accumulates are therefore computed from the shapes of the operators in the file.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from tinyvit.bench.profilers import REPORT_REMEDY, ExecutedNode
from tinyvit.bench.profilers._litert_profile import InputOutputs, LiteRtKernel, profile_file
from tinyvit.errors import ArtifactError, MissingDependencyError
from tinyvit.runtimes.engines import _tflite

_PRODUCT_KERNELS = (
    "Fully Connected",
    "Convolution",
    "Batch Matrix Multiply",
    "FULLY_CONNECTED",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "BATCH_MATMUL",
)
"""Beginnings of the names of the kernels that compute linear layers, convolutions and matrix
products: first XNNPACK's names, then those of LiteRT itself.
"""


def list_executed_nodes(path: Path, threads: int) -> list[ExecutedNode]:
    """Run an artifact on one thread and list the kernels that LiteRT executed.

    Args:
        path: A .tflite file.
        threads: Ignored, because the profiler of LiteRT always runs on one thread.

    Returns:
        The kernels in the order of execution, each as the node that it executed.

    Raises:
        ArtifactError: LiteRT refuses the file, or its profile does not list all products.
        MissingDependencyError: LiteRT is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise MissingDependencyError.for_package("ai-edge-litert", extra="litert") from error
    model = schema.ModelT.InitFromPackedBuf(_tflite.read_checked_model(path))
    graph = model.subgraphs[0]
    product_macs = _count_product_macs(model, schema.BuiltinOperator)
    input_tensor = graph.tensors[graph.inputs[0]]
    kernels = profile_file(
        path,
        InputOutputs(
            input_shape=tuple(input_tensor.shape.tolist()),
            output_shapes=tuple(
                tuple(graph.tensors[index].shape.tolist()) for index in _order_outputs(model)
            ),
            is_uint8=input_tensor.type == schema.TensorType.UINT8,
        ),
    )
    if sum(map(_is_product, kernels)) != len(product_macs):
        raise ArtifactError(
            f"LiteRT's profile of {path.name} does not list all products of the file",
            REPORT_REMEDY,
        )
    remaining_macs = iter(product_macs)
    return [
        ExecutedNode(
            kernel_name=kernel.name,
            macs=next(remaining_macs) if _is_product(kernel) else 0,
            is_integer=_is_integer(kernel),
            time_ms=kernel.time_ms,
        )
        for kernel in kernels
    ]


def _order_outputs(model: Any) -> list[int]:
    """Return the indices of the output tensors in the order of the file's signature.

    Args:
        model: The content of the file, a `schema_py_generated.ModelT`.
    """
    if not model.signatureDefs:
        return list(model.subgraphs[0].outputs)
    return [output.tensorIndex for output in model.signatureDefs[0].outputs]


def _is_product(kernel: LiteRtKernel) -> bool:
    return kernel.name.startswith(_PRODUCT_KERNELS)


def _is_integer(kernel: LiteRtKernel) -> bool:
    """Return whether a kernel has only quantized data types, such as QS8, in its name."""
    return "Q" in kernel.name and "F32" not in kernel.name


def _count_product_macs(model: Any, operators: Any) -> list[int]:
    """Count the multiply-accumulates of each product of the file, in the order of execution.

    Args:
        model: The content of the file, a `schema_py_generated.ModelT`.
        operators: The enumeration `schema_py_generated.BuiltinOperator`.
    """
    graph = model.subgraphs[0]
    # TensorFlow Lite's schema says that readers take the larger of the old and the new field.
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    product_codes = (
        operators.FULLY_CONNECTED,
        operators.CONV_2D,
        operators.DEPTHWISE_CONV_2D,
        operators.BATCH_MATMUL,
    )
    macs = []
    for operator in graph.operators:
        code = codes[operator.opcodeIndex]
        if code not in product_codes:
            continue
        input_shape, weight_shape, output_shape = (
            graph.tensors[index].shape.tolist()
            for index in (*operator.inputs[:2], operator.outputs[0])
        )
        if code == operators.BATCH_MATMUL:
            macs_per_output = input_shape[-1]
        elif code == operators.DEPTHWISE_CONV_2D:  # weight: (1, height, width, channels)
            macs_per_output = prod(weight_shape[1:3])
        else:  # weight: (output channels, ..., input channels)
            macs_per_output = prod(weight_shape[1:])
        macs.append(prod(output_shape) * macs_per_output)
    return macs
