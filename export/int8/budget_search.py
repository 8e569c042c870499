"""Searches for an int8 network within the accuracy budget, for one target.

The network is quantized with the scales of a recipe, and the int8 artifact is compared with the
float32 artifact in the same engine. If the int8 artifact misses the budget, the units (layers and
attention modules) are ranked by the error that int8 causes per multiply-accumulate. Then the first
1, 2, 4, ... units of the ranking return to float32, until the artifact is within the budget. At
last, numbers of units between the last two are tried, because fewer units may be enough.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from tinyvit.bench.kernel_profile import can_profile_kernels, profile_kernels
from tinyvit.bench.record import UnitSensitivity
from tinyvit.errors import RequestError
from tinyvit.export.checks.baseline_timing import QuietPeriod, compare_with_float32
from tinyvit.export.int8.quantized_candidate import QuantizedCandidate
from tinyvit.export.int8.search_outcome import BudgetTrial, SearchOutcome
from tinyvit.export.int8.shared_measurements import SharedMeasurements, make_image_reporter
from tinyvit.export.workspace import Workspace
from tinyvit.manifest_parts import Precision
from tinyvit.metrics import FLOAT32_NETWORK, PairedComparison
from tinyvit.progress import Progress
from tinyvit.quant.accuracy_budget import ArtifactOutputs, compare_outputs
from tinyvit.quant.quantized_network import quantize_network, quantized_units
from tinyvit.quant.quantizer import PreparedQuantization
from tinyvit.quant.recipe import Recipe
from tinyvit.quant.sensitivity import SimulatedNetwork, count_unit_macs, rank_sensitivity
from tinyvit.text.plurals import format_count

MIN_INT8_SHARE = 0.5
"""The search gives up if an artifact misses the budget although only this `BudgetTrial.int8_share`
(0 to 1) or less is in int8: an artifact that is mostly float32 is not an int8 artifact."""

MIN_SHARE_GAIN = 0.02
"""A smaller number of float32 units is tried only if it puts this share of the multiply-accumulates
(0 to 1) back into int8: each trial takes as long as measuring the accuracy once."""


def search_within_budget(
    workspace: Workspace,
    quantization: PreparedQuantization,
    measurements: SharedMeasurements,
    progress: Progress,
) -> QuantizedCandidate:
    """Move units back to float32 until the int8 network is within the budget.

    After each artifact that misses the budget, more units are in float32: 1, 2, 4, and so on. Then
    the interval between the last two numbers is halved, as long as this saves `MIN_SHARE_GAIN`.

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
            trial.
    """
    recipe = quantization.recipe
    float32 = workspace.save(workspace.lower(workspace.graph, "float32"), "float32")
    if not quantization.is_measured:
        candidate = _build_candidate(workspace, recipe, quantization.config.precision)
        int8_share = _compute_int8_share(workspace, recipe)
        trial = BudgetTrial(recipe.float_units, int8_share, comparison=None)
        return _with_trials(candidate, (trial,))
    image_count = quantization.count_images()
    reference = measurements.run_float32(
        workspace, float32, quantization.make_batches, image_count, progress
    )
    search = _BudgetSearch(workspace, quantization, reference, progress)
    return search.run()


@dataclass
class _BudgetSearch:
    """The trials of a search, in the workspace of one target.

    Attributes:
        workspace: Where the artifacts are written.
        quantization: The recipe to begin with, and the images to compare on.
        reference: The outputs of the float32 artifact for these images.
        progress: Receives a message for each trial.
        trials: The trials so far.
        ranking: The quantized units, the most sensitive first; empty before they are needed.
    """

    workspace: Workspace
    quantization: PreparedQuantization
    reference: ArtifactOutputs
    progress: Progress
    trials: list[BudgetTrial] = field(default_factory=list)
    ranking: list[UnitSensitivity] = field(default_factory=list)

    def run(self) -> QuantizedCandidate:
        """Try recipes until one is within the budget, as `search_within_budget` describes."""
        recipe = self.quantization.recipe
        unit_count = 0
        while True:
            candidate = self._try(recipe)
            if self._is_accepted(self.trials[-1]):
                break
            if self.workspace.target.scheme.every_tensor:
                # No unit can return to float32.
                raise _make_budget_error(self.trials)
            if not self.ranking:
                self.ranking = self._rank_units()
            unit_count = max(1, 2 * unit_count)
            reduced_recipe = self._return_units(unit_count)
            has_no_more_units = reduced_recipe.float_units == recipe.float_units
            if self.trials[-1].int8_share <= MIN_INT8_SHARE or has_no_more_units:
                raise _make_budget_error(self.trials)
            recipe = reduced_recipe
        return self._refine(candidate, unit_count)

    def _refine(self, candidate: QuantizedCandidate, unit_count: int) -> QuantizedCandidate:
        """Look for the smallest number of float32 units by halving the interval.

        Args:
            candidate: A network within the budget, whose artifact is in the workspace.
            unit_count: Its number of units that returned to float32.

        Returns:
            The network within the budget that has the fewest float32 units. Its artifact is in the
            workspace, and its trial is the last one.
        """
        accepted_trial = last_trial = self.trials[-1]
        too_few = unit_count // 2
        while unit_count - too_few > 1:
            middle = (too_few + unit_count) // 2
            recipe = self._return_units(middle)
            gain = _compute_int8_share(self.workspace, recipe) - accepted_trial.int8_share
            if gain < MIN_SHARE_GAIN:
                break
            tried = self._try(recipe)
            last_trial = self.trials[-1]
            if self._is_accepted(last_trial):
                candidate, accepted_trial, unit_count = tried, last_trial, middle
            else:
                too_few = middle
        if last_trial is not accepted_trial:
            # The artifact in the workspace is that of a network that missed the budget.
            candidate = self._build(candidate.outcome.recipe)
        others = [trial for trial in self.trials if trial is not accepted_trial]
        return _with_trials(candidate, (*others, accepted_trial))

    def _try(self, recipe: Recipe) -> QuantizedCandidate:
        """Quantize the network with a recipe, and compare its artifact with float32."""
        candidate = self._build(recipe)
        precision = self.quantization.config.precision
        image_count = self.quantization.count_images()
        outputs = self.workspace.run(
            self.workspace.locate_artifact(precision),
            self.quantization.make_batches,
            make_image_reporter(self.progress, precision, image_count),
        )
        comparison = compare_outputs(outputs, self.reference)
        int8_share = _compute_int8_share(self.workspace, recipe)
        self.trials.append(BudgetTrial(recipe.float_units, int8_share, comparison))
        units = format_count(len(recipe.float_units), "unit") if recipe.float_units else "no unit"
        self.progress.message(
            f"int8 with {units} in float32: {comparison.describe(FLOAT32_NETWORK)}"
        )
        return candidate

    def _is_accepted(self, trial: BudgetTrial) -> bool:
        config = self.quantization.config
        assert trial.comparison is not None
        return config.force or config.budget.allows(trial.comparison)

    def _build(self, recipe: Recipe) -> QuantizedCandidate:
        return _build_candidate(self.workspace, recipe, self.quantization.config.precision)

    def _return_units(self, unit_count: int) -> Recipe:
        """Return the recipe in which the most sensitive units are float32.

        A unit in which int8 causes no error stays quantized: float32 would not be more accurate.
        """
        units = (entry.unit for entry in self.ranking[:unit_count] if entry.error > 0)
        return self.quantization.recipe.with_more_float_units(tuple(units))

    def _rank_units(self) -> list[UnitSensitivity]:
        """Rank the quantized units by the error that int8 causes in each, the largest first."""
        self.progress.message(
            f"the accuracy budget is missed{self._describe_resolution()}: measuring how sensitive "
            "each layer is to int8, which takes minutes"
        )
        network = SimulatedNetwork(
            self.workspace.folded,
            self.quantization.recipe,
            self.workspace.target.scheme,
            self.quantization.make_sensitivity_images(),
        )
        return rank_sensitivity(network, self.progress)

    def _describe_resolution(self) -> str:
        """Return how much one image counts, and whether the images are too few for the budget."""
        config, comparison = self.quantization.config, self.trials[-1].comparison
        assert comparison is not None
        if config.val_data is None:
            share = 100 / comparison.image_count
            return f" ({comparison.image_count} images, {share:.1f}% each)"
        if isinstance(comparison, PairedComparison):
            return describe_coarse_budget(comparison.image_count, config.budget.max_drop)
        return ""


def describe_coarse_budget(image_count: int, max_drop: float) -> str:
    """Return a remark if one image is more than the budget allows.

    Args:
        image_count: Number of labeled images.
        max_drop: Percentage points of top-1 accuracy that may be lost.

    Returns:
        The remark in parentheses, after a space; "" if there are enough images.
    """
    share = 100 / image_count
    if share <= max_drop:
        return ""
    remedy = (
        f"use {math.ceil(100 / max_drop)} labeled images or more, or " if max_drop > 0 else "use "
    )
    return (
        f" (one of {image_count} images is {share:.1f} points, and --max-drop allows {max_drop:g}:"
        f" {remedy}a larger --max-drop)"
    )


def measure_candidate(
    workspace: Workspace,
    candidate: QuantizedCandidate,
    precision: Precision,
    quiet: QuietPeriod = nullcontext,
) -> QuantizedCandidate:
    """Measure the share of integer kernels and the speed of a candidate in its target's engine.

    Args:
        workspace: The workspace that `search_within_budget` used.
        candidate: The network that `search_within_budget` returned.
        precision: Precision of its artifact.
        quiet: Makes the context in which latency is measured.

    Returns:
        The candidate with its measurements.
    """
    artifact = workspace.locate_artifact(precision)
    integer_kernel_share = None
    if can_profile_kernels(artifact.path):
        integer_kernel_share = profile_kernels(artifact.path).integer_share
    with quiet():
        speed = compare_with_float32(artifact, workspace.locate_artifact("float32"))
    outcome = replace(candidate.outcome, integer_kernel_share=integer_kernel_share, speed=speed)
    return replace(candidate, outcome=outcome)


def _build_candidate(
    workspace: Workspace, recipe: Recipe, precision: Precision
) -> QuantizedCandidate:
    """Quantize the network with a recipe, and write its artifact into the workspace."""
    network = quantize_network(workspace.folded, recipe, workspace.target.scheme)
    graph = workspace.graph.retrace(network)
    lowered = workspace.lower(graph, precision)
    workspace.save(lowered, precision)
    return QuantizedCandidate(network, graph, lowered, SearchOutcome(recipe, trials=()))


def _with_trials(
    candidate: QuantizedCandidate, trials: tuple[BudgetTrial, ...]
) -> QuantizedCandidate:
    """Return a candidate with the steps of the search."""
    return replace(candidate, outcome=replace(candidate.outcome, trials=trials))


def _compute_int8_share(workspace: Workspace, recipe: Recipe) -> float:
    """Return `BudgetTrial.int8_share` of the network that a recipe quantizes."""
    macs = count_unit_macs(workspace.folded)
    units = quantized_units(workspace.folded, recipe, workspace.target.scheme)
    return sum(macs[unit] for unit in units) / sum(macs.values())


def _make_budget_error(trials: list[BudgetTrial]) -> RequestError:
    return RequestError(
        f"int8 misses its accuracy budget: {'; '.join(map(str, trials))}",
        "calibrate with images like the device's (--calib-data), allow a larger loss (--max-drop, "
        "--min-agreement, --min-cosine), or write the file regardless with --force",
    )
