"""The target "coreml": an .mlpackage with an ML Program, made on any machine for Apple's systems.

A model that returns logits is a classifier: Xcode previews it, and Apple's Vision framework returns
labels. Vision also resizes and crops, so the usual input is an image (`--preprocess normalize`);
with `--preprocess host` the input is an array.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyvit.errors import MissingDependencyError
from tinyvit.export.targets import Feature, Target, check_supported
from tinyvit.export.targets.coreml.passes import INPUT, LOGITS, PROBABILITIES, mark_for_ios16
from tinyvit.export.targets.coreml.writer import CoreMlModel
from tinyvit.image_sizes import height_and_width
from tinyvit.manifest_parts import EmbeddedPreprocessing, Precision
from tinyvit.preprocess import Preprocess
from tinyvit.processes.output_capture import silence_libraries
from tinyvit.quant_scheme import QuantScheme

if TYPE_CHECKING:
    from tinyvit.export.tracing import Graph

IOS17_PRECISIONS: tuple[Precision, ...] = ("int8", "int8-weights")
"""Precisions that are converted for iOS 17; the others are converted for iOS 16.

Quantize and dequantize operations, which "int8" needs, exist from iOS 17 on. iOS 16 supports
"int8-weights", but coremltools 9.0 converts such networks only for iOS 17; see `mark_for_ios16`.
"""

FLOAT16_PRECISIONS: tuple[Precision, ...] = ("float16", "int8")
"""Precisions whose floating-point values are float16.

"int8" is one of them because the Neural Engine, Apple's only processor with fast 8-bit matrix
products, does not support float32 (docs/lab-notes/engines.md, "Core ML").
"""

_NOISY_LIBRARIES = ("coremltools", "torch", "torchao")
"""Names of the loggers that are silenced during an export."""


class CoreMlTarget(Target):
    """The Core ML target, which makes .mlpackage folders."""

    name = "coreml"
    engine_title = "Core ML"
    aliases = ("mlpackage", "apple")
    suffix = ".mlpackage"
    extra = "coreml"
    tools = ("torch", "coremltools")
    # The operations conv and linear of an ML Program take only float biases.
    scheme = QuantScheme(activations="int8", attention=False, biases="float32")
    unsupported: Mapping[Feature, str] = {
        "full": "on the device, Apple's Vision framework resizes and crops"
    }
    # A classifier returns the label of one image. For several images, applications call
    # `MLModel.predictions(from:)`.
    batch_sizes = "one"
    parity_method = "reference"
    reference_engine = "coreml-reference"

    def lower(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> CoreMlModel:
        """Convert the traced network, with a softmax after logits; see `Target.lower`."""
        check_supported(self, precision, embedded_preprocessing, graph.batch)
        with silence_libraries(*_NOISY_LIBRARIES):
            coremltools = _import_coremltools()
            from tinyvit.export.targets.coreml.preprocess import trace_for_coreml

            program = trace_for_coreml(graph, preprocess, embedded_preprocessing)
            converted = _convert(coremltools, program, graph, embedded_preprocessing, precision)
            weights = Path(converted.weights_dir, "weight.bin").read_bytes()
            model = converted.get_spec()
        if precision == "int8-weights":
            mark_for_ios16(model)
        return CoreMlModel(model, weights)


def _convert(
    ct: Any,
    program: Any,
    graph: Graph,
    embedded_preprocessing: EmbeddedPreprocessing,
    precision: Precision,
) -> Any:
    """Convert a traced program; `ct` is the module coremltools, under its usual short name."""
    shape = (1, 3, *height_and_width(graph.img_size))
    names = graph.output_names
    if graph.outputs[0].kind == "logits":
        names = [LOGITS, PROBABILITIES]
    if embedded_preprocessing == "normalize":
        image = ct.ImageType(INPUT, shape, color_layout=ct.colorlayout.RGB)
    else:
        image = ct.TensorType(INPUT, shape, np.float32)
    needs_ios17, is_float16 = precision in IOS17_PRECISIONS, precision in FLOAT16_PRECISIONS
    return ct.convert(
        program,
        inputs=[image],
        outputs=[ct.TensorType(name, dtype=np.float32) for name in names],
        minimum_deployment_target=ct.target.iOS17 if needs_ios17 else ct.target.iOS16,
        compute_precision=ct.precision.FLOAT16 if is_float16 else ct.precision.FLOAT32,
        skip_model_load=True,
    )


def _import_coremltools() -> ModuleType:
    """Import coremltools; raise MissingDependencyError if it is not installed."""
    try:
        import coremltools
    except ImportError as error:
        raise MissingDependencyError.for_package("coremltools", extra=CoreMlTarget.extra) from error
    module: ModuleType = coremltools
    return module


TARGET = CoreMlTarget()
