"""onnxruntime, by its profile, whose shapes lack the weights that a kernel has packed for itself: those are in the graph it optimized."""

from __future__ import annotations

import json
import statistics
import tempfile
from math import prod
from pathlib import Path
from typing import Any

from tinyvit.bench.onnx_protobuf import OnnxNode, read_graph, with_names
from tinyvit.bench.profilers import RUNS, ExecutedKernel, random_input
from tinyvit.errors import ArtifactError
from tinyvit.runtimes.artifact import detect_format
from tinyvit.runtimes.base import load_error
from tinyvit.runtimes.engines.onnxruntime import ORT

_TO_NUMPY = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}

# onnxruntime's kernels: which input holds a convolution's weights, and which kernels compute in integers.
_CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
_INTEGER_PRODUCTS = (
    "QGemm",
    "QLinearMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
)
_PRODUCTS = ("Gemm", "FusedGemm", "MatMul", "FusedMatMul", *_INTEGER_PRODUCTS)
_INTEGER = ("ConvInteger", "QLinearConv", *_INTEGER_PRODUCTS)
_UNCOUNTED = (
    "Attention",
    "MultiHeadAttention",
    "QAttention",
    "GroupQueryAttention",
    "Einsum",
    "ConvTranspose",
    "MatMulNBits",
)


def executed(path: Path, threads: int) -> list[ExecutedKernel]:
    """See the package."""
    model = path.read_bytes()
    if detect_format(path) is not ORT:  # whose nodes an export has named
        model = with_names(model)
    with tempfile.TemporaryDirectory() as folder:
        events = _profiled(model, threads, Path(folder), path)
        graph = read_graph((Path(folder) / "optimized.onnx").read_bytes())
    parts = []
    for name, (args, times) in events.items():
        kind = args["op_name"]
        if kind in _UNCOUNTED or name not in graph.nodes:
            raise ArtifactError(
                f"the multiply-accumulates of {kind} in {path.name} cannot be counted",
                "report this",
            )
        parts.append(
            ExecutedKernel(
                kind,
                _macs(graph.nodes[name], kind, args, graph.sizes),
                kind in _INTEGER,
                statistics.median(times),
            )
        )
    return parts


def _profiled(
    model: bytes, threads: int, folder: Path, path: Path
) -> dict[str, tuple[dict[str, Any], list[float]]]:
    """Node -> (its profile's args, milliseconds a run); the optimized graph is left in folder/optimized.onnx."""
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
        feed = {
            given.name: random_input(given.shape, _TO_NUMPY[given.type])
            for given in session.get_inputs()
        }
        for _ in range(RUNS):
            session.run(None, feed)
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise load_error(path, "onnxruntime", error) from error
    found: dict[str, tuple[dict[str, Any], list[float]]] = {}
    for event in json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")):
        if event.get("cat") == "OnnxNode" and event["name"].endswith("_kernel_time"):
            found.setdefault(event["name"].removesuffix("_kernel_time"), (event["args"], []))[
                1
            ].append(event["dur"] / 1e3)
    return found


def _macs(
    node: OnnxNode, kind: str, args: dict[str, Any], sizes: dict[str, tuple[int, ...]]
) -> int:
    """Values of the output times the products that each is the sum of; 0 for a kind that multiplies no matrices."""
    given, made = (
        [size for tensor in args[f"{side}_type_shape"] for size in tensor.values()]
        for side in ("input", "output")
    )
    if kind in _CONVOLUTIONS:
        at = _CONVOLUTIONS[kind]
        kernel = (
            sizes.get(node.inputs[at]) or given[at]
        )  # packed away, or made by another node, and in the profile then
        return int(prod(made[0]) * prod(kernel[1:]))
    if kind not in _PRODUCTS:
        return 0
    depth = -1 if not node.numbers.get("transA") else 0 if node.numbers.get("transBatchA") else -2
    return int(prod(made[0]) * given[0][depth])
