"""OpenVINO, by the graph it executed. A kernel that fuses several products, as attention's, names those of the file that it holds."""

from __future__ import annotations

from collections import defaultdict
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tinyvit.bench.profilers import RUNS, ExecutedKernel, random_input
from tinyvit.errors import ArtifactError
from tinyvit.runtimes.artifact import open_artifact
from tinyvit.runtimes.base import load_error
from tinyvit.runtimes.engines.openvino import shared_core
from tinyvit.runtimes.formats.openvino_ir import weights_path


def executed(path: Path, threads: int) -> list[ExecutedKernel]:
    """See the package."""
    artifact, core = open_artifact(path), shared_core()
    beside = () if path.suffix != ".xml" else (str(weights_path(path)),)
    try:
        model = core.read_model(str(path), *beside)
        model.reshape(
            {
                port: [size.get_length() if size.is_static else 1 for size in port.partial_shape]
                for port in model.inputs
            }
        )
        products = {
            node.get_friendly_name(): _source_macs(node)
            for node in model.get_ordered_ops()
            if node.get_type_name() in ("MatMul", "Convolution", "GroupConvolution")
        }
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERF_COUNT": True,
        }
        compiled = core.compile_model(model, "CPU", settings)
        request = compiled.create_infer_request()
        feed = [
            random_input(port.shape, np.dtype(port.element_type.to_dtype()).name)
            for port in compiled.inputs
        ]
        for _ in range(RUNS):
            request.infer(feed)
    except RuntimeError as error:
        raise load_error(artifact.path, "OpenVINO", error) from error
    parts = [
        part
        for node in compiled.get_runtime_model().get_ordered_ops()
        for part in _parts(node, products)
    ]
    found, there = sum(part.macs for part in parts), sum(products.values())
    if found != there:
        raise ArtifactError(
            f"of the {there} multiply-accumulates of {path.name}, {found} were found in OpenVINO's graph",
            "report this",
        )
    return parts


def _source_macs(node: Any) -> int:
    """A product of the file, its shapes known."""
    left, right, out = map(_shape, (*node.inputs(), node.output(0)))
    if node.get_type_name() == "MatMul":
        return prod(out) * int(left[-2 if node.get_attributes()["transpose_a"] else -1])
    return prod(out) * prod(right) // out[1]


def _parts(node: Any, products: dict[str, int]) -> list[ExecutedKernel]:
    """One node of OpenVINO's executed graph: nothing where it did not run, two parts for an attention in two precisions."""
    facts = {
        key: str(node.get_rt_info()[key].astype(str))
        for key in ("layerType", "primitiveType", "execTimeMcs", "originalLayersNames")
    }
    if not facts["execTimeMcs"].isdigit():
        return []
    kind, ms = f"{facts['layerType']} {facts['primitiveType']}", int(facts["execTimeMcs"]) / 1e3
    small = [
        port.get_element_type().get_type_name() in ("i8", "u8")
        for port in node.inputs()
        if not _is_constant(port)
    ]
    if facts["layerType"] in ("Convolution", "FullyConnected"):
        return [ExecutedKernel(kind, _own_macs(node, facts["layerType"]), small[0], ms)]
    held = [products[name] for name in facts["originalLayersNames"].split(",") if name in products]
    # The first product's operands come first (queries and keys), then one for each further product (values); where that
    # one is 8-bit, so is what it is multiplied with: there is no kernel for a mixture.
    sums: dict[bool, int] = defaultdict(int)
    for macs, is_integer in zip(held, (all(small[:2]), *small[2:])):
        sums[is_integer] += macs
    return [
        ExecutedKernel(kind, macs, is_integer, ms / len(sums)) for is_integer, macs in sums.items()
    ] or [ExecutedKernel(kind, 0, False, ms)]


def _is_constant(port: Any) -> bool:
    return (
        str(port.get_source_output().get_node().get_rt_info()["layerType"].astype(str)) == "Const"
    )


def _shape(port: Any) -> tuple[int, ...]:
    return tuple(port.get_partial_shape().to_shape())


def _own_macs(node: Any, layer: str) -> int:
    """Of a convolution or linear layer, by the shapes it ran with: its name may have changed on the way."""
    given, weight, out = map(_shape, (*node.inputs()[:2], node.output(0)))
    return prod(out) * (int(given[-1]) if layer == "FullyConnected" else prod(weight) // out[1])
