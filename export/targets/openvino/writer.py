"""Writes OpenVINO IR, with its manifest and OpenVINO's own model description in the .xml file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.export.targets.base import LoweredModel
from tinyvit.manifest import MANIFEST_KEY, Manifest

if TYPE_CHECKING:
    import openvino

_INDENTATION = re.compile(rb">\s+<")
"""White space between XML elements: a sixth of the .xml file of an int8 model."""


@dataclass(frozen=True)
class OpenVinoModel(LoweredModel):
    """An OpenVINO model that is ready to be written.

    Attributes:
        model: The network with its preprocessing.
    """

    model: openvino.Model

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write the .xml and the .bin file; see `LoweredModel.save`.

        Weights are stored in float16 for the precision "float16" only.
        """
        import openvino

        self.model.set_rt_info(manifest.to_json(), [MANIFEST_KEY, "manifest"])
        for name, value in make_model_info(manifest).items():
            self.model.set_rt_info(value, ["model_info", name])
        if manifest.precision == "int8-weights":
            # Otherwise the CPU plugin quantizes activations too, with its own ranges.
            self.model.set_rt_info("0", ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
        openvino.save_model(self.model, str(path), compress_to_fp16=manifest.precision == "float16")
        path.write_bytes(_INDENTATION.sub(b"><", path.read_bytes()))
        return [path.with_suffix(".bin"), path]


def make_model_info(manifest: Manifest) -> dict[str, str]:
    """Describe a classifier for OpenVINO's Model API (the package openvino-model-api).

    The Model API reads images as BGR and separates list elements by spaces. Its "crop" resizes the
    shorter side to the input's size, without the margin that `Preprocess` adds and then crops, and
    its filter is bilinear. Its results are therefore close to those of `Preprocess` but not equal.
    A model that itself resizes (embedded preprocessing "full") receives the image unchanged, so the
    application must pass RGB.

    Args:
        manifest: The manifest of the artifact.

    Returns:
        Key -> value of the section "model_info" in the file's rt_info; empty if the output is not
        logits, because the Model API has no type for such a network.
    """
    if manifest.output_kind != "logits":
        return {}
    preprocess = manifest.preprocess
    labels = " ".join("_".join(label.name.split()) for label in manifest.labels)
    info = {"model_type": "Classification", "labels": labels}
    if manifest.embedded_preprocessing != "full":
        info["resize_type"] = "crop" if preprocess.crop == "center" else "standard"
        info["reverse_input_channels"] = "YES"
    if manifest.embedded_preprocessing == "host":
        for name, values in (("mean_values", preprocess.mean), ("scale_values", preprocess.std)):
            info[name] = " ".join(f"{255 * value:.6g}" for value in values)
    return info
