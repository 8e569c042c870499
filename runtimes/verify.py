"""Verifies that an artifact computes the right logits on this machine.

The manifest of an artifact contains golden vectors: the pattern numbers of golden inputs, which are
images that an integer formula generates from these numbers (`tinyvit.golden`), and the reference
logits for them. Neither the checkpoint nor torch is needed, so a device can run the verification.
"""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError
from tinyvit.golden import is_supported, make_golden_input
from tinyvit.manifest import GoldenVectors, Manifest
from tinyvit.runtimes import processor
from tinyvit.runtimes.artifact import content_sha256, is_manifest_unchanged, read_artifact
from tinyvit.runtimes.base import AUTO_DEVICE, Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.model_io import resolve_model_io
from tinyvit.runtimes.registry import open_runtime

_MAX_SIDE = 4096
"""Largest allowed height or width of a golden input in pixels. The golden inputs of an artifact
that resizes are twice as large as its images, which have at most 1024 pixels in a row. Generating
an image of this size takes 0.6 GiB."""


@dataclass(frozen=True)
class GoldenInputResult:
    """Comparison of the logits of one golden input with the reference logits.

    Attributes:
        pattern_number: Number of the golden input (see `tinyvit.golden`).
        max_abs_diff: Largest absolute difference over all classes and all images of the batch; NaN
            if a logit is NaN.
        top1_agrees: Whether the top-1 class of every image of the batch is that of the reference
            logits; False if a logit is not finite. The verification may pass without this, because
            the logits of two classes can be closer than the tolerance.
    """

    pattern_number: int
    max_abs_diff: float
    top1_agrees: bool


@dataclass(frozen=True)
class HostInfo:
    """The machine that ran the verification.

    Attributes:
        machine: Architecture, such as "x86_64".
        processor: Name of the CPU and its features that affect which kernels run.
    """

    machine: str
    processor: str


@dataclass(frozen=True)
class Verification:
    """Result of verifying an artifact.

    Attributes:
        passed: Whether all logits are within the tolerance, and content and manifest are unchanged.
        reasons: Why the artifact did not pass, one clause for each reason; empty if it passed.
        engine: Engine, device, threads and precision in use.
        max_abs_diff: Largest absolute difference over all golden inputs; NaN if a logit is NaN.
        tolerance: Largest absolute difference that passes.
        reference: What computed the reference logits, such as "the checkpoint in PyTorch, float32".
        golden_inputs: One result for each golden input.
        content_unchanged: Whether everything except the manifest is as it was at export.
        manifest_unchanged: Whether the manifest is as it was at export.
        host: The machine that ran the verification.
    """

    passed: bool
    reasons: tuple[str, ...]
    engine: RuntimeInfo
    max_abs_diff: float
    tolerance: float
    reference: str
    golden_inputs: tuple[GoldenInputResult, ...]
    content_unchanged: bool
    manifest_unchanged: bool
    host: HostInfo


def verify(  # noqa: PLR0913 (the parameters mirror the command line)
    path: str | Path,
    engine_name: str | None = None,
    device: str = AUTO_DEVICE,
    threads: int | None = None,
    *,
    precision: str | None = None,
    cache: str | Path | None = None,
    allow_foreign_operators: bool = False,
) -> Verification:
    """Run an artifact on its golden inputs and compare the logits with the reference logits.

    Args:
        path: Path of the artifact.
        engine_name: Name of the engine; None for the best installed one.
        device: "cpu", "gpu", "npu" or the engine's own name of a device; "auto" for the engine's
            default.
        threads: CPU threads for one inference; None for the engine's default.
        precision: "float32", "bfloat16" or "float16"; None for the precision in the manifest.
        cache: Folder in which the engine keeps the files that it compiles.
        allow_foreign_operators: Whether the file may contain operators that image classifiers do
            not need, such as loops, which may never end.

    Returns:
        The result. Wrong logits raise no error; `passed` is then False.

    Raises:
        ArtifactError: If the file has no manifest or no golden vectors, or cannot be opened.
        RequestError: If an argument is invalid.
        MissingDependencyError: If no engine that opens the file is installed.
    """
    artifact = read_artifact(path)
    manifest = artifact.manifest
    if manifest is None:
        raise ArtifactError(
            f"{path} has no manifest", "only files that tinyvit-export wrote can be verified"
        )
    golden = _read_golden_vectors(manifest, artifact.path)
    options = RuntimeOptions(device, threads, precision, cache, allow_foreign_operators)
    # The whole file is hashed first, so that a damaged file is refused before an engine opens it.
    content_unchanged = content_sha256(artifact.path) == manifest.content_sha256
    manifest_unchanged = is_manifest_unchanged(artifact)
    with open_runtime(artifact, engine_name, options) as runtime:
        # Called for its checks: it raises an error if the file contradicts its own manifest.
        resolve_model_io(artifact, runtime, preprocess=None, labels=None)
        results = compare_golden_vectors(runtime, manifest, golden)
        engine = runtime.describe()
    logits_agree = all(result.max_abs_diff <= golden.tolerance for result in results)
    failures = {
        "the network was changed after export": not content_unchanged,
        "the manifest was changed after export": not manifest_unchanged,
        "the logits differ from those stored at export": not logits_agree,
    }
    reasons = tuple(reason for reason, has_failed in failures.items() if has_failed)
    return Verification(
        passed=not reasons,
        reasons=reasons,
        engine=engine,
        max_abs_diff=_find_largest([result.max_abs_diff for result in results]),
        tolerance=golden.tolerance,
        reference=_describe_reference(manifest),
        golden_inputs=results,
        content_unchanged=content_unchanged,
        manifest_unchanged=manifest_unchanged,
        host=describe_host(),
    )


def describe_host() -> HostInfo:
    """Return this machine's architecture and CPU."""
    return HostInfo(platform.machine(), processor.describe(processor.read_cpuinfo()))


def compare_golden_vectors(
    runtime: Runtime, manifest: Manifest, golden: GoldenVectors
) -> tuple[GoldenInputResult, ...]:
    """Run an opened artifact on golden inputs and compare the logits with the reference logits.

    Args:
        runtime: The opened artifact.
        manifest: Manifest of the artifact.
        golden: The golden inputs and the reference logits.

    Returns:
        One result for each golden input. If the artifact has a fixed batch size, the input is
        repeated to fill a batch, and the logits of all its images are compared.
    """
    results = []
    for index in range(len(golden.patterns)):
        logits = runtime.run(make_golden_batch(manifest, golden, index))
        results.append(_compare_logits(logits, golden, index))
    return tuple(results)


def make_golden_batch(manifest: Manifest, golden: GoldenVectors, index: int) -> npt.NDArray[Any]:
    """Make a batch for the network from one golden input.

    Args:
        manifest: Manifest of the artifact.
        golden: Golden vectors of the artifact.
        index: Index of the golden input in `golden.patterns`.

    Returns:
        The batch, with the artifact's dtype and layout. If its batch size is fixed, the image is
        repeated; otherwise the batch has one image.
    """
    pattern_number = golden.patterns[index]
    image: npt.NDArray[Any] = make_golden_input(pattern_number, golden.height, golden.width)
    if manifest.embedded_preprocessing == "host":
        image = manifest.preprocess.normalize(image, manifest.input.layout)
    batch_size = manifest.input.shape[0]
    count = batch_size if isinstance(batch_size, int) else 1
    return np.stack([image] * count)


def _read_golden_vectors(manifest: Manifest, path: Path) -> GoldenVectors:
    """Return the golden vectors; raise ArtifactError if they contradict the rest of the manifest.

    The checks are strict because the file may be hostile.
    """
    golden = manifest.golden
    if golden is None:
        raise ArtifactError(
            f"{path} has no golden vectors", "export it again with this version of tinyvit-edge"
        )
    has_one_row_per_input = 0 < len(golden.patterns) == len(golden.logits)
    has_valid_rows = all(
        len(row) == len(manifest.labels) and np.isfinite(row).all() for row in golden.logits
    )
    has_valid_tolerance = 0 <= golden.tolerance < math.inf
    is_valid = (
        is_supported(golden.formula, golden.patterns)
        and _is_size_allowed(manifest, golden)
        and has_one_row_per_input
        and has_valid_rows
        and has_valid_tolerance
    )
    if not is_valid:
        raise ArtifactError(
            f"the golden vectors of {path} contradict its manifest",
            "upgrade tinyvit-edge, or export the file again",
        )
    return golden


def _describe_reference(manifest: Manifest) -> str:
    """Return what computed the reference logits of an artifact when it was exported."""
    if manifest.quantization is None:
        return "the checkpoint in PyTorch, float32"
    return f"the {manifest.precision} network in PyTorch, without rounding errors (float64)"


def _is_size_allowed(manifest: Manifest, golden: GoldenVectors) -> bool:
    """Return whether the golden inputs have a size that the artifact takes."""
    sides = (golden.height, golden.width)
    if manifest.embedded_preprocessing == "full":
        return all(0 < side <= _MAX_SIDE for side in sides)
    return sides == (manifest.preprocess.size, manifest.preprocess.size)


def _compare_logits(
    logits: npt.NDArray[np.float32], golden: GoldenVectors, index: int
) -> GoldenInputResult:
    """Compare the logits of a batch, (batch, classes), with the reference of one golden input."""
    reference = np.asarray(golden.logits[index], np.float64)
    max_abs_diff = float(np.abs(logits - reference).max())
    is_same_class = bool((logits.argmax(axis=1) == reference.argmax()).all())
    return GoldenInputResult(
        pattern_number=golden.patterns[index],
        max_abs_diff=max_abs_diff,
        # The top-1 class of logits that are NaN has no meaning.
        top1_agrees=is_same_class and math.isfinite(max_abs_diff),
    )


def _find_largest(differences: list[float]) -> float:
    """Return the largest difference; NaN if any of them is NaN."""
    return max(differences, key=lambda value: math.inf if math.isnan(value) else value)
