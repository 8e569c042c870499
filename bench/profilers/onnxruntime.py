"""Implements the profiler of onnxruntime.

The times and most shapes are in onnxruntime's own profile. The profile lacks the shapes of weights
that a kernel has repacked. These shapes are read from the optimized graph, which onnxruntime writes
to a file.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from tinyvit.bench.onnx_protobuf import OnnxGraph, OnnxNode, read_graph, with_unique_node_names
from tinyvit.bench.profilers import REPORT_REMEDY, RUNS, ExecutedNode, random_input
from tinyvit.errors import ArtifactError
from tinyvit.files.staging import temporary_folder
from tinyvit.runtimes.artifact import detect_format
from tinyvit.runtimes.engine_helpers import load_error
from tinyvit.runtimes.formats.ort import ORT
from tinyvit.serialization import read_json

_ITEM_BYTES = {"int64": 8, "double": 8, "float": 4, "int32": 4, "float16": 2}
"""onnxruntime's name of an element type in a profile -> bytes of an element; all others have 1."""
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
"""onnxruntime's name of an input type -> name of the numpy dtype."""

# onnxruntime's kernels have the names of ONNX operators, or of its own operators, which are defined
# in onnxruntime/core/graph/contrib_ops of its repository.
_CONVOLUTION_WEIGHT_INPUTS = {
    "Conv": 1,
    "FusedConv": 1,
    "NhwcFusedConv": 1,
    "ConvInteger": 1,
    "QLinearConv": 3,
}
"""Name of a convolution kernel -> index of the node's input that contains the weights."""
_INTEGER_MATRIX_PRODUCTS = (
    "QGemm",
    "QLinearMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
)
_MATRIX_PRODUCTS = ("Gemm", "FusedGemm", "MatMul", "FusedMatMul", *_INTEGER_MATRIX_PRODUCTS)
_INTEGER_KERNELS = ("ConvInteger", "QLinearConv", *_INTEGER_MATRIX_PRODUCTS)
_MAX_PROFILE_BYTES = 256 * 2**20
"""Largest profile that is read. That of a network of 10,000 nodes has a tenth of it."""
_MAX_PROFILE_NUMBER = 1e15
"""Largest size of an axis, or time in microseconds, in a profile."""
_UNCOUNTED_KERNELS = (
    "Attention",
    "MultiHeadAttention",
    "QAttention",
    "GroupQueryAttention",
    "Einsum",
    "ConvTranspose",
    "MatMulNBits",
)
"""Kernels whose multiply-accumulates this module cannot count."""


@dataclass
class _NodeProfile:
    """The entries of one node in onnxruntime's profile, which has one entry per node and run.

    Attributes:
        event_args: Value of "args" in the first entry: the kernel's name ("op_name"), and the types
            and shapes of inputs and outputs.
        times_ms: Time of the node in each run.
    """

    event_args: dict[str, Any]
    times_ms: list[float] = field(default_factory=list)


def list_executed_nodes(path: Path, threads: int) -> list[ExecutedNode]:
    """Run an artifact and list the nodes that onnxruntime executed.

    Args:
        path: An .onnx or .ort file.
        threads: Number of CPU threads.

    Returns:
        The nodes in the order of execution.

    Raises:
        ArtifactError: onnxruntime refuses the file, or some multiply-accumulates cannot be counted.
        ValueError: The .onnx file does not contain an ONNX model.
    """
    model = path.read_bytes()
    if detect_format(path) is not ORT:  # in .ort files, tinyvit-export made the names unique
        model = with_unique_node_names(model)
    with temporary_folder() as folder:
        profiles = _profile_nodes(model, threads, folder, path)
        graph = read_graph((folder / "optimized.onnx").read_bytes())
    return [_make_node(name, profile, graph, path) for name, profile in profiles.items()]


def _make_node(name: str, profile: _NodeProfile, graph: OnnxGraph, path: Path) -> ExecutedNode:
    """Combine what the profile and the optimized graph state about a node."""
    kernel_name = profile.event_args["op_name"]
    if kernel_name in _UNCOUNTED_KERNELS or name not in graph.nodes:
        raise ArtifactError(
            f"the multiply-accumulates of {kernel_name} in {path.name} cannot be counted",
            REPORT_REMEDY,
        )
    try:
        macs = _count_macs(graph.nodes[name], profile.event_args, graph.constant_shapes)
    except IndexError as error:
        raise ArtifactError(
            f"onnxruntime's profile of {path.name} states no shapes of {kernel_name}",
            "export the file again",
        ) from error
    return ExecutedNode(
        kernel_name=kernel_name,
        macs=macs,
        is_integer=kernel_name in _INTEGER_KERNELS,
        time_ms=statistics.median(profile.times_ms),
        output_bytes=_count_bytes(profile.event_args["output_type_shape"]),
    )


def _profile_nodes(model: bytes, threads: int, folder: Path, path: Path) -> dict[str, _NodeProfile]:
    """Run a model with onnxruntime's profiler.

    Args:
        model: The serialized model.
        threads: Number of CPU threads.
        folder: An empty folder; the optimized graph is written there as "optimized.onnx".
        path: Path of the model, for error messages.

    Returns:
        The profile of each node by its name, in the order of execution.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 4  # only fatal errors
    settings.enable_profiling = True
    settings.profile_file_prefix = str(folder / "profile")
    settings.optimized_model_filepath = str(folder / "optimized.onnx")
    settings.add_session_config_entry("session.save_model_format", "ONNX")
    try:
        session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        inputs = {
            spec.name: random_input(spec.shape, _DTYPES[spec.type]) for spec in session.get_inputs()
        }
        for _ in range(RUNS):
            session.run(None, inputs)
    except Exception as error:  # the errors of onnxruntime have no base class of their own
        raise load_error(path, "onnxruntime", error) from error
    return parse_profile(Path(session.end_profiling()), path)


def parse_profile(profile_path: Path, path: Path) -> dict[str, _NodeProfile]:
    """Read a profile that onnxruntime wrote.

    onnxruntime writes the names of nodes into the JSON as they are, so that a hostile model can
    damage it.

    Args:
        profile_path: The JSON file.
        path: Path of the model, for error messages.

    Returns:
        The profile of each node by its name, in the order of execution.

    Raises:
        ArtifactError: The file is damaged.
    """
    profiles: dict[str, _NodeProfile] = {}
    try:
        for event in read_json(profile_path, _MAX_PROFILE_BYTES):
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                name = event["name"].removesuffix("_kernel_time")
                profile = profiles.setdefault(name, _NodeProfile(_check_event_args(event["args"])))
                # The profile states microseconds.
                profile.times_ms.append(_check_number(event["dur"]) / 1e3)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"onnxruntime's profile of {path.name} cannot be read ({type(error).__name__}:"
            f" {error})",
            "export the file again; names of nodes may not contain quotes",
        ) from error
    return profiles


def _check_event_args(event_args: Any) -> dict[str, Any]:
    """Return the value of "args" of an event; raise an error if it describes no node."""
    if not isinstance(event_args["op_name"], str):
        raise TypeError("the name of an operator is not text")
    for key in ("input_type_shape", "output_type_shape"):
        for shape in _list_shapes(event_args[key]):
            for size in shape:
                _check_number(size)
    return dict(event_args)


def _check_number(value: Any) -> float:
    """Return a number of a profile; raise an error if it is none, or is not from 0 to 10^15."""
    if type(value) not in (int, float) or not 0 <= value <= _MAX_PROFILE_NUMBER:
        raise ValueError("a size or a time is out of range")
    return float(value)


def _count_macs(
    node: OnnxNode, event_args: dict[str, Any], constant_shapes: dict[str, tuple[int, ...]]
) -> int:
    """Count the multiply-accumulates of a node; 0 if it is not a product."""
    kernel_name = event_args["op_name"]
    input_shapes = _list_shapes(event_args["input_type_shape"])
    output_shapes = _list_shapes(event_args["output_type_shape"])
    if kernel_name in _CONVOLUTION_WEIGHT_INPUTS:
        index = _CONVOLUTION_WEIGHT_INPUTS[kernel_name]
        # Constant weights may be repacked, and then only the graph states their shape. If another
        # node computes the weights, only the profile states it.
        weight_shape = constant_shapes.get(node.inputs[index]) or input_shapes[index]
        return int(prod(output_shapes[0]) * prod(weight_shape[1:]))
    if kernel_name not in _MATRIX_PRODUCTS:
        return 0
    summed_axis = -1
    if node.int_attributes.get("transA"):
        # With transBatchA, the batch axes of FusedMatMul's first input follow the summed axis.
        summed_axis = 0 if node.int_attributes.get("transBatchA") else -2
    return int(prod(output_shapes[0]) * input_shapes[0][summed_axis])


def _list_shapes(tensors: list[dict[str, list[int]]]) -> list[list[int]]:
    """Return the shapes of tensors, each of which the profile describes as {dtype: shape}."""
    return [shape for tensor in tensors for shape in tensor.values()]


def _count_bytes(tensors: list[dict[str, list[int]]]) -> int:
    """Return the size of all tensors, which the profile describes as {dtype: shape}."""
    return sum(
        int(prod(shape)) * _ITEM_BYTES.get(dtype, 1)
        for tensor in tensors
        for dtype, shape in tensor.items()
    )
