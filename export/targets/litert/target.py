"""The target "litert": one .tflite file for LiteRT (TensorFlow Lite) and its XNNPACK delegate.

Images are NHWC, as in mobile applications: normalized float32 (N, height, width, 3), or uint8
pixels of the same shape. The file also contains TensorFlow Lite's own metadata and, for a
classifier, labels.txt, which TensorFlow Lite's task library reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tinyvit.errors import MissingDependencyError
from tinyvit.export.passes.fx_helpers import take_channels_last
from tinyvit.export.targets import Feature, Target, check_supported
from tinyvit.export.targets.litert.flatbuffer import parse_model
from tinyvit.export.targets.litert.passes import (
    expand_layer_norm,
    fold_gathers,
    optimize_model,
    store_constants_as_float16,
)
from tinyvit.export.targets.litert.writer import LiteRtModel
from tinyvit.export.tracing import INPUT, explain_tool_errors
from tinyvit.image_sizes import height_and_width
from tinyvit.manifest_parts import EmbeddedPreprocessing, Precision
from tinyvit.preprocess import Preprocess
from tinyvit.processes.output_capture import silence_file_descriptors, silence_libraries
from tinyvit.quant_scheme import QuantScheme

if TYPE_CHECKING:
    from tinyvit.export.tracing import Graph

_QUANTIZATION_NAMESPACE = "quantized_decomposed"
"""Namespace of torch's quantize and dequantize operators."""

_FLOAT16_MIN_BYTES: dict[Precision, int] = {"float16": 1024, "int8": 2**15}
"""Precision -> size in bytes of the smallest float32 constant that is stored as float16.

In a float16 artifact, these constants are all weights, the attention biases and most other biases.
In an int8 artifact, they are the attention biases alone, which are half of the file; if the other
constants were float16 too, the error of the logits would be 2.5 times as large
(docs/lab-notes/engines.md, "LiteRT").
"""


class LiteRtTarget(Target):
    """The LiteRT target, which makes .tflite files."""

    name = "litert"
    aliases = ("tflite",)
    suffix = ".tflite"
    extra = "litert"
    tools = ("torch", "litert-torch", "litert-converter", "ai-edge-litert")
    # XNNPACK's int8 layers return only int8, so their outputs are quantized too. The converter
    # makes int32 biases itself. It does not accept int8 constants, so the graph has float constants
    # that are multiples of their scales, and operators that quantize them.
    scheme = QuantScheme(
        activations="int8",
        quantized_outputs="all",
        attention=False,
        biases="float32",
        weights="rounded_float32",
    )
    unsupported: Mapping[Feature, str] = {
        "int8-weights": "it takes as long as float32, and float16 is nearly as small",
        "full": "LiteRT has no antialiased resize, which the preprocessing needs",
    }
    batch_sizes = "fixed"
    layout = "NHWC"

    def lower(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> LiteRtModel:
        """Convert the traced network with litert-torch and optimize it; see `Target.lower`."""
        check_supported(self, precision, embedded_preprocessing, graph.batch)
        with (
            explain_tool_errors("converting the network to LiteRT"),
            silence_libraries("root", "litert_torch", "absl"),
            silence_file_descriptors(),
        ):
            model = self._convert(
                graph, preprocess if embedded_preprocessing == "normalize" else None
            )
        optimize_model(model, INPUT, graph.output_names)
        min_bytes = _FLOAT16_MIN_BYTES.get(precision)
        if min_bytes is not None:
            store_constants_as_float16(model, min_bytes)
        return LiteRtModel(model)

    def _convert(self, graph: Graph, preprocess: Preprocess | None) -> Any:
        """Convert the network to a LiteRT model.

        The model takes normalized images; if `preprocess` is given, it takes pixels and normalizes
        them itself.
        """
        try:
            import litert_torch
        except ImportError as error:
            raise MissingDependencyError.for_package("litert-torch", extra=self.extra) from error
        import torch

        network = graph.program.module()
        expand_layer_norm(network)
        fold_gathers(network)
        dtype = torch.float32 if preprocess is None else torch.uint8
        example = torch.zeros(graph.batch or 1, *height_and_width(graph.img_size), 3, dtype=dtype)
        converted = litert_torch.convert(
            take_channels_last(network, preprocess),
            (example,),
            quant_config=_make_quant_config(graph),
        )
        return parse_model(converted.model_content())


def _make_quant_config(graph: Graph) -> Any:
    """Make the configuration that turns quantize-dequantize pairs into integer kernels.

    Returns None for a network without such pairs.
    """
    if not any(_QUANTIZATION_NAMESPACE in str(node.target) for node in graph.program.graph.nodes):
        return None
    from litert_torch.quantize.pt2e_quantizer import (
        PT2EQuantizer,
        get_symmetric_quantization_config,
    )
    from litert_torch.quantize.quant_config import QuantConfig

    settings = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
    return QuantConfig(pt2e_quantizer=PT2EQuantizer().set_global(settings))


TARGET = LiteRtTarget()
