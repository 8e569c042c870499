"""OpenVINO: an .xml with its .bin beside it (OpenVINO IR). The manifest is in the file's rt_info, and what OpenVINO's Model API reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.errors import MissingDependencyError
from tinyvit.export.targets import LoweredModel, Target
from tinyvit.export.targets.openvino import (
    passes as tune_openvino,
)
from tinyvit.export.targets.openvino import (
    preprocess as preprocess_openvino,
)
from tinyvit.manifest import MANIFEST_KEY, Manifest, Precision, PreprocessStage
from tinyvit.preprocess import Preprocess
from tinyvit.quant_scheme import QuantScheme
from tinyvit.runtimes.engines.openvino import shared_core

if TYPE_CHECKING:
    import openvino

    from tinyvit.export.tracing import Graph

_INDENTATION = re.compile(rb">\s+<")
"""A sixth of an int8 file's .xml."""


@dataclass(frozen=True)
class OpenVinoModel(LoweredModel):
    """A model ready to be written."""

    model: openvino.Model

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write the .xml and the .bin; float32 is kept as float32 but in "float16"."""
        import openvino

        self.model.set_rt_info(manifest.to_json(), [MANIFEST_KEY, "manifest"])
        for name, value in model_info(manifest).items():
            self.model.set_rt_info(value, ["model_info", name])
        if (
            manifest.precision == "int8-weights"
        ):  # or the CPU rounds activations too, by ranges of its own
            self.model.set_rt_info("0", ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
        openvino.save_model(self.model, str(path), compress_to_fp16=manifest.precision == "float16")
        path.write_bytes(_INDENTATION.sub(b"><", path.read_bytes()))
        return [path.with_suffix(".bin"), path]


def model_info(manifest: Manifest) -> dict[str, str]:
    """What OpenVINO's Model API (the package openvino-model-api) makes a classifier of: labels, and preprocessing as near as it has it.

    Its pictures are BGR, its lists are parted by spaces. Its "crop" has no margin (ours resizes to a little more than is cut out), and its
    filter is bilinear: answers are near ours. Into a file that resizes itself ("full") it passes pictures as they are: they must be RGB.
    """
    preprocess = manifest.preprocess
    labels = " ".join("_".join(label.name.split()) for label in manifest.labels)
    info = {"model_type": "Classification", "labels": labels}
    if manifest.stage != "full":
        info["resize_type"] = "crop" if preprocess.crop == "center" else "standard"
        info["reverse_input_channels"] = "YES"
    if manifest.stage == "host":
        for name, values in (("mean_values", preprocess.mean), ("scale_values", preprocess.std)):
            info[name] = " ".join(f"{255 * value:.6g}" for value in values)
    return info


class OpenVinoTarget(Target):
    """See `Target`."""

    name = "openvino"
    aliases: tuple[str, ...] = ("ov",)
    suffix = ".xml"
    extra = "openvino"
    tools = ("torch", "onnx", "onnx-ir", "onnxscript", "openvino")
    scheme = QuantScheme("int8")

    def lower(
        self, graph: Graph, preprocess: Preprocess, stage: PreprocessStage, precision: Precision
    ) -> OpenVinoModel:
        """See `Target.lower`. Resizing is built from OpenVINO's own operations: its ONNX reader ignores antialiasing."""
        try:
            import openvino
        except ImportError as error:
            raise MissingDependencyError.of("openvino", self.extra) from error
        import onnx_ir as ir

        proto = ir.serde.serialize_model(graph.onnx())
        # read_model, not convert_model: the latter folds constants, and stores the attention biases expanded.
        model = shared_core().read_model(proto.SerializeToString(), b"")
        tune_openvino.tune(model)
        model = preprocess_openvino.add(model, preprocess, stage)
        openvino.layout_helpers.set_layout(
            model.input(0), openvino.Layout("NCHW" if stage == "host" else "NHWC")
        )
        _number(model)
        return OpenVinoModel(model)


def _number(model: openvino.Model) -> None:
    """Name operations by their place: OpenVINO numbers them through the life of the process, so no two files would be the same."""
    for i, operation in enumerate(model.get_ordered_ops()):
        if operation.get_friendly_name().startswith(f"{operation.get_type_name()}_"):
            operation.set_friendly_name(f"{operation.get_type_name()}_{i}")


TARGET = OpenVinoTarget()
