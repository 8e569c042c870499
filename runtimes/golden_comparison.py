"""Compares the outputs of an opened artifact for golden inputs with the reference outputs.

Golden inputs are images that an integer formula generates (`tinyvit.golden`). The manifest of an
artifact contains their numbers and the reference outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.data.batching import Outputs
from tinyvit.golden import make_golden_input
from tinyvit.golden_outputs import select_compared_values, split_row
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import GoldenVectors
from tinyvit.runtimes.base import Runtime


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
