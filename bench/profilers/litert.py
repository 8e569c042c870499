"""LiteRT, by its own profile: kernels come in the order of the file's operators, whose shapes are counted. On one thread always."""

from __future__ import annotations

from math import prod
from pathlib import Path

from tinyvit.bench.profilers import ExecutedKernel, _litert_profile
from tinyvit.errors import ArtifactError, MissingDependencyError
from tinyvit.runtimes.engines import _tflite

_KERNELS = (
    "Fully Connected",
    "Convolution",
    "Batch Matrix Multiply",
    "FULLY_CONNECTED",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "BATCH_MATMUL",
)
"""How products are called in XNNPACK and in LiteRT's own kernels."""


def executed(path: Path, threads: int) -> list[ExecutedKernel]:
    """See the package."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise MissingDependencyError.of("ai-edge-litert", "litert") from error
    model = schema.ModelT.InitFromPackedBuf(_tflite.read_checked_model(path))
    graph, kinds = (
        model.subgraphs[0],
        [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes],
    )
    names = schema.BuiltinOperator
    products = (names.FULLY_CONNECTED, names.CONV_2D, names.DEPTHWISE_CONV_2D, names.BATCH_MATMUL)
    macs = []
    for operator in graph.operators:
        if (kind := kinds[operator.opcodeIndex]) in products:
            given, weight, out = (
                graph.tensors[i].shape.tolist() for i in (*operator.inputs[:2], operator.outputs[0])
            )
            depth = (
                given[-1]
                if kind == names.BATCH_MATMUL
                else prod(weight[1:3] if kind == names.DEPTHWISE_CONV_2D else weight[1:])
            )
            macs.append(prod(out) * depth)
    ends = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    shapes = (tuple(ends[0].shape.tolist()), tuple(ends[1].shape.tolist()))
    ran = _litert_profile.profile(path, shapes, ends[0].type == schema.TensorType.UINT8)
    if sum(kernel.name.startswith(_KERNELS) for kernel in ran) != len(macs):
        raise ArtifactError(
            f"the products of {path.name} were not all found in LiteRT's profile", "report this"
        )
    found, parts = iter(macs), []
    for kernel in ran:
        is_integer = "Q" in kernel.name and "F32" not in kernel.name
        parts.append(
            ExecutedKernel(
                kernel.name,
                next(found) if kernel.name.startswith(_KERNELS) else 0,
                is_integer,
                kernel.ms,
            )
        )
    return parts
