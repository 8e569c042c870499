"""Which kernels a file really ran in: the share of its multiply-accumulates that an engine did in integers.

    python -m tinyvit.bench.kernels FILE [--runtime R] [--json]

Read from what the engine says it executed, never from the file's quantize and dequantize nodes: an engine that cannot fuse
them computes in float, and the file looks the same. Counted by shapes, so that the share does not depend on any clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyvit.bench.machine import cpu_facts
from tinyvit.cli import guarded, parser
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.runtimes.artifact import open_artifact
from tinyvit.runtimes.base import load_error
from tinyvit.runtimes.formats.openvino_ir import weights
from tinyvit.runtimes.registry import candidates

_EXAMPLES = """\
  python -m tinyvit.bench.kernels demo-int8.onnx
  python -m tinyvit.bench.kernels demo-int8.onnx --runtime openvino --json"""
_RUNS = 9
_TO_NUMPY = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}

# onnxruntime's kernels: which input holds a convolution's weights, and which kernels compute in integers.
_CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
_INTEGER_PRODUCTS = ("QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
_PRODUCTS = ("Gemm", "FusedGemm", "MatMul", "FusedMatMul", *_INTEGER_PRODUCTS)
_INTEGER = ("ConvInteger", "QLinearConv", *_INTEGER_PRODUCTS)
_UNCOUNTED = ("Attention", "MultiHeadAttention", "QAttention", "GroupQueryAttention", "Einsum", "ConvTranspose", "MatMulNBits")


@dataclass(frozen=True)
class Kernel:
    """All nodes that ran in one kind of kernel: macs for one picture, ms the median over runs, slowed a little by the profiler.

    macs is 0 for kinds that multiply no matrices, and is_integer is then False.
    """

    name: str
    nodes: int
    macs: int
    is_integer: bool
    ms: float


@dataclass(frozen=True)
class KernelShare:
    """What an engine ran a file in: its kernels, the most multiply-accumulates first."""

    engine: str
    kernels: tuple[Kernel, ...]

    @property
    def int8_macs(self) -> int:
        """Multiply-accumulates in integer kernels."""
        return sum(kernel.macs for kernel in self.kernels if kernel.is_integer)

    @property
    def float_macs(self) -> int:
        """Multiply-accumulates in all others."""
        return sum(kernel.macs for kernel in self.kernels if not kernel.is_integer)

    @property
    def share(self) -> float:
        """int8_macs of all, 0 to 1; 0 where there are none."""
        return self.int8_macs / max(1, self.int8_macs + self.float_macs)


class _Part(NamedTuple):
    """What one executed node adds to its kind."""

    kind: str
    macs: int
    is_integer: bool
    ms: float


def integer_share(path: Path, threads: int = 2, runtime: str | None = None) -> KernelShare:
    """Run the file at `path` on noise and count in which kernels; a free batch is 1.

    runtime: "onnxruntime", "openvino", or None for the best installed one for the file's format. Raises RequestError for
    another one, MissingDependencyError (onnx is needed for onnxruntime's), ArtifactError for a file that the engine refuses,
    or whose multiply-accumulates cannot all be found.
    """
    able = candidates(open_artifact(path).format)
    name = runtime or able[0]
    if name not in able or name not in _READERS:
        raise RequestError(
            f"the kernels of {path.name} in {name} are unknown", f"use --runtime {' or '.join(x for x in able if x in _READERS)}"
        )
    kinds: dict[tuple[str, bool], list[_Part]] = defaultdict(list)
    for part in _READERS[name](path, threads):
        kinds[part.kind, part.is_integer].append(part)
    kernels = [
        Kernel(kind, len(parts), sum(part.macs for part in parts), is_integer, sum(part.ms for part in parts))
        for (kind, is_integer), parts in kinds.items()
    ]
    return KernelShare(name, tuple(sorted(kernels, key=lambda kernel: (-kernel.macs, -kernel.ms))))


def countable(path: Path) -> bool:
    """Whether the best installed engine for the file's format tells what it executed."""
    return candidates(open_artifact(path).format)[0] in _READERS


def noise(shape: Iterable[int | str], dtype: str) -> Any:
    """Something to run a network on: pixels for "uint8", else normal numbers; sizes that are free are 1."""
    sizes = [size if isinstance(size, int) and size > 0 else 1 for size in shape]
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, sizes, np.uint8) if dtype == "uint8" else rng.normal(size=sizes).astype(dtype)


def _in_onnxruntime(path: Path, threads: int) -> list[_Part]:
    """By its profile, whose shapes lack the weights that a kernel has packed for itself: those are in the graph it optimised."""
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError.of("onnx", "export") from error
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's and a missing data file's errors have no base in common
        raise load_error(path, "onnx", error) from error
    for i, node in enumerate(model.graph.node):
        node.name = f"node{i}"  # a profile knows nodes by name, which files may leave out or use twice
    with tempfile.TemporaryDirectory() as folder:
        events = _profiled(model.SerializeToString(), threads, Path(folder), path)
        optimised = onnx.load(Path(folder) / "optimised.onnx")
    nodes = {node.name: node for node in optimised.graph.node}
    sizes = {tensor.name: tuple(tensor.dims) for tensor in optimised.graph.initializer}
    parts = []
    for name, (args, times) in events.items():
        kind = args["op_name"]
        if kind in _UNCOUNTED or name not in nodes:
            raise ArtifactError(f"the multiply-accumulates of {kind} in {path.name} cannot be counted", "report this")
        parts.append(_Part(kind, _macs(nodes[name], kind, args, sizes), kind in _INTEGER, statistics.median(times)))
    return parts


def _profiled(model: bytes, threads: int, folder: Path, path: Path) -> dict[str, tuple[dict[str, Any], list[float]]]:
    """Node -> (its profile's args, milliseconds a run); the optimised graph is left in folder/optimised.onnx."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 4
    settings.enable_profiling = True
    settings.profile_file_prefix = str(folder / "profile")
    settings.optimized_model_filepath = str(folder / "optimised.onnx")
    try:
        session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        feed = {given.name: noise(given.shape, _TO_NUMPY[given.type]) for given in session.get_inputs()}
        for _ in range(_RUNS):
            session.run(None, feed)
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise load_error(path, "onnxruntime", error) from error
    found: dict[str, tuple[dict[str, Any], list[float]]] = {}
    for event in json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found.setdefault(event["name"].removesuffix("_kernel_time"), (event["args"], []))[1].append(event["dur"] / 1e3)
    return found


def _macs(node: Any, kind: str, args: dict[str, Any], sizes: dict[str, tuple[int, ...]]) -> int:
    """Values of the output times the products that each is the sum of; 0 for a kind that multiplies no matrices."""
    given, made = ([size for tensor in args[f"{side}_type_shape"] for size in tensor.values()] for side in ("input", "output"))
    if kind in _CONVOLUTIONS:
        at = _CONVOLUTIONS[kind]
        kernel = sizes.get(node.input[at]) or given[at]  # packed away, or made by another node, and in the profile then
        return int(prod(made[0]) * prod(kernel[1:]))
    if kind not in _PRODUCTS:
        return 0
    flags = {attribute.name: attribute.i for attribute in node.attribute}
    depth = -1 if not flags.get("transA") else 0 if flags.get("transBatchA") else -2
    return int(prod(made[0]) * given[0][depth])


def _in_openvino(path: Path, threads: int) -> list[_Part]:
    """By the graph it executed. A kernel that fuses several products, as attention's, names those of the file that it holds."""
    try:
        import openvino as ov
    except ImportError as error:
        raise MissingDependencyError.of("openvino", "openvino") from error
    artifact, core = open_artifact(path), ov.Core()
    beside = () if path.suffix != ".xml" else (str(weights(path)),)
    try:
        model = core.read_model(str(path), *beside)
        model.reshape({port: [size.get_length() if size.is_static else 1 for size in port.partial_shape] for port in model.inputs})
        products = {
            node.get_friendly_name(): _source_macs(node)
            for node in model.get_ordered_ops()
            if node.get_type_name() in ("MatMul", "Convolution", "GroupConvolution")
        }
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERF_COUNT": True}
        compiled = core.compile_model(model, "CPU", settings)
        request = compiled.create_infer_request()
        feed = [noise(port.shape, np.dtype(port.element_type.to_dtype()).name) for port in compiled.inputs]
        for _ in range(_RUNS):
            request.infer(feed)
    except RuntimeError as error:
        raise load_error(artifact.path, "OpenVINO", error) from error
    parts = [part for node in compiled.get_runtime_model().get_ordered_ops() for part in _executed(node, products)]
    found, there = sum(part.macs for part in parts), sum(products.values())
    if found != there:
        raise ArtifactError(f"of the {there} multiply-accumulates of {path.name}, {found} were found in OpenVINO's graph", "report this")
    return parts


def _source_macs(node: Any) -> int:
    """A product of the file, its shapes known."""
    left, right, out = map(_shape, (*node.inputs(), node.output(0)))
    if node.get_type_name() == "MatMul":
        return prod(out) * int(left[-2 if node.get_attributes()["transpose_a"] else -1])
    return prod(out) * prod(right) // out[1]


def _executed(node: Any, products: dict[str, int]) -> list[_Part]:
    """One node of OpenVINO's executed graph: nothing where it did not run, two parts for an attention in two precisions."""
    facts = {key: str(node.get_rt_info()[key].astype(str)) for key in ("layerType", "primitiveType", "execTimeMcs", "originalLayersNames")}
    if not facts["execTimeMcs"].isdigit():
        return []
    kind, ms = f"{facts['layerType']} {facts['primitiveType']}", int(facts["execTimeMcs"]) / 1e3
    small = [port.get_element_type().get_type_name() in ("i8", "u8") for port in node.inputs() if not _is_constant(port)]
    if facts["layerType"] in ("Convolution", "FullyConnected"):
        return [_Part(kind, _own_macs(node, facts["layerType"]), small[0], ms)]
    held = [products[name] for name in facts["originalLayersNames"].split(",") if name in products]
    # The first product's operands come first (queries and keys), then one for each further product (values); where that
    # one is 8-bit, so is what it is multiplied with: there is no kernel for a mixture.
    sums: dict[bool, int] = defaultdict(int)
    for macs, is_integer in zip(held, (all(small[:2]), *small[2:])):
        sums[is_integer] += macs
    return [_Part(kind, macs, is_integer, ms / len(sums)) for is_integer, macs in sums.items()] or [_Part(kind, 0, False, ms)]


def _is_constant(port: Any) -> bool:
    return str(port.get_source_output().get_node().get_rt_info()["layerType"].astype(str)) == "Const"


def _shape(port: Any) -> tuple[int, ...]:
    return tuple(port.get_partial_shape().to_shape())


def _own_macs(node: Any, layer: str) -> int:
    """Of a convolution or linear layer, by the shapes it ran with: its name may have changed on the way."""
    given, weight, out = map(_shape, (*node.inputs()[:2], node.output(0)))
    return prod(out) * (int(given[-1]) if layer == "FullyConnected" else prod(weight) // out[1])


_READERS = {"onnxruntime": _in_onnxruntime, "openvino": _in_openvino}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    made = parser("python -m tinyvit.bench.kernels", "Which kernels a file really ran in, and the share of integers.", _EXAMPLES)
    made.add_argument("file", type=Path, metavar="FILE", help="an exported file (.onnx, .xml)")
    made.add_argument("--runtime", metavar="R", help="the engine: onnxruntime, openvino (the best installed one)")
    made.add_argument("--threads", type=int, default=2, help="CPU threads; default 2")
    made.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    options = made.parse_args(argv)
    return guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    found = integer_share(options.file, options.threads, options.runtime)
    totals = {"share": found.share, "int8_macs": found.int8_macs, "float_macs": found.float_macs}
    if options.json:
        print(json.dumps({"file": str(options.file), "cpu": cpu_facts(), **totals, **asdict(found)}))
        return 0
    print(f"{cpu_facts()}; {found.engine}, {options.threads} threads\n")
    print(f"{found.share:.1%} of {(found.int8_macs + found.float_macs) / 1e6:.0f} million multiply-accumulates ran in integer kernels\n")
    print(f"| {options.file.name} | nodes | million MACs | integer | ms |\n|---|---|---|---|---|")
    for kernel in found.kernels:
        integer = ("yes" if kernel.is_integer else "no") if kernel.macs else ""
        print(f"| {kernel.name} | {kernel.nodes} | {kernel.macs / 1e6:.1f} | {integer} | {kernel.ms:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
