"""Searches for an int8 network within the accuracy budget, for one target.

The network is quantized with the scales of a recipe, and the int8 artifact is compared with the
float32 artifact in the same engine. If the int8 artifact misses the budget, the units (layers and
attention modules) are ranked by the error that int8 causes per multiply-accumulate. Then the first
1, 2, 4, ... units of the ranking return to float32, until the artifact is within the budget.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tinyvit.bench.kernel_profile import can_profile_kernels, profile_kernels
from tinyvit.bench.record import UnitSensitivity
from tinyvit.errors import RequestError
from tinyvit.export.baseline_timing import compare_with_float32
from tinyvit.export.manifest_builder import RELATIVE_TOLERANCE
from tinyvit.export.quantized_candidate import BudgetTrial, QuantizedCandidate
from tinyvit.export.workspace import Workspace
from tinyvit.manifest import Precision
from tinyvit.metrics import FLOAT32_NETWORK
from tinyvit.progress import Progress
from tinyvit.quant.accuracy_budget import (
    ArtifactOutputs,
    BatchFactory,
    Comparison,
    ImageReporter,
    compare_outputs,
)
from tinyvit.quant.quantized_network import quantize_network, quantized_units
from tinyvit.quant.quantizer import PreparedQuantization
from tinyvit.quant.recipe import Recipe
from tinyvit.quant.sensitivity import SimulatedNetwork, count_unit_macs, rank_sensitivity
from tinyvit.quant_scheme import QuantScheme
from tinyvit.runtimes.artifact import Artifact

MIN_INT8_SHARE = 0.5
"""The search gives up if an artifact misses the budget although only this `BudgetTrial.int8_share`
(0 to 1) or less is in int8: an artifact that is mostly float32 is not an int8 artifact."""

PROBE_IMAGE_COUNT = 8
"""Number of images on which the float32 logits of two targets' engines are compared."""


@dataclass
class SharedMeasurements:
    """Measurements of one export that several targets share.

    Attributes:
        candidates_by_scheme: Results of the searches for targets whose engines do not run on this
            machine. They are measured with an ONNX file in place of the target's own file
            (`parity.OnnxSubstitute`); each key is the quantization scheme of such an ONNX file.
        float32_outputs: The outputs of the float32 artifact in the first engine that ran it; None
            before that.
    """

    candidates_by_scheme: dict[QuantScheme, QuantizedCandidate] = field(default_factory=dict)
    float32_outputs: ArtifactOutputs | None = None

    def run_float32(
        self,
        workspace: Workspace,
        float32: Artifact,
        make_batches: BatchFactory,
        image_count: int,
        progress: Progress,
    ) -> ArtifactOutputs:
        """Return the outputs of a float32 artifact, from an earlier target if they are the same.

        Args:
            workspace: The workspace of the artifact.
            float32: The artifact.
            make_batches: Function that returns a new iterator over the batches of images.
            image_count: Number of these images, including unreadable ones.
            progress: If the artifact is run on all images, this receives a message and the number
                of finished images.

        Returns:
            The outputs of the first engine, if this artifact returns the same logits on the first
            `PROBE_IMAGE_COUNT` images; otherwise the artifact's own outputs.
        """
        known_outputs = self.float32_outputs
        if known_outputs is not None and _returns_known_outputs(
            workspace, float32, make_batches, known_outputs
        ):
            return known_outputs
        progress.message(f"measuring float32 in the {workspace.target.name} target's engine")
        report_images = _make_image_reporter(progress, "float32", image_count)
        outputs = workspace.run(float32, make_batches, report_images)
        if known_outputs is None:
            self.float32_outputs = outputs
        return outputs


def _make_image_reporter(progress: Progress, precision: str, image_count: int) -> ImageReporter:
    """Return a function that shows how many images an artifact of a precision has finished."""

    def report_images(finished: int) -> None:
        progress.advance(f"measuring {precision}, images", finished, image_count)

    return report_images


def _returns_known_outputs(
    workspace: Workspace,
    artifact: Artifact,
    make_batches: BatchFactory,
    known_outputs: ArtifactOutputs,
) -> bool:
    """Return whether an artifact returns the known outputs on the first images."""
    pixels, _classes = next(make_batches())
    no_classes = None  # Only outputs are compared.
    probe_batch = (pixels[:PROBE_IMAGE_COUNT], no_classes)
    outputs = workspace.run(artifact, lambda: iter([probe_batch])).outputs
    # The artifacts of a workspace contain no preprocessing: embedded preprocessing "host".
    relative_tolerance = RELATIVE_TOLERANCE["host"]
    return all(
        np.abs(values - known[: len(values)]).max() <= relative_tolerance * np.abs(known).max()
        for values, known in zip(outputs, known_outputs.outputs)
    )


def search_within_budget(
    workspace: Workspace,
    quantization: PreparedQuantization,
    measurements: SharedMeasurements,
    progress: Progress,
) -> QuantizedCandidate:
    """Move units back to float32 until the int8 network is within the budget.

    After each artifact that misses the budget, more units are in float32: 1, 2, 4, and so on. Thus
    few artifacts have to be made, but almost twice as many units may be in float32 as the budget
    requires.

    Args:
        workspace: Where the artifacts are written; afterwards it contains the float32 artifact and
            the artifact of the returned network.
        quantization: The recipe to begin with, and the images to compare on.
        measurements: Measurements of the export's earlier targets.
        progress: Receives a message for each step.

    Returns:
        The network. All units of the recipe are quantized if that is within the budget, if `force`
        was given, or if the accuracy is not measured. Speed and kernels are not measured; see
        `measure_candidate`.

    Raises:
        RequestError: No network that was tried is within the budget; the error describes every
            step.
    """
    config, recipe = quantization.config, quantization.recipe
    float32 = workspace.save(workspace.lower(workspace.graph, "float32"), "float32")
    if not quantization.is_measured:
        candidate = _build_candidate(workspace, recipe, config.precision)
        int8_share = _compute_int8_share(workspace, recipe)
        trial = BudgetTrial(recipe.float_units, int8_share, comparison=None)
        return replace(candidate, trials=(trial,))
    image_count = quantization.count_images()
    reference = measurements.run_float32(
        workspace, float32, quantization.make_batches, image_count, progress
    )
    trials: list[BudgetTrial] = []
    ranking: list[UnitSensitivity] = []
    while True:
        candidate = _build_candidate(workspace, recipe, config.precision)
        int8 = workspace.locate_artifact(config.precision)
        report_images = _make_image_reporter(progress, config.precision, image_count)
        outputs = workspace.run(int8, quantization.make_batches, report_images)
        comparison = compare_outputs(outputs, reference)
        int8_share = _compute_int8_share(workspace, recipe)
        trials.append(BudgetTrial(recipe.float_units, int8_share, comparison))
        progress.message(f"int8: {comparison.describe(FLOAT32_NETWORK)}")
        if config.force or config.budget.allows(comparison):
            return replace(candidate, trials=tuple(trials))
        if workspace.target.scheme.every_tensor:
            # No unit can return to float32.
            raise _make_budget_error(trials)
        if not ranking:
            ranking = _rank_units(workspace, quantization, comparison, progress)
        reduced_recipe = recipe.with_more_float_units(_choose_float_units(ranking, len(trials)))
        has_no_more_units = reduced_recipe.float_units == recipe.float_units
        if int8_share <= MIN_INT8_SHARE or has_no_more_units:
            raise _make_budget_error(trials)
        recipe = reduced_recipe


def measure_candidate(
    workspace: Workspace, candidate: QuantizedCandidate, precision: Precision
) -> QuantizedCandidate:
    """Measure the share of integer kernels and the speed of a candidate in its target's engine.

    Args:
        workspace: The workspace that `search_within_budget` used.
        candidate: The network that `search_within_budget` returned.
        precision: Precision of its artifact.

    Returns:
        The candidate with its measurements.
    """
    artifact = workspace.locate_artifact(precision)
    integer_kernel_share = None
    if can_profile_kernels(artifact.path):
        integer_kernel_share = profile_kernels(artifact.path).integer_share
    speed = compare_with_float32(artifact, workspace.locate_artifact("float32"))
    return replace(candidate, integer_kernel_share=integer_kernel_share, speed=speed)


def _build_candidate(
    workspace: Workspace, recipe: Recipe, precision: Precision
) -> QuantizedCandidate:
    """Quantize the network with a recipe, and write its artifact into the workspace."""
    network = quantize_network(workspace.folded, recipe, workspace.target.scheme)
    graph = workspace.graph.retrace(network)
    lowered = workspace.lower(graph, precision)
    workspace.save(lowered, precision)
    return QuantizedCandidate(network, graph, recipe, trials=(), lowered=lowered)


def _compute_int8_share(workspace: Workspace, recipe: Recipe) -> float:
    """Return `BudgetTrial.int8_share` of the network that a recipe quantizes."""
    macs = count_unit_macs(workspace.folded)
    units = quantized_units(workspace.folded, recipe, workspace.target.scheme)
    return sum(macs[unit] for unit in units) / sum(macs.values())


def _rank_units(
    workspace: Workspace,
    quantization: PreparedQuantization,
    comparison: Comparison,
    progress: Progress,
) -> list[UnitSensitivity]:
    """Rank the quantized units by the error that int8 causes in each, the largest first."""
    share_of_one_image = ""
    if quantization.config.val_data is None:
        count = comparison.image_count
        share_of_one_image = f" ({count} images, {100 / count:.1f}% each)"
    progress.message(
        f"the accuracy budget is missed{share_of_one_image}: measuring how sensitive each layer is "
        "to int8, which takes minutes"
    )
    network = SimulatedNetwork(
        workspace.folded,
        quantization.recipe,
        workspace.target.scheme,
        quantization.make_sensitivity_images(),
    )
    return rank_sensitivity(network, progress)


def _choose_float_units(ranking: list[UnitSensitivity], trial_count: int) -> tuple[str, ...]:
    """Choose the most sensitive units, which return to float32.

    The number of units, including those of earlier calls, is one after the first trial, two after
    the second, then four, and so on.
    A unit in which int8 causes no error is never chosen: float32 would not make it more accurate.
    """
    unit_count = 2 ** (trial_count - 1)
    return tuple(sensitivity.unit for sensitivity in ranking[:unit_count] if sensitivity.error > 0)


def _make_budget_error(trials: list[BudgetTrial]) -> RequestError:
    return RequestError(
        f"int8 misses its accuracy budget: {'; '.join(map(str, trials))}",
        "calibrate with images like the device's (--calib-data), allow a larger loss (--max-drop, "
        "--min-agreement, --min-cosine), or write the file regardless with --force",
    )
