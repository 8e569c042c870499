"""Implements the profiler of OpenVINO.

OpenVINO returns the graph that it executed, with the time of each node. One node of this graph may
compute several products of the file, such as both matrix products of an attention module. The node
then lists the names of the file's nodes that it replaces.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tinyvit.bench.profilers import REPORT_REMEDY, RUNS, ExecutedNode, random_input
from tinyvit.errors import ArtifactError
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.engine_helpers import load_error
from tinyvit.runtimes.engines.openvino import shared_core
from tinyvit.runtimes.formats.openvino_ir import weights_path

_PRODUCTS = ("MatMul", "Convolution", "GroupConvolution")
_LAYERS_WITH_OWN_SHAPES = ("Convolution", "FullyConnected")
"""Executed nodes of these types compute exactly one product, so that they have its shapes."""


@dataclass(frozen=True)
class _Execution:
    """The executed graph, and what was measured in all runs.

    Attributes:
        graph: The executed graph (an openvino.Model).
        product_macs: Number of multiply-accumulates of each product of the file, by the name of its
            node.
        first_run_us: Time of each executed node in the first run, in microseconds.
    """

    graph: Any
    product_macs: dict[str, int]
    first_run_us: dict[str, int]


def list_executed_nodes(path: Path, threads: int) -> list[ExecutedNode]:
    """Run an artifact and list the nodes that OpenVINO executed.

    Args:
        path: An OpenVINO IR (.xml) or an .onnx file.
        threads: Number of CPU threads.

    Returns:
        The nodes in the order of execution. A node that computes both a floating-point and an
        integer product is listed twice, with half of its time each.

    Raises:
        ArtifactError: OpenVINO refuses the file, or some multiply-accumulates cannot be counted.
    """
    artifact = read_artifact(path)
    try:
        execution = _execute(path, threads)
    except RuntimeError as error:
        raise load_error(artifact.path, "OpenVINO", error) from error
    nodes = [
        node
        for graph_node in execution.graph.get_ordered_ops()
        for node in _read_node(graph_node, execution)
    ]
    executed_macs = sum(node.macs for node in nodes)
    file_macs = sum(execution.product_macs.values())
    if executed_macs != file_macs:
        raise ArtifactError(
            f"{path.name} has {file_macs} multiply-accumulates, but {executed_macs} were found in"
            " the graph that OpenVINO executed",
            REPORT_REMEDY,
        )
    return nodes


def _execute(path: Path, threads: int) -> _Execution:
    """Run a file with OpenVINO's profiler. Layers that are not int8 run in float32."""
    core = shared_core()
    weight_files = (str(weights_path(path)),) if path.suffix == ".xml" else ()
    model = core.read_model(str(path), *weight_files)
    # Dynamic sizes become 1, so that all shapes are static.
    model.reshape(
        {
            port: [size.get_length() if size.is_static else 1 for size in port.partial_shape]
            for port in model.inputs
        }
    )
    product_macs = {
        node.get_friendly_name(): _count_file_macs(node)
        for node in model.get_ordered_ops()
        if node.get_type_name() in _PRODUCTS
    }
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERF_COUNT": True,
    }
    compiled_model = core.compile_model(model, "CPU", settings)
    request = compiled_model.create_infer_request()
    inputs = [
        random_input(port.shape, np.dtype(port.element_type.to_dtype()).name)
        for port in compiled_model.inputs
    ]
    request.infer(inputs)
    first_run_us = {
        node.get_friendly_name(): time_us
        for node in compiled_model.get_runtime_model().get_ordered_ops()
        if (time_us := _read_time_us(node)) is not None
    }
    for _ in range(RUNS - 1):
        request.infer(inputs)
    return _Execution(compiled_model.get_runtime_model(), product_macs, first_run_us)


def _read_time_us(node: Any) -> int | None:
    """Return the average time of an executed node in all runs so far; None if it did not run."""
    text = str(node.get_rt_info()["execTimeMcs"].astype(str))
    return int(text) if text.isdecimal() else None


def _compute_time_ms(node: Any, execution: _Execution) -> float | None:
    """Return the average time of a node in all runs but the first; None if it did not run."""
    average_us = _read_time_us(node)
    if average_us is None:
        return None
    # The first run is slow, so it is subtracted from the average. Times are rounded down, so that
    # the rest could be negative.
    first_us = execution.first_run_us.get(node.get_friendly_name(), average_us)
    return max(0, RUNS * average_us - first_us) / (RUNS - 1) / 1e3


def _read_node(node: Any, execution: _Execution) -> list[ExecutedNode]:
    """Describe one node of the executed graph.

    Args:
        node: The node (an openvino.Node).
        execution: The products of the file, and the times in the first run.

    Returns:
        Nothing for a node that was not executed; two entries for an attention node with a
        floating-point and an integer product; otherwise one entry.
    """
    facts = {
        key: str(node.get_rt_info()[key].astype(str))
        for key in ("layerType", "primitiveType", "originalLayersNames")
    }
    time_ms = _compute_time_ms(node, execution)
    if time_ms is None:
        return []
    layer = facts["layerType"]
    kernel_name = f"{layer} {facts['primitiveType']}"
    is_input_8bit = [
        port.get_element_type().get_type_name() in ("i8", "u8")
        for port in node.inputs()
        if not _is_constant(port)
    ]
    output_bytes = _count_output_bytes(node)
    if layer in _LAYERS_WITH_OWN_SHAPES:
        macs = _count_executed_macs(node, layer)
        return [ExecutedNode(kernel_name, macs, is_input_8bit[0], time_ms, output_bytes)]
    names = facts["originalLayersNames"].split(",")
    product_macs = execution.product_macs
    fused_macs = [product_macs[name] for name in names if name in product_macs]
    # Element i of `is_product_integer` belongs to the i-th product of the node; for a node with one
    # product, only the first element matters. The first product of an attention node multiplies the
    # first two inputs, the queries and the keys. The second product multiplies the attention
    # weights, which are computed inside the node, by the third input, the values. It is an integer
    # product exactly if the values are 8-bit, because no kernel multiplies 8-bit numbers by
    # floating-point numbers.
    is_product_integer = (all(is_input_8bit[:2]), *is_input_8bit[2:])
    macs_by_type: dict[bool, int] = defaultdict(int)
    for macs, is_integer in zip(fused_macs, is_product_integer):
        macs_by_type[is_integer] += macs
    if not macs_by_type:
        return [ExecutedNode(kernel_name, 0, False, time_ms, output_bytes)]
    share = len(macs_by_type)
    return [
        ExecutedNode(kernel_name, macs, is_integer, time_ms / share, output_bytes // share)
        for is_integer, macs in macs_by_type.items()
    ]


def _is_constant(port: Any) -> bool:
    """Return whether an input of an executed node is a constant."""
    source = port.get_source_output().get_node()
    return str(source.get_rt_info()["layerType"].astype(str)) == "Const"


def _read_shape(port: Any) -> tuple[int, ...]:
    return tuple(port.get_partial_shape().to_shape())


def _count_output_bytes(node: Any) -> int:
    """Return the size of the outputs of an executed node."""
    bits = sum(
        prod(_read_shape(port)) * int(port.get_element_type().bitwidth) for port in node.outputs()
    )
    return bits // 8


def _count_file_macs(node: Any) -> int:
    """Count the multiply-accumulates of a product of the file, whose shapes are all static."""
    input_shape, weight_shape, output_shape = map(_read_shape, (*node.inputs(), node.output(0)))
    if node.get_type_name() == "MatMul":
        summed_axis = -2 if node.get_attributes()["transpose_a"] else -1
        return prod(output_shape) * int(input_shape[summed_axis])
    output_channels = output_shape[1]
    return prod(output_shape) * prod(weight_shape) // output_channels


def _count_executed_macs(node: Any, layer: str) -> int:
    """Count the multiply-accumulates of an executed node from its own shapes.

    OpenVINO may rename such nodes, so that their names do not lead to the file's product.
    """
    input_shape, weight_shape, output_shape = map(_read_shape, (*node.inputs()[:2], node.output(0)))
    if layer == "FullyConnected":
        return prod(output_shape) * int(input_shape[-1])
    output_channels = output_shape[1]
    return prod(output_shape) * (prod(weight_shape) // output_channels)
