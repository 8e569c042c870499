"""Measures the sensitivity of an .onnx artifact, and creates the record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinyvit.bench import machine
from tinyvit.bench.artifact_info import read_artifact_info
from tinyvit.bench.record import PACKAGE_VERSION, Record, SensitivityResult, current_time
from tinyvit.bench.sensitivity.inputs import (
    DEFAULT_IMAGES,
    NetworkInputs,
    make_golden_inputs,
    read_inputs,
)
from tinyvit.bench.sensitivity.measure import measure_sensitivity
from tinyvit.bench.sensitivity.onnx_models import Int8Model
from tinyvit.bench.sensitivity.onnx_network import OnnxNetwork
from tinyvit.bench.sensitivity.reference import read_reference
from tinyvit.errors import ArtifactError, RequestError
from tinyvit.manifest import Manifest
from tinyvit.progress import NullProgress, Progress
from tinyvit.runtimes.artifact import Artifact, read_artifact
from tinyvit.runtimes.base import Runtime, RuntimeOptions
from tinyvit.runtimes.formats.onnx import ONNX
from tinyvit.runtimes.image_input import resolve_image_input
from tinyvit.runtimes.registry import open_runtime

_ENGINE = "onnxruntime"


@dataclass(frozen=True)
class SensitivityOptions:
    """Options of a measurement of sensitivity.

    Attributes:
        reference: Path of the float32 .onnx file or of the checkpoint that the int8 artifact was
            made from.
        data: Folder or list of images; None for the golden test patterns of the artifact.
        limit: Number of images of `data`, 1 to `inputs.MAX_IMAGES`.
        threads: Number of CPU threads; None for onnxruntime's default.
        device_name: Name of the device in the record; None for the name of the board or the host.
    """

    reference: Path
    data: Path | None = None
    limit: int = DEFAULT_IMAGES
    threads: int | None = None
    device_name: str | None = None


def record_sensitivity(
    path: str, options: SensitivityOptions, progress: Progress = NullProgress()
) -> Record:
    """Measure the sensitivity of each unit of an int8 .onnx artifact in onnxruntime.

    Args:
        path: Path of the artifact.
        options: The options.
        progress: Receives messages and the number of units that have been measured.

    Returns:
        A record with one result.

    Raises:
        TinyViTError: The artifact, the reference or the images cannot be used.
    """
    date = current_time()
    artifact = read_artifact(path)
    manifest = _require_int8_onnx(artifact)
    engine = RuntimeOptions(device="cpu", threads=options.threads)
    with open_runtime(artifact, _ENGINE, engine) as runtime:
        inputs = _make_inputs(artifact, manifest, runtime, options)
        info = read_artifact_info(path, runtime.describe())
    weights = read_reference(options.reference, manifest)
    try:
        model = Int8Model(artifact.path.read_bytes(), weights, artifact.path.name)
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged ({error})", "export the file again") from error
    progress.message(
        f"measuring {len(model.units)} units in {_ENGINE} on {inputs.source}; each unit is returned"
        " to float32 in turn"
    )
    network = OnnxNetwork(artifact, model, inputs, info.engine.threads)
    result = SensitivityResult(
        artifact=info,
        reference=str(options.reference),
        is_simulated=False,
        network=measure_sensitivity(network, progress),
    )
    return make_record((result,), inputs.source, inputs.warnings, options.device_name, date)


def make_record(
    results: tuple[SensitivityResult, ...],
    source: str,
    warnings: tuple[str, ...] = (),
    device_name: str | None = None,
    date: str | None = None,
) -> Record:
    """Create a sensitivity record for this machine.

    Args:
        results: The results.
        source: Description of where the images come from, on one line.
        warnings: Sentences about anything that makes the results less reliable.
        device_name: Name of the device; None for the name of the board or the host.
        date: Start of the measurement, UTC, ISO 8601; None for now.
    """
    return Record(
        kind="sensitivity",
        date=date or current_time(),
        package=PACKAGE_VERSION,
        device=machine.read_device_info(device_name),
        settings={},
        warnings=warnings,
        sensitivity=results,
        dataset={"source": source, "images": results[0].network.image_count},
    )


def _make_inputs(
    artifact: Artifact, manifest: Manifest, runtime: Runtime, options: SensitivityOptions
) -> NetworkInputs:
    """Read the images, or make the golden inputs if there are none."""
    if options.data is None:
        return make_golden_inputs(manifest)
    image_input = resolve_image_input(artifact, runtime)
    return read_inputs(options.data, image_input, options.limit)


def _require_int8_onnx(artifact: Artifact) -> Manifest:
    """Return the manifest of an int8 .onnx artifact; refuse every other artifact."""
    manifest = artifact.manifest
    name = artifact.path.name
    if manifest is None or manifest.quantization is None:
        precision = "no manifest of tinyvit-export" if manifest is None else manifest.precision
        raise RequestError(
            f"{name} has {precision}, so that it has no quantized units",
            "give a file that tinyvit-export --int8 wrote",
        )
    if artifact.format is not ONNX:
        raise RequestError(
            f"{name} is a file in the format {artifact.format.name}, in which single layers cannot"
            " be returned to float32",
            "give the .onnx file that tinyvit-export --int8 --target onnx makes with the same"
            " --recipe, or add --sensitivity to the export of this file, which computes the figures"
            " in PyTorch",
        )
    return manifest
