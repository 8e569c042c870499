"""Core ML: an .mlpackage with an ML Program, for Apple's systems, made on any. The manifest is in the model's metadata.

The model is a classifier: Xcode previews it, and Vision returns labels. Vision also resizes and crops, so that the natural
input is an image (`--preprocess normalize`); at stage "host" it is an array.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinyvit.errors import MissingDependencyError
from tinyvit.export.targets import Feature, LoweredModel, Target, check_supported
from tinyvit.export.targets.coreml import writer as package_coreml
from tinyvit.export.targets.coreml.writer import INPUT, LOGITS, PROBABILITIES
from tinyvit.manifest import Manifest, Precision, PreprocessStage
from tinyvit.output_capture import silence_libraries
from tinyvit.preprocess import Preprocess
from tinyvit.quant_scheme import QuantScheme

if TYPE_CHECKING:
    from coremltools.proto import Model_pb2
    from torch.export import ExportedProgram

    from tinyvit.export.tracing import Graph

_NEEDS_17 = ("int8", "int8-weights")
"""The other precisions are converted for iOS 16, the first with 8-bit weights; quantize and dequantize came with iOS 17. Weights
alone could be iOS 16's too, but coremltools 9.0 converts them for 17 only: they are marked for 16 afterwards."""
_IN_FLOAT16 = ("float16", "int8")
"""What is computed in float16 where it is not in integers: the Neural Engine, the one place where Apple's 8-bit products are fast, takes
no float32."""


class _Converted(NamedTuple):
    model: Model_pb2.Model
    weights: bytes


@dataclass(frozen=True)
class CoreMlModel(LoweredModel):
    """A network ready to be converted, which waits for `save`: only there the precision and the labels are known.

    program: (1, 3, size, size) -> logits and probabilities, as preprocess_coreml.py makes it.
    """

    program: ExportedProgram
    size: int
    stage: PreprocessStage
    made: dict[Precision, _Converted] = field(default_factory=dict)

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write the folder at `path`, replacing the files of one that is there."""
        if manifest.precision not in self.made:
            self.made[manifest.precision] = self._convert(manifest.precision)
        model, weights = self.made[manifest.precision]
        package_coreml.write(path, package_coreml.finished(model, manifest), weights)
        return [path]

    def _convert(self, precision: Precision) -> _Converted:
        with silence_libraries("coremltools", "torch", "torchao"):
            ct = _sdk()
            shape = (1, 3, self.size, self.size)
            image = ct.ImageType(INPUT, shape, color_layout=ct.colorlayout.RGB)
            converted = ct.convert(
                self.program,
                inputs=[
                    image if self.stage == "normalize" else ct.TensorType(INPUT, shape, np.float32)
                ],
                outputs=[
                    ct.TensorType(LOGITS, dtype=np.float32),
                    ct.TensorType(PROBABILITIES, dtype=np.float32),
                ],
                minimum_deployment_target=ct.target.iOS17
                if precision in _NEEDS_17
                else ct.target.iOS16,
                compute_precision=ct.precision.FLOAT16
                if precision in _IN_FLOAT16
                else ct.precision.FLOAT32,
                skip_model_load=True,
            )
            weights = Path(converted.weights_dir, "weight.bin").read_bytes()
            model = converted.get_spec()
        if precision == "int8-weights":
            package_coreml.mark_for_ios16(model)
        return _Converted(model, weights)


class CoreMlTarget(Target):
    """See `Target`."""

    name = "coreml"
    aliases: tuple[str, ...] = ("mlpackage", "apple")
    suffix = ".mlpackage"
    extra = "coreml"
    tools = ("torch", "coremltools")
    scheme = QuantScheme("int8", attention=False, biases="float32")
    unsupported: Mapping[Feature, str] = {"full": "on the device, Vision resizes and crops"}
    batch_sizes = "one"
    parity_method = "reference"
    reference_engine = "coreml-reference"

    def lower(
        self, graph: Graph, preprocess: Preprocess, stage: PreprocessStage, precision: Precision
    ) -> CoreMlModel:
        """See `Target.lower`. A classifier answers for one picture, and Core ML batches such models itself (MLModel.predictions(from:))."""
        check_supported(self, precision, stage, graph.batch)
        with silence_libraries("coremltools", "torch", "torchao"):
            _sdk()
            from tinyvit.export.targets.coreml import preprocess as preprocess_coreml

            return CoreMlModel(
                preprocess_coreml.around(graph.program, graph.img_size, preprocess, stage),
                graph.img_size,
                stage,
            )


def _sdk() -> ModuleType:
    try:
        import coremltools
    except ImportError as error:
        raise MissingDependencyError.of("coremltools", CoreMlTarget.extra) from error
    module: ModuleType = coremltools
    return module


TARGET = CoreMlTarget()
