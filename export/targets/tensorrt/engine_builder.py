"""Building a TensorRT plan from an ONNX file, and reading in which precision its layers are.

What TensorRT-RTX plans without a GPU is told by its own log; TensorRT, which has one, is asked by its engine inspector.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.output_capture import silence_file_descriptors
from tinyvit.runtimes import cuda as nvidia

MOST_PICTURES = 16
"""At once, where the batch is left open."""

_LAYER = re.compile(
    r"^Name: (?P<name>.+?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: ",
    re.MULTILINE,
)
_FIRST_TYPE = re.compile(r"Datatype: (\w+)")
_NODES = re.compile(r"\[ONNX Layer: ([^\]]+)\]")


@dataclass(frozen=True)
class EngineLayer:
    """One layer of a plan: its name, what kind of kernel, the type of its first input ("Int8"), the ONNX nodes it stands for."""

    name: str
    kind: str
    first: str
    nodes: tuple[str, ...]

    @property
    def multiplies(self) -> bool:
        """Whether it is a product or convolution; generated kernels ("kgen") compute all else, and attention fused whole."""
        return self.kind != "kgen" or "gemm" in self.name


@dataclass(frozen=True)
class EnginePlan:
    """A serialized engine and its layers."""

    data: bytes
    version: str
    layers: tuple[EngineLayer, ...]

    def integers(self, nodes: Iterable[str]) -> set[str]:
        """Those of the ONNX nodes that a layer multiplies whose first input is of 8-bit integers."""
        found = {
            node
            for layer in self.layers
            if layer.multiplies and layer.first == "Int8"
            for node in layer.nodes
        }
        return found & set(nodes)


@dataclass(frozen=True)
class BuildConfig:
    """Of one build. compute: names as "8.6", empty for the device's own. shape: of the input, without the batch.

    batch: fixed, or None for 1 to MOST_PICTURES. exact: products in float32 proper, not in TF32.
    """

    flavor: nvidia.Flavor
    compute: tuple[str, ...]
    timing_cache: Path | None
    version_compatible: bool
    input: str
    shape: tuple[int, ...]
    batch: int | None
    exact: bool


def build_engine(model: bytes, settings: BuildConfig) -> EnginePlan:
    """Build an ONNX file; raises ArtifactError with TensorRT's first complaint where it refuses."""
    trt: Any = nvidia.import_tensorrt(settings.flavor)
    name, log = nvidia.PRODUCTS[settings.flavor].name, nvidia.make_logger(trt)
    with silence_file_descriptors():
        builder = trt.Builder(log)
        typed = getattr(
            trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None
        )  # from TensorRT 11 on there is nothing else
        network = builder.create_network(0 if typed is None else 1 << int(typed))
        parser = trt.OnnxParser(network, log)
        if not parser.parse(model):
            said = (
                " ".join(parser.get_error(0).desc().split())
                if parser.num_errors
                else nvidia.first_error(trt, log)
            )
            raise ArtifactError(
                f"{name} {trt.__version__} cannot read the network ({said[:300]})",
                "report this, or use another release",
            )
        config = _config(trt, builder, settings)
        data = builder.build_serialized_network(network, config)
    if data is None:
        cause = f"{name} {trt.__version__} cannot build the network ({nvidia.first_error(trt, log)[:300]})"
        raise ArtifactError(cause, "use --float16, or another release, or report this")
    plan = bytes(data)
    if settings.timing_cache is not None:
        settings.timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))
    told = "\n".join(text for _, text in log.lines)
    return EnginePlan(
        plan,
        str(trt.__version__),
        tuple(logged(told) if settings.flavor == "rtx" else _inspected(trt, log, plan)),
    )


def _config(trt: Any, builder: Any, settings: BuildConfig) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = (
        trt.ProfilingVerbosity.DETAILED
    )  # the layers can be inspected; no byte more
    if settings.exact:
        config.clear_flag(trt.BuilderFlag.TF32)
    if settings.compute:
        config.num_compute_capabilities = len(settings.compute)
        for i, compute in enumerate(settings.compute):
            config.set_compute_capability(
                getattr(trt.ComputeCapability, f"SM{compute.replace('.', '')}"), i
            )
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        config.set_flag(
            trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME
        )  # host code, which no loader should run from a file
    if settings.timing_cache is not None:
        known = settings.timing_cache.read_bytes() if settings.timing_cache.is_file() else b""
        if not config.set_timing_cache(config.create_timing_cache(known), False):
            raise RequestError(
                f"{settings.timing_cache} is of another device or release",
                "give another file for the timing cache",
            )
    if settings.batch is None:
        profile = builder.create_optimization_profile()
        profile.set_shape(
            settings.input, *((count, *settings.shape) for count in (1, 1, MOST_PICTURES))
        )
        config.add_optimization_profile(profile)
    return config


def logged(text: str) -> Iterator[EngineLayer]:
    """The layers as TensorRT-RTX logs them, a line each, when it has built a plan."""
    for line in text.splitlines():
        if (match := _LAYER.match(line)) is not None:
            first = _FIRST_TYPE.search(match["inputs"])
            yield EngineLayer(
                match["name"], match["kind"], first[1] if first else "", tuple(_NODES.findall(line))
            )


def _inspected(trt: Any, log: Any, plan: bytes) -> Iterator[EngineLayer]:
    """The layers as TensorRT's engine inspector tells them."""
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:
        raise ArtifactError(
            f"TensorRT cannot open what it built ({nvidia.first_error(trt, log)[:200]})",
            "report this",
        )
    yield from inspected(
        engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    )


def inspected(text: str) -> Iterator[EngineLayer]:
    """The layers in an engine inspector's JSON; of one that gives only their names, nothing."""
    for layer in json.loads(text)["Layers"]:
        if isinstance(layer, dict):
            inputs = layer.get("Inputs") or [{}]
            kind = next(
                (str(value) for key, value in inputs[0].items() if "datatype" in key.lower()), ""
            )  # in 10 with the format
            first = "Int8" if "int8" in kind.lower() else kind
            yield EngineLayer(
                layer["Name"],
                layer.get("LayerType", ""),
                first,
                tuple(_NODES.findall(layer.get("Metadata") or "")),
            )
