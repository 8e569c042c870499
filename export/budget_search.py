"""Searches for an int8 network within the accuracy budget, for one target.

The network is quantized by a recipe (scales and bit widths), and the int8 artifact is compared with
the float32 artifact in the same engine. While it misses the budget, the units (layers and attention
modules) that lose most by quantization return to float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tinyvit.bench.kernel_profile import can_profile_kernels, profile_kernels
from tinyvit.errors import RequestError
from tinyvit.export.baseline_timing import SpeedComparison, compare_with_float32
from tinyvit.export.manifest_builder import RELATIVE_TOLERANCE
from tinyvit.export.targets import LoweredModel
from tinyvit.export.tracing import Graph
from tinyvit.export.workspace import Workspace
from tinyvit.manifest import Precision, Quantization
from tinyvit.metrics import PairedComparison
from tinyvit.nn.model import TinyViT
from tinyvit.progress import Progress
from tinyvit.quant.accuracy_budget import ArtifactOutputs, BatchFactory, compare_outputs
from tinyvit.quant.quantized_network import quantize_network, quantized_units
from tinyvit.quant.quantizer import PreparedQuantization, QuantizationConfig
from tinyvit.quant.recipe import Recipe
from tinyvit.quant.sensitivity import UnitSensitivity, count_unit_macs, rank_sensitivity
from tinyvit.quant_scheme import QuantScheme
from tinyvit.runtimes.artifact import Artifact

MIN_INT8_SHARE = 0.5
"""Share of the multiply-accumulates in int8, 0 to 1, at or below which the search gives up: an
artifact that is mostly float32 is not an int8 artifact."""

PROBE_IMAGE_COUNT = 8
"""Number of images on which the float32 logits of two engines are compared."""


@dataclass(frozen=True)
class BudgetTrial:
    """One step of the search.

    Attributes:
        float_units: Names of the layers and attention modules that stay float32.
        int8_share: Share of the multiply-accumulates that the recipe quantizes, 0 to 1.
        comparison: Comparison of the int8 artifact with the float32 artifact.
    """

    float_units: tuple[str, ...]
    int8_share: float
    comparison: PairedComparison

    def __str__(self) -> str:
        return (
            f"{len(self.float_units)} units in float32, "
            f"{self.int8_share:.0%} of the multiply-accumulates in int8: {self.comparison}"
        )


@dataclass(frozen=True)
class QuantizedCandidate:
    """An int8 network that is within the budget, or that --force accepts regardless.

    Attributes:
        network: The quantized network.
        graph: The quantized network, traced.
        recipe: The recipe that was applied, with the units that stay float32.
        trials: The steps of the search; the last one is of this network.
        lowered: The model with embedded preprocessing "host" for the target itself; None if a
            substitute was measured.
        int8_mac_fraction: Fraction of the multiply-accumulates that ran in integer kernels, 0 to
            1; None if the engine does not run here or does not report its kernels.
        speed: Latency compared with the float32 artifact; None if the engine does not run here.
    """

    network: TinyViT
    graph: Graph
    recipe: Recipe
    trials: tuple[BudgetTrial, ...]
    lowered: LoweredModel | None
    int8_mac_fraction: float | None = None
    speed: SpeedComparison | None = None

    @property
    def comparison(self) -> PairedComparison:
        """Comparison of this network's artifact with the float32 artifact."""
        return self.trials[-1].comparison

    def with_scheme(self, folded: TinyViT, scheme: QuantScheme) -> QuantizedCandidate:
        """Apply the same recipe with the scheme of a target whose engine does not run here.

        Args:
            folded: The folded float32 network.
            scheme: Which tensors that engine quantizes, and in which form.

        Returns:
            The candidate for that engine, not lowered yet.
        """
        network = quantize_network(folded, self.recipe, scheme)
        return replace(self, network=network, graph=self.graph.retrace(network), lowered=None)

    def make_manifest_entry(self, config: QuantizationConfig, measured_on: str) -> Quantization:
        """Describe the quantization for the manifest.

        Args:
            config: The options of the quantization.
            measured_on: The processor that accuracy and speed were measured on.

        Returns:
            The field `quantization` of the manifest.
        """
        return Quantization(
            method=self.recipe.method,
            calibration_sha256=self.recipe.calibration_sha256,
            calibration_count=self.recipe.calibration_count,
            recipe_sha256=self.recipe.sha256,
            weight_bits=self.recipe.weight_bits,
            required_cpu_feature=config.cpu,
            float_units=self.recipe.float_units,
            int8_mac_fraction=None
            if self.int8_mac_fraction is None
            else round(self.int8_mac_fraction, 4),
            evaluation_count=self.comparison.image_count,
            agreement=self.comparison.agreement,
            top1=self.comparison.top1,
            float_top1=self.comparison.reference_top1,
            trials=tuple(map(str, self.trials)),
            measured_on=measured_on,
            forced=not config.budget.allows(self.comparison),
        )


@dataclass
class SharedMeasurements:
    """Measurements of one export that several targets share.

    Attributes:
        substitutes: Scheme of an `OnnxSubstitute` -> the result of the search with it, for targets
            whose engines do not run here.
        float32_outputs: The outputs of the float32 artifact in the first engine that was measured.
    """

    substitutes: dict[QuantScheme, QuantizedCandidate] = field(default_factory=dict)
    float32_outputs: ArtifactOutputs | None = None

    def run_float32(
        self, workspace: Workspace, float32: Artifact, images: BatchFactory, progress: Progress
    ) -> ArtifactOutputs:
        """Return the outputs of a float32 artifact.

        Args:
            workspace: The workspace of the artifact.
            float32: The artifact.
            images: The images.
            progress: Receives a message if the artifact is run on all images.

        Returns:
            The outputs of the first engine, if this artifact returns the same logits on the first
            `PROBE_IMAGE_COUNT` images; otherwise the artifact's own outputs.
        """
        known = self.float32_outputs
        if known is not None and _matches(workspace, float32, images, known):
            return known
        progress.message(f"measuring float32 in the {workspace.target.name} target's engine")
        outputs = workspace.run(float32, images)
        self.float32_outputs = known or outputs
        return outputs


def _matches(
    workspace: Workspace, artifact: Artifact, images: BatchFactory, known: ArtifactOutputs
) -> bool:
    """Return whether an artifact returns the known logits on the first images."""
    pixels, _ = next(images())
    logits = workspace.run(artifact, lambda: iter([(pixels[:PROBE_IMAGE_COUNT], None)])).logits
    known_logits = known.logits[: len(logits)]
    tolerance = RELATIVE_TOLERANCE["host"] * np.abs(known_logits).max()
    return bool(np.abs(logits - known_logits).max() <= tolerance)


def search_within_budget(
    workspace: Workspace,
    quantization: PreparedQuantization,
    measurements: SharedMeasurements,
    progress: Progress,
) -> QuantizedCandidate:
    """Find the int8 network with the fewest units in float32 that is within the budget.

    Args:
        workspace: Where the artifacts are written; afterwards it contains the float32 artifact and
            the artifact of the returned network.
        quantization: The recipe to begin with, and the images to compare on.
        measurements: Measurements of the export's earlier targets.
        progress: Receives a message for each step.

    Returns:
        The network. All units of the recipe are quantized if that is within the budget or if
        `force` was given. Speed and kernels are not measured; see `measure_candidate`.

    Raises:
        RequestError: No network is within the budget; the error describes every step.
    """
    config, recipe = quantization.config, quantization.recipe
    float32 = workspace.save(workspace.lower(workspace.graph, "float32"), "float32")
    reference = measurements.run_float32(workspace, float32, quantization.make_batches, progress)
    trials: list[BudgetTrial] = []
    ranking: list[UnitSensitivity] = []
    while True:
        candidate = _build_candidate(workspace, recipe, config.precision)
        outputs = workspace.run(workspace.artifact(config.precision), quantization.make_batches)
        comparison = compare_outputs(outputs, reference)
        share = _quantized_share(workspace, recipe)
        trials.append(BudgetTrial(recipe.float_units, share, comparison))
        progress.message(f"int8: {comparison}")
        if config.force or config.budget.allows(comparison):
            return replace(candidate, trials=tuple(trials))
        if not ranking:
            ranking = _rank_units(workspace, quantization, comparison, progress)
        reduced = recipe.with_float_units(_choose_float_units(ranking, len(trials)))
        if share <= MIN_INT8_SHARE or reduced.float_units == recipe.float_units:
            raise _make_budget_error(trials)
        recipe = reduced


def measure_candidate(
    workspace: Workspace, candidate: QuantizedCandidate, precision: Precision
) -> QuantizedCandidate:
    """Measure the kernels and the speed of a candidate in its target's engine.

    Args:
        workspace: The workspace that `search_within_budget` used.
        candidate: The network that `search_within_budget` returned.
        precision: Precision of its artifact.

    Returns:
        The candidate with its measurements.
    """
    artifact = workspace.artifact(precision)
    int8_mac_fraction = None
    if can_profile_kernels(artifact.path):
        int8_mac_fraction = profile_kernels(artifact.path).integer_share
    speed = compare_with_float32(artifact, workspace.artifact("float32"))
    return replace(candidate, int8_mac_fraction=int8_mac_fraction, speed=speed)


def _build_candidate(
    workspace: Workspace, recipe: Recipe, precision: Precision
) -> QuantizedCandidate:
    """Quantize the network by a recipe and write its artifact."""
    network = quantize_network(workspace.folded, recipe, workspace.target.scheme)
    graph = workspace.graph.retrace(network)
    lowered = workspace.lower(graph, precision)
    workspace.save(lowered, precision)
    return QuantizedCandidate(network, graph, recipe, trials=(), lowered=lowered)


def _quantized_share(workspace: Workspace, recipe: Recipe) -> float:
    """Return the share of the multiply-accumulates that a recipe quantizes, 0 to 1."""
    macs = count_unit_macs(workspace.folded)
    units = quantized_units(workspace.folded, recipe, workspace.target.scheme)
    return sum(macs[unit] for unit in units) / sum(macs.values())


def _rank_units(
    workspace: Workspace,
    quantization: PreparedQuantization,
    comparison: PairedComparison,
    progress: Progress,
) -> list[UnitSensitivity]:
    """Rank the quantized units by the error that int8 causes in each."""
    resolution = ""
    if quantization.config.val_data is None:
        resolution = (
            f" (one of {comparison.image_count} images is {100 / comparison.image_count:.1f}%)"
        )
    progress.message(
        f"the accuracy budget is missed{resolution}: measuring how sensitive each layer is to "
        "int8, which takes minutes"
    )
    return rank_sensitivity(
        workspace.folded,
        quantization.recipe,
        workspace.target.scheme,
        quantization.sensitivity_images(),
        progress,
    )


def _choose_float_units(ranking: list[UnitSensitivity], trial_count: int) -> tuple[str, ...]:
    """Choose the 1, 2, 4, ... most sensitive units, which return to float32."""
    return tuple(
        sensitivity.unit
        for sensitivity in ranking[: 2 ** (trial_count - 1)]
        if sensitivity.error > 0
    )


def _make_budget_error(trials: list[BudgetTrial]) -> RequestError:
    return RequestError(
        f"int8 misses its accuracy budget: {'; '.join(map(str, trials))}",
        "calibrate with images like the device's (--calib-data), allow a larger loss (--max-drop, "
        "--min-agreement), or write the file regardless with --force",
    )
