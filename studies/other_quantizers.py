"""Quantizes timm's model with nncf and onnxruntime, for a comparison with tinyvit-export.

Both tools get the ONNX file that torch.onnx.export writes for timm's model (the "stock export" in
the code), and use their default settings, with two exceptions. nncf is also used with its settings
for transformers, and onnxruntime uses one scale per channel of the weights (per_channel=True).
"""

from __future__ import annotations

import importlib
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.bench.profilers import random_input
from tinyvit.data.listing import list_images
from tinyvit.errors import ArtifactError, MissingDependencyError
from tinyvit.image_sizes import height_and_width
from tinyvit.images.decoding import open_image
from tinyvit.install_command import format_packages_command
from tinyvit.manifest import Manifest
from tinyvit.nn.timm_models import export_with_torch, import_timm
from tinyvit.preprocess import Preprocess
from tinyvit.privacy import hide_openvino_telemetry
from tinyvit.processes.output_capture import quiet_loggers
from tinyvit.runtimes.base import AUTO_DEVICE, RuntimeOptions
from tinyvit.runtimes.engines.openvino import shared_core
from tinyvit.runtimes.registry import open_runtime

MAX_LOGIT_DIFFERENCE = 1e-3
"""Largest allowed difference between the logits of the stock export and those of the float32
artifact, which must have the same weights."""
CALIBRATION_COUNT = 300
"""Number of calibration images. This is the default of nncf; onnxruntime has none."""


@dataclass(frozen=True)
class OtherQuantizersConfig:
    """The model that the other tools quantize, and the folder for their files.

    Attributes:
        float32_path: A float32 artifact by tinyvit-export.
        manifest: The manifest of this artifact.
        weights: The safetensors file from which the artifact was exported, with timm's parameter
            names. The other tools quantize timm's model with these weights.
        calib_data: Folder of images for calibration.
        folder: An existing folder in which all files are written.
    """

    float32_path: Path
    manifest: Manifest
    weights: Path
    calib_data: Path
    folder: Path


@dataclass(frozen=True)
class ComparedFile:
    """An int8 file and the engine in which it is compared with the float32 file.

    Attributes:
        name: Name in the table: the file name, or the tool that made the file.
        path: Path of the file.
        engine: Name of the engine, such as "openvino".
    """

    name: str
    path: Path
    engine: str


def import_nncf() -> Any:
    """Import nncf.

    Raises:
        MissingDependencyError: nncf is not installed.
    """
    try:
        with hide_openvino_telemetry():  # nncf reports its use with the same package
            return importlib.import_module("nncf")
    except ImportError as error:
        raise MissingDependencyError(
            "nncf is not installed",
            f"{format_packages_command('nncf')}; only this comparison needs it",
        ) from error


def quantize_with_other_tools(config: OtherQuantizersConfig) -> list[ComparedFile]:
    """Quantize timm's model with nncf and onnxruntime.

    Args:
        config: The model to quantize, and the folder for the files.

    Returns:
        Two files from nncf, with its defaults and with its settings for transformers, and one file
        from onnxruntime.

    Raises:
        ArtifactError: The weights are not those of the float32 artifact.
        MissingDependencyError: timm or nncf is not installed.
        ImageError: The calibration folder cannot be read, or has no images.
    """
    import_nncf()
    stock_path = config.folder / "stock.onnx"
    # These tools print messages to standard output, which must contain only the table.
    with redirect_stdout(sys.stderr):
        _export_timm_model(config, stock_path)
        _check_same_network(config, stock_path)
        inputs = read_calibration_inputs(config.calib_data, config.manifest.preprocess)
        return [
            *quantize_with_nncf(stock_path, inputs, config.folder),
            quantize_with_onnxruntime(stock_path, inputs, config.folder, per_channel=True),
        ]


def _export_timm_model(config: OtherQuantizersConfig, stock_path: Path) -> None:
    """Export timm's model with `config.weights` by torch.onnx.export."""
    from safetensors.torch import load

    manifest = config.manifest
    model = import_timm().create_model(manifest.variant, num_classes=len(manifest.labels)).eval()
    model.load_state_dict(load(config.weights.read_bytes()))
    export_with_torch(model, manifest.img_size, stock_path)


def _check_same_network(config: OtherQuantizersConfig, stock_path: Path) -> None:
    """Raise ArtifactError if the weights of the stock export and the float32 artifact differ."""
    image = random_input((1, 3, *height_and_width(config.manifest.img_size)), "float32")
    options = RuntimeOptions(AUTO_DEVICE, allow_foreign_operators=True)
    with (
        open_runtime(stock_path, options=options) as stock,
        open_runtime(config.float32_path) as exported,
    ):
        difference = float(np.abs(stock.run(image) - exported.run(image)).max())
    if difference > MAX_LOGIT_DIFFERENCE:
        raise ArtifactError(
            f"{config.float32_path} does not have the weights of {config.weights}",
            "give --weights the checkpoint from which the artifact was exported",
        )


def read_calibration_inputs(
    folder: Path, preprocess: Preprocess, count: int = CALIBRATION_COUNT
) -> list[npt.NDArray[np.float32]]:
    """Read evenly spaced images of a folder.

    Args:
        folder: A folder of images, which may be in subfolders.
        preprocess: The preprocessing of the model.
        count: Number of images.

    Returns:
        The normalized images, float32 (1, 3, S, S) each.

    Raises:
        ImageError: The folder cannot be read, or has no images.
    """
    paths = list_images(folder)
    evenly_spaced = paths[:: max(1, len(paths) // count)][:count]
    return [preprocess(open_image(path))[None] for path in evenly_spaced]


def quantize_with_nncf(
    stock_path: Path, inputs: list[npt.NDArray[np.float32]], folder: Path
) -> list[ComparedFile]:
    """Quantize with nncf, once with its defaults and once with its settings for transformers.

    Args:
        stock_path: A float32 ONNX file.
        inputs: Inputs of the model for calibration.
        folder: An existing folder for the files.

    Raises:
        MissingDependencyError: nncf is not installed.
    """
    nncf, core = import_nncf(), shared_core()
    import openvino  # after `shared_core`, which imports it without its telemetry

    settings_by_name: dict[str, dict[str, Any]] = {
        "nncf": {},
        "nncf, TRANSFORMER": {"model_type": nncf.ModelType.TRANSFORMER},
    }
    files: list[ComparedFile] = []
    for index, (name, settings) in enumerate(settings_by_name.items()):
        with quiet_loggers("nncf"):
            model = core.read_model(str(stock_path))
            quantized_model = nncf.quantize(model, nncf.Dataset(inputs), **settings)
        path = folder / f"nncf{index}.xml"
        openvino.save_model(quantized_model, path, compress_to_fp16=False)
        files.append(ComparedFile(name, path, "openvino"))
    return files


def quantize_with_onnxruntime(
    stock_path: Path, inputs: list[npt.NDArray[np.float32]], folder: Path, per_channel: bool
) -> ComparedFile:
    """Quantize with onnxruntime's function quantize_static, in the format QDQ.

    Args:
        stock_path: A float32 ONNX file.
        inputs: Inputs of the model for calibration.
        folder: An existing folder for the file.
        per_channel: Whether weights have one scale per channel; one per tensor is the default of
            the function.
    """
    from onnxruntime import quantization

    class CalibrationInputs(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Iterates over the calibration images in the interface that onnxruntime requires."""

        def __init__(self) -> None:
            self._remaining_images = iter(inputs)

        def get_next(self) -> dict[str, Any] | None:
            """Return the next image as {name of the input: image}; None after the last image."""
            image = next(self._remaining_images, None)
            return None if image is None else {input_name: image}

    options = RuntimeOptions(AUTO_DEVICE, allow_foreign_operators=True)
    with open_runtime(stock_path, options=options) as runtime:
        input_name = runtime.inputs[0].name
    path = folder / f"onnxruntime-{'channel' if per_channel else 'tensor'}.onnx"
    with quiet_loggers("root"):
        quantization.quantize_static(
            stock_path,
            path,
            CalibrationInputs(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=per_channel,
        )
    return ComparedFile("onnxruntime's quantize_static", path, "onnxruntime")
