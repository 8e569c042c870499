"""What tinyvit-export says of an artifact it made, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tinyvit.bench.machine import describe_cpu

if TYPE_CHECKING:
    from tinyvit.export.budget_search import QuantizedCandidate
    from tinyvit.export.pipeline import ExportedArtifact, FailedTarget

WORTH_IT = 0.9
"""int8 / float32 time above which float32 is the better file for such a processor."""


def summary(one: ExportedArtifact) -> str:
    """Lines for people: what was written, how large, how fast against what, how equal to what, and how to use it."""
    manifest, parity = one.manifest, one.manifest.parity
    assert parity is not None
    classes, images = len(manifest.labels), manifest.output.shape[0]
    batch = f" for {images} images" if isinstance(images, int) and images > 1 else ""
    lines = [
        f"wrote {' and '.join(map(str, one.files))} ({one.size_bytes / 1e6:.1f} MB)",
        f"  model: {manifest.model}, {manifest.precision}, {manifest.img_size} x {manifest.img_size}, {classes} classes",
        f"  speed: {_speed(one, batch)}",
        f"  equal: logits within {parity.max_abs_diff:.1e} of {parity.against}",
        f"  use:   from tinyvit import Classifier; print(Classifier({str(one.path)!r}).predict('photo.jpg'))",
    ]
    lines[-1:-1] = [f"  note:  {note}" for note in one.notes]
    if one.quantized is not None:
        lines[2:2] = _quantization(one.quantized)
    return "\n".join(lines)


def _speed(one: ExportedArtifact, batch: str) -> str:
    if one.engine_ms is None or one.baseline_ms is None:
        return f"not measured: {one.manifest.target} files do not run on this machine"
    ours, theirs, engine = one.engine_ms.median_ms, one.baseline_ms.median_ms, one.engine["engine"]
    runs = f"medians of {len(one.engine_ms.samples_ms)} and {len(one.baseline_ms.samples_ms)} runs in turn, one thread each"
    if one.quantized is None:
        computed = (
            f", computed in {one.engine['precision']} on this processor ({describe_cpu()})"
            if one.manifest.precision == "float16"
            else ""
        )
        return f"{ours:.1f} ms{batch} in {engine}, {theirs / ours:.1f}x as fast as {one.baseline} ({theirs:.1f} ms; {runs}){computed}"
    ratio, precision = 1 / one.quantized.speedup, one.manifest.precision
    advice = (
        ""
        if ratio <= WORTH_IT or precision != "int8"
        else "; not worth it on this processor: keep float32 here"
    )
    times = f"{ours:.1f} and {theirs:.1f} ms{batch}; {runs}; {describe_cpu()}"
    return f"{precision} takes {ratio:.2f} of the time of {one.baseline} ({times}){advice}"


def _quantization(quantized: QuantizedCandidate) -> list[str]:
    trials = (
        [f"  trial: {trial}" for trial in quantized.trials] if len(quantized.trials) > 1 else []
    )
    kept = f"{len(quantized.recipe.float_units)} units left in float32; {quantized.recipe.weight_bits}-bit weights"
    share = "kernels not told here"
    if quantized.int8_macs is not None:
        share = f"{quantized.int8_macs:.0%} of the multiply-accumulates in integer kernels"
    return [*trials, f"  int8:  {quantized.worth}", f"  ran:   {share}; {kept}"]


def record(one: ExportedArtifact) -> dict[str, Any]:
    """The same for programs, JSON types only."""
    manifest, parity = one.manifest, one.manifest.parity
    assert parity is not None
    return {
        "artifact": str(one.path),
        "files": [str(file) for file in one.files],
        "size_bytes": one.size_bytes,
        "target": manifest.target,
        "precision": manifest.precision,
        "model": manifest.model,
        "variant": manifest.variant,
        "img_size": manifest.img_size,
        "classes": len(manifest.labels),
        "engine": one.engine,
        "median_ms": one.engine_ms and round(one.engine_ms.median_ms, 3),
        "samples": one.engine_ms and len(one.engine_ms.samples_ms),
        "baseline": one.baseline,
        "baseline_median_ms": one.baseline_ms and round(one.baseline_ms.median_ms, 3),
        "baseline_samples": one.baseline_ms and len(one.baseline_ms.samples_ms),
        "max_abs_diff": parity.max_abs_diff,
        "notes": list(one.notes),
        "content_sha256": manifest.content_sha256,
        "quantization": manifest.quantization and asdict(manifest.quantization),
    }


def failure(failed: FailedTarget) -> dict[str, str | bool]:
    """A target that was not made, JSON types only."""
    return {"target": failed.target, "error": str(failed.error), "absent": failed.absent}
