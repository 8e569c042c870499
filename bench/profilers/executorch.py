"""Implements the profiler of ExecuTorch.

ExecuTorch's event trace lists the kernels that XNNPACK executed, with their data types but without
shapes. The events are in the order of the nodes of the XNNPACK graphs in the file. Each event is
therefore matched to its node, and the multiply-accumulates are computed from the node's shapes.
Nodes that perform multiply-accumulates (linear layers, convolutions, matrix products) are called
products here.
"""

from __future__ import annotations

import re
import statistics
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

from tinyvit.bench.profilers import REPORT_REMEDY, RUNS, ExecutedNode, random_input
from tinyvit.errors import ArtifactError, MissingDependencyError
from tinyvit.files.staging import temporary_folder
from tinyvit.processes.limited_program import ProcessLimitError, RunLimits, run_bounded
from tinyvit.processes.output_capture import quiet_loggers, silence_file_descriptors
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engine_helpers import load_error
from tinyvit.runtimes.registry import open_runtime
from tinyvit.serialization import read_json

_KERNEL_PREFIXES = {
    "XNNFullyConnected": ("Fully Connected",),
    "XNNConv2d": ("Convolution", "Fully Connected"),  # a 1 x 1 kernel runs as a linear layer
    "XNNDepthwiseConv2d": ("Convolution",),
    "XNNBatchMatrixMultiply": ("Batch Matrix Multiply",),
}
"""Type of a product node in an XNNPACK graph -> beginnings of the names of its possible kernels."""
_PRODUCT_KERNELS = ("Fully Connected", "Convolution", "Deconvolution", "Batch Matrix Multiply")
"""Beginnings of the names of all kernels that perform multiply-accumulates."""
_INTEGER_TYPES = re.compile("Q[SCU]8")
"""XNNPACK's names of quantized 8-bit data types, which are part of the kernels' names."""
_GRAPH_HEADER = re.compile(rb"XH00\x1e\x00")
"""Magic number ("XH00") and size (30, a uint16) of the header of an XNNPACK graph in a .pte file.

The offset and the size of the graph's FlatBuffer follow, each as a uint32 (source: ExecuTorch,
backends/xnnpack/serialization/xnnpack_graph_serialize.py).
"""
_MAX_GRAPHS = 256
"""Largest number of XNNPACK graphs in a file. A process is started for each of them."""
_MAX_GRAPH_BYTES = 2**24
"""Largest size of an XNNPACK graph, which contains no weights."""
_MAX_RANK = 6
"""XNNPACK's largest number of dimensions of a tensor (XNN_MAX_TENSOR_DIMS in xnnpack.h)."""
_FLATC_OPTIONS = ("--raw-binary", "--json", "--defaults-json", "--strict-json")
"""Options with which flatc, the compiler of FlatBuffers, writes all fields of a file as JSON."""
_MAX_JSON_BYTES = 2**26
"""Largest size of a graph as JSON. A graph can contain one table many times, so that its JSON is
larger than the graph; that of a TinyViT has 300 kB."""
_FLATC_LIMITS = RunLimits(seconds=60, output_bytes=2**20, file_bytes=_MAX_JSON_BYTES)
"""Limits on flatc, which takes less than a second."""
_MAGIC_POSITION = 4
"""Position of the magic number in the header, in bytes."""


@dataclass(frozen=True)
class _Product:
    """A product node of an XNNPACK graph (see the module).

    Attributes:
        kernel_prefixes: Beginnings of the names of the kernels that may execute the node.
        macs: Number of multiply-accumulates of the node.
    """

    kernel_prefixes: tuple[str, ...]
    macs: int


def list_executed_nodes(path: Path, threads: int) -> list[ExecutedNode]:
    """Run an artifact and list the kernels that XNNPACK executed.

    Args:
        path: A .pte file.
        threads: Number of CPU threads.

    Returns:
        The kernels in the order of execution, each as the node that it executed.

    Raises:
        ArtifactError: ExecuTorch refuses the file, or the kernels do not match its graphs.
        MissingDependencyError: ExecuTorch is not installed.
    """
    data = path.read_bytes()
    remaining_products = read_products(data, path.name)
    nodes = []
    for event in _run_with_profiler(path, data, threads):
        # The name of an event is that of the kernel, followed by " #" and a number.
        kernel_name, macs = event.name.rpartition(" #")[0], 0
        if kernel_name.startswith(_PRODUCT_KERNELS):
            if not remaining_products or not kernel_name.startswith(
                remaining_products[0].kernel_prefixes
            ):
                raise ArtifactError(
                    f"ExecuTorch executed the kernel {kernel_name} of {path.name} in another order"
                    " than the file's graph states",
                    REPORT_REMEDY,
                )
            macs = remaining_products.pop(0).macs
        is_integer = macs > 0 and _INTEGER_TYPES.search(kernel_name) is not None
        time_ms = statistics.median(event.perf_data.raw)  # the Inspector converts to milliseconds
        nodes.append(ExecutedNode(kernel_name, macs, is_integer, time_ms))
    if remaining_products:
        raise ArtifactError(
            f"{len(remaining_products)} products of {path.name} did not run in XNNPACK",
            REPORT_REMEDY,
        )
    return nodes


def _run_with_profiler(path: Path, data: bytes, threads: int) -> list[Any]:
    """Run a file with ExecuTorch's profiler.

    Args:
        path: Path of the file.
        data: Content of the file.
        threads: Number of CPU threads.

    Returns:
        The `executorch.devtools.inspector.Event` of each executed XNNPACK kernel, in order.
    """
    with silence_file_descriptors(), quiet_loggers("torch", "torchao", "executorch", "root"):
        try:
            import torch
            from executorch.extension.pybindings import portable_lib
        except ImportError as error:
            raise MissingDependencyError.for_package("executorch", extra="executorch") from error
        artifact, options = read_artifact(path), RuntimeOptions(threads=threads)
        # Opening the runtime checks the file and sets the number of threads of the process.
        with open_runtime(artifact, "executorch", options) as runtime:
            inputs = [
                torch.from_numpy(random_input(spec.shape, spec.dtype)) for spec in runtime.inputs
            ]
            try:
                module = portable_lib._load_for_executorch_from_buffer(data, enable_etdump=True)
                for _ in range(RUNS):
                    module.forward(inputs)
            except RuntimeError as error:
                raise load_error(path, "ExecuTorch", error) from error
            with temporary_folder() as folder:
                module.write_etdump_result_to_file(str(folder / "trace.etdp"))
                return read_trace(folder / "trace.etdp", path.name)


def read_trace(trace: Path, file_name: str) -> list[Any]:
    """Read the events of XNNPACK's kernels in an event trace of ExecuTorch (ETDump).

    Args:
        trace: The trace.
        file_name: Name of the .pte file, for messages.

    Returns:
        The `executorch.devtools.inspector.Event` of each executed XNNPACK kernel, in order.

    Raises:
        ArtifactError: The trace is damaged.
    """
    from executorch.devtools import Inspector

    try:
        blocks = Inspector(etdump_path=str(trace)).event_blocks
    except Exception as error:  # flatbuffers and the Inspector raise errors of many kinds
        raise ArtifactError(
            f"ExecuTorch's trace of {file_name} cannot be read ({type(error).__name__})",
            "export the file again",
        ) from error
    # Only the names of XNNPACK's kernels contain a space.
    return [
        event
        for block in blocks
        for event in block.events
        if event.perf_data is not None and " " in event.name and event.is_delegated_op
    ]


def read_products(data: bytes, file_name: str) -> list[_Product]:
    """Read the products of all XNNPACK graphs in a .pte file, in the order of the file.

    Args:
        data: Content of the file.
        file_name: Name of the file, for messages.

    Raises:
        ArtifactError: A graph is damaged, or larger than a limit of this module.
    """
    headers = list(islice(_GRAPH_HEADER.finditer(data), _MAX_GRAPHS + 1))
    try:
        if len(headers) > _MAX_GRAPHS:
            raise ValueError(f"there are more than {_MAX_GRAPHS} graphs")
        return [
            product
            for header in headers
            for product in _iterate_products(_decode_graph(_extract_graph(data, header)))
        ]
    # The schema's names may be missing, and flatc may fail or reach a limit.
    except (LookupError, TypeError, AttributeError, ValueError, OSError, struct.error) as error:
        raise ArtifactError(
            f"the XNNPACK graphs of {file_name} are damaged ({type(error).__name__}: {error})",
            "export the file again",
        ) from error


def _extract_graph(data: bytes, header: re.Match[bytes]) -> bytes:
    """Return the FlatBuffer that follows the header of an XNNPACK graph.

    Args:
        data: Content of the .pte file.
        header: Match of `_GRAPH_HEADER` in the file.
    """
    offset, size = struct.unpack_from("<II", data, header.end())
    if size > _MAX_GRAPH_BYTES:
        raise ValueError("a graph is too large")
    start = header.start() - _MAGIC_POSITION + offset
    return data[start : start + size]


def _decode_graph(data: bytes) -> dict[str, Any]:
    """Decode an XNNPACK graph with ExecuTorch's own flatc and schema."""
    from executorch.exir._serialize._flatbuffer import _get_flatc_path

    schema = resources.files("executorch.backends.xnnpack.serialization").joinpath(
        "runtime_schema.fbs"
    )
    with temporary_folder() as folder:
        schema_file, graph_file = folder / "graph.fbs", folder / "graph.bin"
        schema_file.write_bytes(schema.read_bytes())
        graph_file.write_bytes(data)
        command = [_get_flatc_path(), *_FLATC_OPTIONS, "-o", str(folder)]
        command += [str(schema_file), "--", str(graph_file)]
        try:
            process = run_bounded(command, _FLATC_LIMITS)
        except ProcessLimitError as error:
            raise ValueError(f"flatc {error}") from error
        if process.exit_code:
            raise ValueError(f"flatc ended with the exit code {process.exit_code}")
        graph: dict[str, Any] = read_json(folder / "graph.json", _MAX_JSON_BYTES)
    return graph


def _iterate_products(graph: dict[str, Any]) -> Iterator[_Product]:
    """Iterate over the product nodes of a decoded graph."""
    shapes: dict[int, list[int]] = {}
    for value in graph["xvalues"]:
        # A quantized tensor contains its shape one level deeper, in "tensor_value".
        tensor = value["xvalue_union"].get("tensor_value", value["xvalue_union"])
        if len(tensor["dims"]) > _MAX_RANK:
            raise ValueError(f"a tensor has more than {_MAX_RANK} dimensions")
        shapes[tensor["id_out"]] = tensor["dims"]
    for node in graph["xnodes"]:
        node_type, fields = node["xnode_union_type"], node["xnode_union"]
        if node_type not in _KERNEL_PREFIXES:
            continue
        weight_id = fields["filter_id"] if "filter_id" in fields else fields["input2_id"]
        input_shape, weight_shape = shapes[fields["input1_id"]], shapes[weight_id]
        if node_type == "XNNConv2d":  # weights: (output channels, height, width, input channels)
            macs_per_output = prod(weight_shape[1:4])
        elif node_type == "XNNDepthwiseConv2d":  # weights: (1, height, width, channels)
            macs_per_output = prod(weight_shape[1:3])
        else:
            macs_per_output = input_shape[-1]
        macs = prod(shapes[fields["output_id"]]) * macs_per_output
        yield _Product(_KERNEL_PREFIXES[node_type], macs)
