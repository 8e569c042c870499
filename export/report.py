"""Reports of tinyvit-export about an artifact: a text summary, and a record for JSON output."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tinyvit.bench.machine import describe_cpu
from tinyvit.bench.report.sensitivity_lines import format_units
from tinyvit.image_sizes import describe_size
from tinyvit.metrics import FLOAT32_NETWORK
from tinyvit.preprocess import describe_center_crop
from tinyvit.preprocess_settings import format_setting

if TYPE_CHECKING:
    from tinyvit.export.artifact_writer import ExportedArtifact
    from tinyvit.export.baseline_timing import SpeedComparison
    from tinyvit.export.pipeline import FailedTarget
    from tinyvit.export.quantized_candidate import QuantizedCandidate
    from tinyvit.manifest import Manifest

MAX_USEFUL_TIME_RATIO = 0.9
"""Ratio of int8 latency to float32 latency above which float32 is recommended instead."""

SENSITIVITY_ROWS = 20
"""Number of units in the table of --sensitivity. --json prints all units."""

_NOT_MEASURED = "the accuracy was not measured (--val-data, or --calib-data synthetic, measures it)"
"""Line of the summary for an int8 artifact that was not compared with float32."""

_SYNTHETIC_EVALUATION = (
    "; these images are synthetic (made from the network itself), so only --val-data shows how "
    "much accuracy int8 costs"
)
"""End of the line of the summary for an int8 artifact that was measured on synthetic images."""


def format_summary(artifact: ExportedArtifact) -> list[str]:
    """Describe an artifact in the lines of a text summary.

    Args:
        artifact: The artifact.

    Returns:
        The lines about its files, size, speed and parity with the network, and how to use it.
    """
    manifest, parity = artifact.manifest, artifact.manifest.parity
    assert parity is not None
    size, kind = describe_size(manifest.img_size), manifest.output_kind
    output = f"{len(manifest.labels)} classes" if kind == "logits" else _describe_outputs(manifest)
    name = "logits" if kind == "logits" else "outputs"
    return [
        f"wrote {' and '.join(map(str, artifact.files))} ({artifact.size_bytes / 1e6:.1f} MB)",
        f"  model:  {manifest.model}, {manifest.precision}, {size}, {output}",
        *_describe_input_and_labels(manifest),
        *(_describe_quantization(artifact.candidate, manifest) if artifact.candidate else []),
        f"  speed:  {_describe_speed(artifact)}",
        f"  parity: the file's {name} differ by at most {parity.max_abs_diff:.1e} from those of "
        f"{parity.reference}",
        *(f"  note:   {note}" for note in artifact.notes),
        f"  use:    {_make_example(artifact)}",
        *_describe_sensitivity(artifact),
    ]


def _describe_outputs(manifest: Manifest) -> str:
    """Describe an embedding or feature maps with their shapes without the batch."""
    shapes = [" x ".join(map(str, spec.shape[1:])) for spec in manifest.outputs]
    if manifest.output_kind == "embedding":
        return f"an embedding of {shapes[0]} values"
    return ", ".join(f"{spec.name} {shape}" for spec, shape in zip(manifest.outputs, shapes))


def _make_example(artifact: ExportedArtifact) -> str:
    """Return Python code that runs the artifact on an image."""
    path = repr(str(artifact.path))
    if artifact.manifest.output_kind == "logits":
        return f"from tinyvit import Classifier; print(Classifier({path}).predict('photo.jpg'))"
    method = "embed" if artifact.manifest.output_kind == "embedding" else "features"
    return f"from tinyvit import Encoder; print(Encoder({path}).{method}('photo.jpg'))"


def _describe_sensitivity(artifact: ExportedArtifact) -> list[str]:
    """Return the table of the most sensitive units; no lines if it was not requested."""
    if artifact.candidate is None or artifact.candidate.sensitivity is None:
        return []
    sensitivity = artifact.candidate.sensitivity
    return [
        "",
        f"sensitivity of the units of {artifact.path.name} to int8, simulated in PyTorch with the"
        f" scales of its recipe on {sensitivity.image_count} images",
        *format_units(sensitivity, SENSITIVITY_ROWS),
    ]


def _describe_input_and_labels(manifest: Manifest) -> list[str]:
    """Return the lines about the preprocessing and the labels, with their sources."""
    preprocess, labels = manifest.preprocess, manifest.labels
    resize = f"resize to {describe_size(preprocess.resize)}"
    if preprocess.crop == "center":
        resize = describe_center_crop(preprocess)
    mean, std = map(format_setting, (preprocess.mean, preprocess.std))
    lines = [
        f"  input:  {resize}, {preprocess.interpolation}, mean {mean}, std {std}",
        f"          from: {manifest.preprocess_source}",
    ]
    if labels:
        names = f"{labels[0].name!r} to {labels[-1].name!r}"
        lines.append(f"  labels: {names}, from: {manifest.labels_source}")
    return lines


def _describe_speed(artifact: ExportedArtifact) -> str:
    speed = artifact.speed
    if speed is None:
        return f"not measured: {artifact.manifest.target} files do not run on this machine"
    if artifact.candidate is None:
        return _describe_float_speed(artifact, speed)
    return _describe_int8_speed(artifact, speed)


def _describe_float_speed(artifact: ExportedArtifact, speed: SpeedComparison) -> str:
    latency_ms, baseline_ms = speed.artifact.median_ms, speed.baseline.median_ms
    text = (
        f"{latency_ms:.1f} ms{_describe_batch(artifact)} in {artifact.engine.engine}, "
        f"{_compare_latencies(latency_ms, baseline_ms)} {speed.baseline_name} "
        f"({baseline_ms:.1f} ms; {_describe_runs(speed)})"
    )
    if artifact.manifest.precision == "float16":
        text += f", computed in {artifact.engine.precision} on this processor ({describe_cpu()})"
    return text


def _compare_latencies(latency_ms: float, baseline_ms: float) -> str:
    """Return a phrase such as "1.4 times as fast as" or "1.4 times slower than"."""
    slowdown = round(latency_ms / baseline_ms, 1)
    if slowdown > 1:
        return f"{slowdown:.1f} times slower than"
    return f"{baseline_ms / latency_ms:.1f} times as fast as"


def _describe_int8_speed(artifact: ExportedArtifact, speed: SpeedComparison) -> str:
    precision, time_ratio = artifact.manifest.precision, 1 / speed.speedup
    text = (
        f"{precision} takes {time_ratio:.2f} times as long as {speed.baseline_name}, "
        f"by the median of the ratios of {len(speed.artifact.turns_ms)} rounds "
        f"({speed.artifact.median_ms:.1f} and {speed.baseline.median_ms:.1f} ms"
        f"{_describe_batch(artifact)}; {_describe_runs(speed)}; {describe_cpu()})"
    )
    if precision == "int8" and time_ratio > MAX_USEFUL_TIME_RATIO:
        text += "; int8 gains little on this processor: use float32 here"
    return text


def _describe_batch(artifact: ExportedArtifact) -> str:
    batch = artifact.manifest.outputs[0].shape[0]
    return f" for {batch} images" if isinstance(batch, int) and batch > 1 else ""


def _describe_runs(speed: SpeedComparison) -> str:
    # The artifact and the baseline run equally often, because every round has a turn of both.
    run_count = len(speed.artifact.samples_ms)
    return f"medians of {run_count} alternating runs each, on one thread"


def _describe_quantization(candidate: QuantizedCandidate, manifest: Manifest) -> list[str]:
    """Return the lines about an int8 network; its trials are left out if there is only one."""
    trial_lines = []
    if len(candidate.trials) > 1:
        trial_lines = [f"  trial:  {trial}" for trial in candidate.trials]
    kernels = "the engine does not report its kernels here"
    if candidate.integer_kernel_share is not None:
        kernels = (
            f"{candidate.integer_kernel_share:.0%} of the multiply-accumulates in integer kernels"
        )
    recipe, quantization = candidate.recipe, manifest.quantization
    accuracy = _NOT_MEASURED
    if candidate.comparison is not None:
        accuracy = candidate.comparison.describe(FLOAT32_NETWORK)
    if quantization is not None and quantization.has_synthetic_evaluation:
        accuracy += _SYNTHETIC_EVALUATION
    return [
        *trial_lines,
        f"  int8:   {accuracy}",
        f"  layers: {kernels}; {len(recipe.float_units)} units (layers or attention modules) in "
        f"float32; {recipe.weight_bits}-bit weights",
    ]


def make_artifact_record(artifact: ExportedArtifact) -> dict[str, Any]:
    """Describe an artifact for JSON output.

    Args:
        artifact: The artifact.

    Returns:
        The facts of the summary, as JSON types only.
    """
    manifest, parity = artifact.manifest, artifact.manifest.parity
    assert parity is not None
    sensitivity = None if artifact.candidate is None else artifact.candidate.sensitivity
    return {
        "artifact": str(artifact.path),
        "files": [str(file) for file in artifact.files],
        "size_bytes": artifact.size_bytes,
        "target": manifest.target,
        "precision": manifest.precision,
        "model": manifest.model,
        "variant": manifest.variant,
        "img_size": manifest.img_size,
        "windows": manifest.windows,
        "classes": len(manifest.labels),
        "outputs": [asdict(spec) for spec in manifest.outputs],
        "preprocess": asdict(manifest.preprocess),
        "preprocess_source": manifest.preprocess_source,
        "labels_source": manifest.labels_source,
        "engine": asdict(artifact.engine),
        "speed": None if artifact.speed is None else _speed_record(artifact.speed),
        "max_abs_diff": parity.max_abs_diff,
        "notes": list(artifact.notes),
        "content_sha256": manifest.content_sha256,
        "quantization": manifest.quantization and asdict(manifest.quantization),
        "sensitivity": None if sensitivity is None else asdict(sensitivity),
    }


def _speed_record(speed: SpeedComparison) -> dict[str, str | int | float]:
    return {
        "median_ms": round(speed.artifact.median_ms, 3),
        "samples": len(speed.artifact.samples_ms),
        "baseline": speed.baseline_name,
        "baseline_median_ms": round(speed.baseline.median_ms, 3),
        "baseline_samples": len(speed.baseline.samples_ms),
    }


def make_failure_record(failure: FailedTarget) -> dict[str, str | bool]:
    """Describe a target without an artifact for JSON output.

    Args:
        failure: The target and its error.

    Returns:
        The name, the error on one line, and whether the target was skipped, as JSON types only.
    """
    return {
        "target": failure.target,
        "error": str(failure.error),
        "is_skipped": failure.is_skipped,
    }
