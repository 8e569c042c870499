"""ExecuTorch, by its event trace.

XNNPACK's events name the kernel that ran and its types, in the order of its graph's nodes, which have the shapes.
"""

from __future__ import annotations

import json
import re
import statistics
import struct
import tempfile
from importlib import resources
from math import prod
from pathlib import Path
from typing import Any

from tinyvit.bench.profilers import RUNS, ExecutedKernel, random_input
from tinyvit.errors import ArtifactError, MissingDependencyError
from tinyvit.output_capture import quiet_loggers, silence_file_descriptors
from tinyvit.runtimes.artifact import open_artifact
from tinyvit.runtimes.base import RuntimeOptions, load_error
from tinyvit.runtimes.registry import open_runtime

_PRODUCTS = {
    "XNNFullyConnected": ("Fully Connected",),
    "XNNConv2d": ("Convolution", "Fully Connected"),  # 1 x 1 is run as a linear layer
    "XNNDepthwiseConv2d": ("Convolution",),
    "XNNBatchMatrixMultiply": ("Batch Matrix Multiply",),
}
"""XNNPACK's nodes, and how its kernels for them may be called."""
_KERNELS = ("Fully Connected", "Convolution", "Deconvolution", "Batch Matrix Multiply")
_HEADER = re.compile(rb"XH00\x1e\x00")
"""Of a graph of XNNPACK's in a file (executorch, backends/xnnpack/serialization)."""


def executed(path: Path, threads: int) -> list[ExecutedKernel]:
    """See the package."""
    data = path.read_bytes()
    todo, parts = _products(data), []
    for event in _events(path, data, threads):
        kind, macs = event.name.rpartition(" #")[0], 0
        if kind.startswith(_KERNELS):
            if not todo or not kind.startswith(todo[0][0]):
                raise ArtifactError(
                    f"{kind} in {path.name} is not where its graph has it", "report this"
                )
            macs = todo.pop(0)[1]
        parts.append(
            ExecutedKernel(
                kind,
                macs,
                bool(macs) and bool(re.search("Q[SCU]8", kind)),
                statistics.median(event.perf_data.raw),
            )
        )
    if todo:
        raise ArtifactError(
            f"{len(todo)} products of {path.name} did not run in XNNPACK", "report this"
        )
    return parts


def _events(path: Path, data: bytes, threads: int) -> list[Any]:
    """What XNNPACK ran, in order."""
    with silence_file_descriptors(), quiet_loggers("torch", "torchao", "executorch", "root"):
        try:
            import torch
            from executorch.devtools import Inspector
            from executorch.extension.pybindings import portable_lib as sdk
        except ImportError as error:
            raise MissingDependencyError.of("executorch", "executorch") from error
        with open_runtime(
            open_artifact(path), "executorch", RuntimeOptions(threads=threads)
        ) as runtime:  # its checks, and its threads
            feed = [
                torch.from_numpy(random_input(given.shape, given.dtype)) for given in runtime.inputs
            ]
            try:
                module = sdk._load_for_executorch_from_buffer(data, enable_etdump=True)
                for _ in range(RUNS):
                    module.forward(feed)
            except RuntimeError as error:
                raise load_error(path, "ExecuTorch", error) from error
            with tempfile.TemporaryDirectory() as folder:
                module.write_etdump_result_to_file(f"{folder}/trace.etdp")
                blocks = Inspector(etdump_path=f"{folder}/trace.etdp").event_blocks
    events = (event for block in blocks for event in block.events)
    return [
        event
        for event in events
        if event.perf_data is not None and " " in event.name and event.is_delegated_op
    ]


def _products(data: bytes) -> list[tuple[tuple[str, ...], int]]:
    """(names of kernels, multiply-accumulates) of the nodes of all XNNPACK graphs in a file, in their order."""
    found = []
    for header in _HEADER.finditer(data):
        start, size = struct.unpack_from("<II", data, header.start() + 6)
        at = header.start() - 4 + start
        graph = _graph(data[at : at + size])
        shapes: dict[int, list[int]] = {}
        for value in graph["xvalues"]:
            tensor = value["xvalue_union"].get("tensor_value", value["xvalue_union"])
            shapes[tensor["id_out"]] = tensor["dims"]
        for node in graph["xnodes"]:
            kind, of = node["xnode_union_type"], node["xnode_union"]
            if kind in _PRODUCTS:
                given, weight = (
                    shapes[of["input1_id"]],
                    shapes[of["filter_id" if "filter_id" in of else "input2_id"]],
                )
                depth = (
                    given[-1]
                    if not kind.endswith("2d")
                    else weight[1] * weight[2] * (weight[3] if kind == "XNNConv2d" else 1)
                )
                found.append((_PRODUCTS[kind], prod(shapes[of["output_id"]]) * depth))
    return found


def _graph(data: bytes) -> dict[str, Any]:
    """A graph of XNNPACK's, read with the SDK's own flatc and schema."""
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    schema = resources.files("executorch.backends.xnnpack.serialization").joinpath(
        "runtime_schema.fbs"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "graph.fbs").write_bytes(schema.read_bytes())
        Path(folder, "graph.bin").write_bytes(data)
        _flatc_decompile(folder, f"{folder}/graph.fbs", f"{folder}/graph.bin", ["--raw-binary"])
        graph: dict[str, Any] = json.loads(Path(folder, "graph.json").read_text(encoding="utf-8"))
    return graph
