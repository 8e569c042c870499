"""Builds a TensorRT engine from an ONNX model, and reads the precision of the engine's layers.

TensorRT calls a compiled network an engine; in this folder, an engine is such a compiled network.

There are two flavors. TensorRT-RTX builds without a GPU and reports the layers only in its log.
Classic TensorRT builds on a GPU and reports the layers through its engine inspector.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.export.targets.tensorrt.options import TensorRtOptions
from tinyvit.processes.output_capture import silence_file_descriptors
from tinyvit.runtimes import cuda

MAX_DYNAMIC_BATCH = 16
"""Largest number of images per call of an engine with a dynamic batch."""

_LAYER_PATTERN = re.compile(
    r"Name: (?P<name>.+?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: "
)
"""Pattern of a line about one layer in the log of TensorRT-RTX's builder."""

_TYPE_PATTERN = re.compile(r"Datatype: (\w+)")
"""Pattern of the type of one input in such a line."""

_NODE_PATTERN = re.compile(r"\[ONNX Layer: ([^\[\]]+)\]")
"""Pattern of the name of one ONNX node that a layer computes, in the log and in the inspector's
JSON."""

_PRODUCT_KINDS = ("conv", "correlation", "fusion", "gemm", "matrixmultiply")
"""Parts of the kinds of layers that multiply matrices: "gemm", "correlation" (a convolution) and
"runtime_fusion" in TensorRT-RTX, kinds such as "CaskConvolution" in classic TensorRT."""

_MAX_MESSAGE_CHARACTERS = 300
"""Largest number of characters of TensorRT's error message that are shown."""


@dataclass(frozen=True)
class EngineLayer:
    """One layer of an engine.

    Attributes:
        name: TensorRT's name of the layer.
        kind: Kind of kernel, such as "gemm".
        input_type: Type of the first input: "Int8", or TensorRT's words for any other type, such as
            "Half"; "" if TensorRT lists no type.
        onnx_nodes: Names of the ONNX nodes that the layer computes.
    """

    name: str
    kind: str
    input_type: str
    onnx_nodes: tuple[str, ...]

    @property
    def multiplies_matrices(self) -> bool:
        """Return whether the layer is a matrix product or a convolution.

        A layer of the kind "kgen" has a kernel that TensorRT generated, such as fused attention. It
        is a matrix product only if its name contains "gemm". Layers that only copy or convert
        values, such as "Reformat", are of other kinds.
        """
        if self.kind == "kgen":
            return "gemm" in self.name
        return any(part in self.kind.lower() for part in _PRODUCT_KINDS)


@dataclass(frozen=True)
class EnginePlan:
    """A built engine.

    Attributes:
        data: The serialized engine.
        version: Version of the TensorRT that built it.
        layers: The engine's layers.
    """

    data: bytes
    version: str
    layers: tuple[EngineLayer, ...]

    def find_int8_nodes(self, nodes: Iterable[str]) -> set[str]:
        """Find the ONNX nodes that the engine computes in 8-bit integers.

        Args:
            nodes: Names of the nodes to look for.

        Returns:
            The nodes computed by a matrix product or convolution whose first input is int8.
        """
        int8_nodes = {
            node
            for layer in self.layers
            if layer.multiplies_matrices and layer.input_type == "Int8"
            for node in layer.onnx_nodes
        }
        return int8_nodes & set(nodes)


@dataclass(frozen=True)
class BuildConfig:
    """The settings of one engine build.

    Attributes:
        options: The flavor, the devices and the flavor's own options.
        input_name: Name of the network's input.
        image_shape: Shape of the input without the batch axis.
        batch: Images per call; None for a dynamic batch of 1 to `MAX_DYNAMIC_BATCH`.
        allow_tf32: Whether float32 products may be computed in TF32.
    """

    options: TensorRtOptions
    input_name: str
    image_shape: tuple[int, ...]
    batch: int | None
    allow_tf32: bool


def build_engine(model: bytes, config: BuildConfig) -> EnginePlan:
    """Build an engine.

    Args:
        model: A serialized ONNX model.
        config: Settings of the build. The file `config.options.timing_cache`, if one is named, is
            read and updated.

    Returns:
        The engine and its layers.

    Raises:
        ArtifactError: TensorRT refuses the network; the cause is its first error message.
        RequestError: The timing cache was made for another device or release.
        MissingDependencyError: The flavor's package is not installed.
    """
    options = config.options
    trt: Any = cuda.import_tensorrt(options.resolved_flavor)
    product = f"{cuda.PRODUCTS[options.resolved_flavor].name} {trt.__version__}"
    log = cuda.make_logger(trt)
    with silence_file_descriptors():
        builder = trt.Builder(log)
        network = builder.create_network(_make_network_flags(trt))
        parser = trt.OnnxParser(network, log)  # Owns the weights; kept until the build ends.
        if not parser.parse(model):
            raise _make_parse_error(trt, parser, log, product)
        builder_config = _make_builder_config(trt, builder, config)
        serialized = builder.build_serialized_network(network, builder_config)
    if serialized is None:
        message = cuda.first_error(trt, log)[:_MAX_MESSAGE_CHARACTERS]
        raise ArtifactError(
            f"{product} cannot build the network ({message})",
            "use --float16 or another release of TensorRT, or report this as a bug of tinyvit-edge",
        )
    data = bytes(serialized)
    if options.timing_cache is not None:
        options.timing_cache.write_bytes(bytes(builder_config.get_timing_cache().serialize()))
    if options.resolved_flavor == "rtx":
        layers = parse_build_log("\n".join(text for _, text in log.lines))
    else:
        layers = _inspect_engine(trt, log, data)
    return EnginePlan(data, str(trt.__version__), tuple(layers))


def _make_network_flags(trt: Any) -> int:
    """Return the flags of a strongly typed network, whose types are those in the ONNX model.

    From TensorRT 11 on, all networks are strongly typed and the flag does not exist.
    """
    strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if strongly_typed is None else 1 << int(strongly_typed)


def _make_parse_error(trt: Any, parser: Any, log: Any, product: str) -> ArtifactError:
    """Make the error for an ONNX model that TensorRT cannot parse."""
    if parser.num_errors:
        message = " ".join(parser.get_error(0).desc().split())
    else:
        message = cuda.first_error(trt, log)
    return ArtifactError(
        f"{product} cannot read the network ({message[:_MAX_MESSAGE_CHARACTERS]})",
        "report this as a bug of tinyvit-edge, or use another release of TensorRT",
    )


def _make_builder_config(trt: Any, builder: Any, config: BuildConfig) -> Any:
    """Make TensorRT's own configuration of a build."""
    options = config.options
    builder_config = builder.create_builder_config()
    # The inspector can then read the layers. The engine does not become larger.
    builder_config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not config.allow_tf32:
        builder_config.clear_flag(trt.BuilderFlag.TF32)
    if options.resolved_compute:
        builder_config.num_compute_capabilities = len(options.resolved_compute)
        for i, compute in enumerate(options.resolved_compute):
            capability = getattr(trt.ComputeCapability, f"SM{compute.replace('.', '')}")
            builder_config.set_compute_capability(capability, i)
    if options.version_compatible:
        builder_config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        # The lean runtime is executable code; loading a network should not run code from its file.
        builder_config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
    if options.timing_cache is not None:
        _set_timing_cache(builder_config, options.timing_cache)
    if config.batch is None:
        profile = builder.create_optimization_profile()
        # The engine is optimized for the second of these three shapes.
        smallest, usual, largest = (
            (count, *config.image_shape) for count in (1, 1, MAX_DYNAMIC_BATCH)
        )
        profile.set_shape(config.input_name, smallest, usual, largest)
        builder_config.add_optimization_profile(profile)
    return builder_config


def _set_timing_cache(builder_config: Any, path: Path) -> None:
    """Let the builder use the measurements in a file; an absent file starts an empty cache."""
    content = path.read_bytes() if path.is_file() else b""
    cache = builder_config.create_timing_cache(content)
    ignore_mismatch = False
    if not builder_config.set_timing_cache(cache, ignore_mismatch):
        raise RequestError(
            f"the timing cache {path} was made for another device or another release of TensorRT",
            "give another file to --timing-cache",
        )


def parse_build_log(text: str) -> Iterator[EngineLayer]:
    """Read the layers from the log of TensorRT-RTX's builder, which has one line per layer.

    Args:
        text: The whole log.

    Yields:
        The layers in the order of the log.
    """
    for line in text.splitlines():
        match = _LAYER_PATTERN.match(line)
        if match is not None:
            types = _TYPE_PATTERN.findall(match["inputs"])
            nodes = tuple(_NODE_PATTERN.findall(line))
            yield EngineLayer(match["name"], match["kind"], types[0] if types else "", nodes)


def _inspect_engine(trt: Any, log: Any, data: bytes) -> Iterator[EngineLayer]:
    """Read the layers with classic TensorRT's engine inspector."""
    engine = trt.Runtime(log).deserialize_cuda_engine(data)
    if engine is None:
        raise ArtifactError(
            f"TensorRT cannot open the engine that it built ({cuda.first_error(trt, log)[:200]})",
            "report this as a bug of tinyvit-edge",
        )
    inspector = engine.create_engine_inspector()
    return parse_inspector_json(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def parse_inspector_json(text: str) -> Iterator[EngineLayer]:
    """Read the layers from the JSON of classic TensorRT's engine inspector.

    Args:
        text: The inspector's JSON.

    Yields:
        The layers; none if the engine was built without details, so that only names are listed.
    """
    for layer in json.loads(text)["Layers"]:
        if not isinstance(layer, dict):
            continue
        inputs = layer.get("Inputs") or [{}]
        # TensorRT 10 calls the key "Format/Datatype", because it combines format and type.
        types = [str(value) for key, value in inputs[0].items() if "datatype" in key.lower()]
        input_type = types[0] if types else ""
        if "int8" in input_type.lower():
            input_type = "Int8"
        nodes = tuple(_NODE_PATTERN.findall(layer.get("Metadata") or ""))
        yield EngineLayer(layer["Name"], layer.get("LayerType", ""), input_type, nodes)
