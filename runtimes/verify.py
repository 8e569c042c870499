"""Does this file, on this machine, still give the logits that it was exported with?

In: an exported file with its golden inputs, which are formulas (golden.py), and an engine. Out: a `Verification`.
Needs neither the checkpoint nor torch, so that it can be run on the device itself.
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
from tinyvit.golden import is_supported, make_pattern
from tinyvit.manifest import GoldenVectors, Manifest
from tinyvit.runtimes import processor as cpu
from tinyvit.runtimes.artifact import content_sha256, open_artifact
from tinyvit.runtimes.base import AUTO_DEVICE, Runtime, RuntimeOptions
from tinyvit.runtimes.model_io import resolve_model_io
from tinyvit.runtimes.registry import open_runtime

_MAX_SIDE = 8192


@dataclass(frozen=True)
class PatternResult:
    """One golden input. max_abs_diff is over the classes and the rows of the batch, NaN where a logit is.

    top1_agrees is told but not judged: two classes may tie within the tolerance.
    """

    pattern: int
    max_abs_diff: float
    top1_agrees: bool


@dataclass(frozen=True)
class Verification:
    """passed: every pattern is within `tolerance`, and content and manifest are unchanged; reasons: why it is not, one for each.

    engine: what really ran, as `Runtime.describe` says. host: the machine's architecture and processor.
    """

    passed: bool
    reasons: tuple[str, ...]
    engine: dict[str, str | int]
    max_abs_diff: float
    tolerance: float
    patterns: tuple[PatternResult, ...]
    content_unchanged: bool
    manifest_unchanged: bool
    host: dict[str, str]


def verify(
    path: str | Path,
    runtime: str | None = None,
    device: str = AUTO_DEVICE,
    threads: int | None = None,
    *,
    precision: str | None = None,
    cache: str | Path | None = None,
) -> Verification:
    """Run a file's golden inputs and compare; arguments as Classifier's.

    Raises ArtifactError for a file without a manifest or golden inputs; a wrong answer is no error but `passed=False`.
    """
    artifact = open_artifact(path)
    manifest = artifact.manifest
    if manifest is None:
        raise ArtifactError(
            f"{path} has no manifest", "only files that tinyvit-export wrote can be verified"
        )
    golden = _sound(manifest, artifact.path)
    with open_runtime(
        artifact, runtime, RuntimeOptions(device, threads, precision, cache)
    ) as opened:
        resolve_model_io(
            artifact, opened, None, None
        )  # refuses a file that contradicts its own manifest
        results = compare_golden(opened, manifest, golden)
        engine = opened.describe()
    worst = max(
        (r.max_abs_diff for r in results), key=lambda diff: math.inf if math.isnan(diff) else diff
    )
    unchanged = content_sha256(artifact.path) == manifest.content_sha256
    judged = {
        "the network was changed after export": unchanged,
        "the manifest was changed after export": manifest.intact,
        "the logits differ from those exported": all(
            r.max_abs_diff <= golden.tolerance for r in results
        ),
    }
    reasons = tuple(reason for reason, good in judged.items() if not good)
    return Verification(
        not reasons,
        reasons,
        engine,
        worst,
        golden.tolerance,
        results,
        unchanged,
        manifest.intact,
        host_facts(),
    )


def host_facts() -> dict[str, str]:
    """The machine's architecture, and its processor with the features that decide which kernels run, as far as the system tells."""
    return {"machine": platform.machine(), "processor": cpu.describe(cpu.cpuinfo())}


def _sound(manifest: Manifest, path: Path) -> GoldenVectors:
    """The golden inputs, checked: they come from the file, which nobody vouches for."""
    golden = manifest.golden
    if golden is None:
        raise ArtifactError(
            f"{path} has no golden inputs", "export it again with this version of tinyvit-edge"
        )
    size = manifest.preprocess.size
    sides = (golden.height, golden.width)
    sound = (
        is_supported(golden.formula, golden.patterns)
        and 0 < len(golden.patterns) == len(golden.logits)
        and (
            all(0 < side <= _MAX_SIDE for side in sides)
            if manifest.stage == "full"
            else sides == (size, size)
        )
        and all(
            len(row) == len(manifest.labels) and np.isfinite(row).all() for row in golden.logits
        )
        and 0 <= golden.tolerance < math.inf
    )
    if not sound:
        raise ArtifactError(
            f"the golden inputs of {path} contradict its manifest",
            "upgrade tinyvit-edge, or export the file again",
        )
    return golden


def compare_golden(
    runtime: Runtime, manifest: Manifest, golden: GoldenVectors
) -> tuple[PatternResult, ...]:
    """Every golden input through an opened artifact; all rows of a fixed batch are compared."""
    return tuple(
        _compare(runtime.run(golden_batch(manifest, golden, i)), golden, i)
        for i in range(len(golden.patterns))
    )


def golden_batch(manifest: Manifest, golden: GoldenVectors, i: int) -> npt.NDArray[Any]:
    """The i-th golden input as the artifact takes it, repeated to fill a fixed batch."""
    picture: npt.NDArray[Any] = make_pattern(golden.patterns[i], golden.height, golden.width)
    one = (
        manifest.preprocess.normalize(picture, manifest.input.layout)
        if manifest.stage == "host"
        else picture
    )
    batch = manifest.input.shape[0]
    return np.stack([one] * (batch if isinstance(batch, int) else 1))


def _compare(logits: npt.NDArray[np.float32], golden: GoldenVectors, i: int) -> PatternResult:
    wanted = np.asarray(golden.logits[i], np.float64)
    diff = float(np.abs(logits - wanted).max())
    return PatternResult(
        golden.patterns[i],
        diff,
        bool((logits.argmax(axis=1) == wanted.argmax()).all()) and math.isfinite(diff),
    )
