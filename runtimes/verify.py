"""Verifies that an artifact computes the right outputs on this machine.

The manifest of an artifact contains golden vectors: the pattern numbers of golden inputs, which are
images that an integer formula generates from these numbers (`tinyvit.golden`), and the reference
outputs for them. Neither the checkpoint nor torch is needed, so a device can run the verification.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.data.batching import Outputs
from tinyvit.errors import ArtifactError
from tinyvit.golden import is_supported, make_golden_input
from tinyvit.golden_outputs import count_compared_values, select_compared_values, split_row
from tinyvit.manifest import GoldenVectors, Manifest
from tinyvit.runtimes import processor
from tinyvit.runtimes.artifact import (
    Artifact,
    content_sha256,
    is_manifest_unchanged,
    read_artifact,
)
from tinyvit.runtimes.base import AUTO_DEVICE, Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.image_input import resolve_image_input, resolve_outputs
from tinyvit.runtimes.label_argument import resolve_labels
from tinyvit.runtimes.registry import open_runtime

_MAX_SIDE = 4096
"""Largest allowed height or width of a golden input in pixels. The golden inputs of an artifact
that resizes are twice as large as its images, which have at most 1024 pixels in a row. Generating
an image of this size takes 0.6 GiB."""


@dataclass(frozen=True)
class GoldenInputResult:
    """Comparison of the outputs for one golden input with the reference outputs.

    Attributes:
        pattern_number: Number of the golden input (see `tinyvit.golden`).
        max_abs_diff: Largest absolute difference over all compared values and all images of the
            batch; NaN if a value is NaN.
        top1_agrees: Whether the top-1 class of every image of the batch is that of the reference
            logits; False if a logit is not finite; None if the output is not logits. The
            verification may pass without this, because the logits of two classes can be closer than
            the tolerance.
        differences: The largest absolute difference of each output.
    """

    pattern_number: int
    max_abs_diff: float
    top1_agrees: bool | None
    differences: tuple[float, ...] = ()


@dataclass(frozen=True)
class OutputResult:
    """Comparison of one output with its reference values, over all golden inputs.

    Attributes:
        name: Name of the output.
        max_abs_diff: Largest absolute difference; NaN if a value is NaN.
        tolerance: Largest absolute difference that passes.
    """

    name: str
    max_abs_diff: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.max_abs_diff <= self.tolerance  # false for NaN

    @property
    def relative_difference(self) -> float:
        """The difference divided by the tolerance; infinite if a value is NaN."""
        if math.isnan(self.max_abs_diff):
            return math.inf
        return self.max_abs_diff / self.tolerance if self.tolerance else self.max_abs_diff


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
        passed: Whether all outputs are within their tolerances, and content and manifest are
            unchanged.
        reasons: Why the artifact did not pass, one clause for each reason; empty if it passed.
        engine: Engine, device, threads and precision in use.
        max_abs_diff: Largest absolute difference over all golden inputs; NaN if a value is NaN. If
            there are several outputs, that of the output whose difference is largest for its
            tolerance.
        tolerance: Largest absolute difference of this output that passes.
        reference: What computed the reference outputs, such as "the checkpoint in PyTorch,
            float32".
        outputs: One result for each output.
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
    outputs: tuple[OutputResult, ...]
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
    """Run an artifact on its golden inputs and compare the outputs with the reference outputs.

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
        The result. Wrong outputs raise no error; `passed` is then False.

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
        resolve_image_input(artifact, runtime)
        _check_outputs(artifact, runtime)
        results = compare_golden_vectors(runtime, manifest, golden)
        engine = runtime.describe()
    outputs = summarize_outputs(results, manifest, golden)
    worst = find_worst_output(outputs)
    name = "logits" if manifest.output_kind == "logits" else "outputs"
    failures = {
        "the network was changed after export": not content_unchanged,
        "the manifest was changed after export": not manifest_unchanged,
        f"the {name} differ from those stored at export": not all(
            output.passed for output in outputs
        ),
    }
    reasons = tuple(reason for reason, has_failed in failures.items() if has_failed)
    return Verification(
        passed=not reasons,
        reasons=reasons,
        engine=engine,
        max_abs_diff=worst.max_abs_diff,
        tolerance=worst.tolerance,
        reference=_describe_reference(manifest),
        outputs=outputs,
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
    """Run an opened artifact on golden inputs and compare the outputs with the reference outputs.

    Args:
        runtime: The opened artifact.
        manifest: Manifest of the artifact.
        golden: The golden inputs and the reference outputs.

    Returns:
        One result for each golden input. If the artifact has a fixed batch size, the input is
        repeated to fill a batch, and the outputs of all its images are compared.
    """
    results = []
    for index in range(len(golden.patterns)):
        outputs = runtime.run_outputs(make_golden_batch(manifest, golden, index))
        results.append(_compare_outputs(outputs, manifest, golden, index))
    return tuple(results)


def summarize_outputs(
    results: Sequence[GoldenInputResult], manifest: Manifest, golden: GoldenVectors
) -> tuple[OutputResult, ...]:
    """Find the largest difference of each output over all golden inputs.

    Args:
        results: What `compare_golden_vectors` returned.
        manifest: Manifest of the artifact.
        golden: The golden vectors with the tolerances.

    Returns:
        One result for each output.
    """
    return tuple(
        OutputResult(spec.name, _find_largest(list(differences)), tolerance)
        for spec, differences, tolerance in zip(
            manifest.outputs, zip(*(result.differences for result in results)), golden.tolerances
        )
    )


def find_worst_output(outputs: Sequence[OutputResult]) -> OutputResult:
    """Return the output whose difference is the largest in relation to its tolerance."""
    return max(outputs, key=lambda output: output.relative_difference)


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
    has_one_row_per_input = 0 < len(golden.patterns) == len(golden.outputs)
    value_count = _count_values(manifest)
    has_valid_rows = all(
        len(row) == value_count and np.isfinite(row).all() for row in golden.outputs
    )
    has_valid_tolerance = len(golden.tolerances) == len(manifest.outputs) and all(
        0 <= tolerance < math.inf for tolerance in golden.tolerances
    )
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


def _count_values(manifest: Manifest) -> int | None:
    """Return the number of golden values of one input; None if the shapes are not possible."""
    try:
        count = sum(map(count_compared_values, manifest.outputs))
    except ValueError:
        return None
    has_all_labels = manifest.output_kind != "logits" or count == len(manifest.labels)
    return count if has_all_labels else None


def _check_outputs(artifact: Artifact, runtime: Runtime) -> None:
    """Raise ArtifactError if the outputs of the network contradict the manifest."""
    resolve_outputs(artifact, runtime)
    if artifact.manifest is not None and artifact.manifest.output_kind == "logits":
        class_count = runtime.outputs[0].shape[1]
        assert isinstance(class_count, int)
        resolve_labels(artifact, class_count, labels=None)


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
    return sides == (manifest.preprocess.height, manifest.preprocess.width)


def _compare_outputs(
    outputs: Outputs, manifest: Manifest, golden: GoldenVectors, index: int
) -> GoldenInputResult:
    """Compare the outputs of a batch, (batch, ...), with the reference of one golden input."""
    references = split_row(golden.outputs[index], manifest.outputs)
    differences = tuple(
        float(np.abs(select_compared_values(output, spec) - reference).max())
        for output, spec, reference in zip(outputs, manifest.outputs, references)
    )
    max_abs_diff = _find_largest(list(differences))
    top1_agrees = None
    if manifest.output_kind == "logits":
        is_same_class = bool((outputs[0].argmax(axis=1) == references[0].argmax()).all())
        # The top-1 class of logits that are NaN has no meaning.
        top1_agrees = is_same_class and math.isfinite(max_abs_diff)
    return GoldenInputResult(golden.patterns[index], max_abs_diff, top1_agrees, differences)


def _find_largest(differences: list[float]) -> float:
    """Return the largest difference; NaN if any of them is NaN."""
    return max(differences, key=lambda value: math.inf if math.isnan(value) else value)
