"""The profiler of onnxruntime.

Times and most shapes are in onnxruntime's own profile. It lacks the shapes of weights that a kernel
has repacked; they are read from the optimized graph, which onnxruntime writes to a file.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from tinyvit.bench.onnx_protobuf import OnnxGraph, OnnxNode, read_graph, with_unique_node_names
from tinyvit.bench.profilers import RUNS, ExecutedKernel, random_input
from tinyvit.errors import ArtifactError
from tinyvit.runtimes.artifact import detect_format
from tinyvit.runtimes.engine_helpers import load_error
from tinyvit.runtimes.engines.onnxruntime import ORT

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
"""onnxruntime's name of an input type -> name of the numpy dtype."""

# Names of kernels of onnxruntime: those in onnxruntime/core/graph/contrib_ops, and ONNX operators.
_CONVOLUTION_WEIGHT_INPUTS = {
    "Conv": 1,
    "FusedConv": 1,
    "NhwcFusedConv": 1,
    "ConvInteger": 1,
    "QLinearConv": 3,
}
"""Convolution kernel -> index of the input that is its weights."""
_INTEGER_PRODUCTS = (
    "QGemm",
    "QLinearMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
)
_PRODUCTS = ("Gemm", "FusedGemm", "MatMul", "FusedMatMul", *_INTEGER_PRODUCTS)
_INTEGER_KERNELS = ("ConvInteger", "QLinearConv", *_INTEGER_PRODUCTS)
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
    """The entries of one node in onnxruntime's profile.

    Attributes:
        event_args: The field "args" of an entry: the operator's name, and the types and shapes of
            inputs and outputs.
        times_ms: Time of each run.
    """

    event_args: dict[str, Any]
    times_ms: list[float] = field(default_factory=list)


def list_executed_kernels(path: Path, threads: int) -> list[ExecutedKernel]:
    """Run an artifact and list the nodes that onnxruntime executed.

    Args:
        path: An .onnx or .ort file.
        threads: CPU threads.

    Raises:
        ArtifactError: onnxruntime refuses the file, or some multiply-accumulates cannot be counted.
        ValueError: The .onnx file is not an ONNX message.
    """
    model = path.read_bytes()
    if detect_format(path) is not ORT:  # .ort files have unique names from tinyvit-export
        model = with_unique_node_names(model)
    with tempfile.TemporaryDirectory() as folder:
        profiles = _profile_nodes(model, threads, Path(folder), path)
        graph = read_graph((Path(folder) / "optimized.onnx").read_bytes())
    return [_read_kernel(name, profile, graph, path) for name, profile in profiles.items()]


def _read_kernel(name: str, profile: _NodeProfile, graph: OnnxGraph, path: Path) -> ExecutedKernel:
    kind = profile.event_args["op_name"]
    if kind in _UNCOUNTED_KERNELS or name not in graph.nodes:
        raise ArtifactError(
            f"the multiply-accumulates of {kind} in {path.name} cannot be counted",
            "report this as a bug of tinyvit-edge, with the file",
        )
    return ExecutedKernel(
        kind,
        _count_macs(graph.nodes[name], profile.event_args, graph.constant_shapes),
        kind in _INTEGER_KERNELS,
        statistics.median(profile.times_ms),
    )


def _profile_nodes(model: bytes, threads: int, folder: Path, path: Path) -> dict[str, _NodeProfile]:
    """Run a model with onnxruntime's profiler.

    Args:
        model: The serialized model.
        threads: CPU threads.
        folder: An empty folder; the optimized graph is written there as "optimized.onnx".
        path: Path of the model for error messages.

    Returns:
        The profile of each node by its name, in the order of execution.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 4
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
    profiles: dict[str, _NodeProfile] = {}
    for event in json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            profile = profiles.setdefault(name, _NodeProfile(event["args"]))
            profile.times_ms.append(event["dur"] / 1e3)
    return profiles


def _count_macs(
    node: OnnxNode, event_args: dict[str, Any], constant_shapes: dict[str, tuple[int, ...]]
) -> int:
    """Count the multiply-accumulates of a node; 0 if it is not a product."""
    kind = event_args["op_name"]
    input_shapes, output_shapes = (
        [shape for tensor in event_args[f"{side}_type_shape"] for shape in tensor.values()]
        for side in ("input", "output")
    )
    if kind in _CONVOLUTION_WEIGHT_INPUTS:
        index = _CONVOLUTION_WEIGHT_INPUTS[kind]
        # Only the graph has the shapes of repacked weights, which are constants. Only the profile
        # has the shapes of weights that another node computes.
        weight_shape = constant_shapes.get(node.inputs[index]) or input_shapes[index]
        return int(prod(output_shapes[0]) * prod(weight_shape[1:]))
    if kind not in _PRODUCTS:
        return 0
    depth_axis = -1
    if node.int_attributes.get("transA"):
        depth_axis = 0 if node.int_attributes.get("transBatchA") else -2
    return int(prod(output_shapes[0]) * input_shapes[0][depth_axis])
