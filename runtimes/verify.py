"""Verifies that an artifact computes the right outputs on this machine.

The manifest of an artifact contains golden vectors: the pattern numbers of golden inputs, which are
images that an integer formula generates from these numbers (`tinyvit.golden`), and the reference
outputs for them. Neither the checkpoint nor torch is needed, so a device can run the verification.
"""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyvit.errors import ArtifactError
from tinyvit.golden import is_supported
from tinyvit.golden_outputs import count_compared_values
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import GoldenVectors
from tinyvit.runtimes import processor
from tinyvit.runtimes.artifact import (
    Artifact,
    content_sha256,
    is_manifest_unchanged,
    read_artifact,
)
from tinyvit.runtimes.base import AUTO_DEVICE, Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.golden_comparison import (
    GoldenInputResult,
    OutputResult,
    compare_golden_vectors,
    find_worst_output,
    summarize_outputs,
)
from tinyvit.runtimes.image_input import resolve_image_input
from tinyvit.runtimes.image_outputs import resolve_outputs
from tinyvit.runtimes.label_argument import resolve_labels
from tinyvit.runtimes.registry import open_runtime

_MAX_SIDE = 4096
"""Largest allowed height or width of a golden input in pixels. The golden inputs of an artifact
that resizes are twice as large as its images, which have at most 1024 pixels in a row. Generating
an image of this size takes 0.6 GiB."""


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
    checks = {
        "the network was changed after export": content_unchanged,
        "the manifest was changed after export": manifest_unchanged,
        f"the {name} differ from those stored at export": all(out.passed for out in outputs),
    }
    reasons = tuple(reason for reason, has_passed in checks.items() if not has_passed)
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
