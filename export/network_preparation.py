"""Prepares the traced network that a target lowers (converts to its own form).

The prepared network is the float32 network, or a network that is quantized to int8 within the
accuracy budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

from tinyvit.bench.machine import describe_cpu
from tinyvit.bench.sensitivity.measure import measure_sensitivity
from tinyvit.errors import RequestError
from tinyvit.export.checks.baseline_timing import QuietPeriod, SpeedComparison, compare_with_float32
from tinyvit.export.checks.parity import OnnxSubstitute
from tinyvit.export.config import ExportConfig
from tinyvit.export.int8.budget_search import measure_candidate, search_within_budget
from tinyvit.export.int8.quantized_candidate import QuantizedCandidate
from tinyvit.export.int8.shared_measurements import SharedMeasurements
from tinyvit.export.manifest_builder import build_manifest, make_golden_vectors
from tinyvit.export.source_network import SourceNetwork
from tinyvit.export.targets import Target
from tinyvit.export.tracing import Graph
from tinyvit.export.workspace import open_workspace
from tinyvit.manifest import Manifest
from tinyvit.nn.model import TinyViT
from tinyvit.progress import Progress
from tinyvit.quant.channel_ranges.equalization import equalize_network
from tinyvit.quant.quantized_network import with_exact_arithmetic
from tinyvit.quant.quantizer import PreparedQuantization, prepare_quantization
from tinyvit.quant.sensitivity import SimulatedNetwork


@dataclass(frozen=True)
class PreparedNetwork:
    """A traced network that is ready to be lowered, and what is known about its artifact.

    Attributes:
        graph: The traced network.
        manifest: The artifact's manifest with golden vectors (test inputs and their expected
            logits), but without the fields that depend on the target.
        torch_baseline: The folded network, which is timed in eager torch as the baseline of a
            float32 artifact; None for other precisions.
        speed: Latency compared with the float32 artifact in the same engine; None for float32, and
            if it was not measured.
        candidate: How the int8 network was found; None for float32 and float16.
        notes: Facts about the checkpoint that a user should know; see `Checkpoint.notes`.
    """

    graph: Graph
    manifest: Manifest
    torch_baseline: TinyViT | None = None
    speed: SpeedComparison | None = None
    candidate: QuantizedCandidate | None = None
    notes: tuple[str, ...] = ()


class NetworkPreparer(Protocol):
    """Prepares the network of an export for each target in turn."""

    def prepare(self, target: Target) -> PreparedNetwork:
        """Prepare the network for a target.

        Args:
            target: The target that will lower it.

        Returns:
            The prepared network.

        Raises:
            TinyViTError: The network cannot be made as it was requested.
        """
        ...


@dataclass(frozen=True)
class FloatPreparer:
    """Prepares the same float32 network for the float32 or float16 artifacts of all targets.

    Attributes:
        source: The network to export.
        manifest: The manifest that all artifacts share, with golden vectors and the precision.
        progress: Receives a message for each measurement.
        quiet: Makes the context in which latency is measured.
    """

    source: SourceNetwork
    manifest: Manifest
    progress: Progress
    quiet: QuietPeriod = nullcontext

    def prepare(self, target: Target) -> PreparedNetwork:
        """Prepare the network for a target; see `NetworkPreparer.prepare`."""
        network = PreparedNetwork(
            self.source.graph, self.manifest, notes=self.source.checkpoint.notes
        )
        if self.manifest.precision == "float32":
            return replace(network, torch_baseline=self.source.folded)
        # For float16, the target rounds the weights of the float32 network when it lowers it.
        return replace(network, speed=self._compare_with_float32(target))

    def _compare_with_float32(self, target: Target) -> SpeedComparison | None:
        """Compare latency with the float32 artifact; None if the engine does not run here."""
        if target.parity_method != "engine":
            return None
        precision = self.manifest.precision
        self.progress.message(
            f"timing {precision} and float32 in the {target.name} target's engine"
        )
        with open_workspace(self.source, target) as workspace:
            artifact = workspace.save(workspace.lower(workspace.graph, precision), precision)
            float32 = workspace.save(workspace.lower(workspace.graph, "float32"), "float32")
            with self.quiet():
                return compare_with_float32(artifact, float32)


@dataclass(frozen=True)
class QuantizedPreparer:
    """Prepares a quantized network for each target, all from one recipe of int8 scales.

    Attributes:
        config: The options of the export.
        source: The network to export; `folded` is equalized
            (`tinyvit.quant.channel_ranges.equalization`).
        quantization: The recipe, and the images on which int8 is compared with float32.
        progress: Receives a message for each step.
        measurements: Measurements that several targets share.
        quiet: As in `FloatPreparer`.
    """

    config: ExportConfig
    source: SourceNetwork
    quantization: PreparedQuantization
    progress: Progress
    measurements: SharedMeasurements = field(default_factory=SharedMeasurements)
    quiet: QuietPeriod = nullcontext

    def prepare(self, target: Target) -> PreparedNetwork:
        """Prepare the network for a target; see `NetworkPreparer.prepare`."""
        if target.parity_method == "engine":
            candidate = self._search(target)
        else:
            candidate = self._search_with_substitute(target)
        if self.quantization.config.sensitivity:
            candidate = self._measure_sensitivity(target, candidate)
        manifest = build_manifest(
            self.source.checkpoint,
            self.source.labels,
            self.config.batch,
            self.config.preprocess,
            self.quantization.config.precision,
            self.source.graph.outputs,
        )
        exact_network = with_exact_arithmetic(candidate.network)
        entry = candidate.outcome.make_manifest_entry(self.quantization.config, describe_cpu())
        weight_bits = target.scheme.choose_weight_bits(entry.weight_bits)
        manifest = replace(
            manifest,
            golden=make_golden_vectors(exact_network, manifest, self.progress),
            quantization=replace(entry, weight_bits=weight_bits),
        )
        return PreparedNetwork(
            candidate.graph,
            manifest,
            speed=candidate.outcome.speed,
            candidate=candidate,
            notes=self.source.checkpoint.notes,
        )

    def _measure_sensitivity(
        self, target: Target, candidate: QuantizedCandidate
    ) -> QuantizedCandidate:
        """Measure the error that int8 causes in each unit of the network for a target."""
        images = self.quantization.make_sensitivity_images()
        network = SimulatedNetwork(
            self.source.folded, candidate.outcome.recipe, target.scheme, images
        )
        self.progress.message(
            f"measuring in PyTorch how sensitive the {len(network.units)} units of the"
            f" {target.name} network are to int8"
        )
        sensitivity = measure_sensitivity(network, self.progress)
        return replace(candidate, outcome=replace(candidate.outcome, sensitivity=sensitivity))

    def _search(self, target: Target) -> QuantizedCandidate:
        """Search for an int8 network in the target's own engine, and check --min-speedup."""
        config = self.quantization.config
        with open_workspace(self.source, target) as workspace:
            candidate = search_within_budget(
                workspace, self.quantization, self.measurements, self.progress
            )
            candidate = measure_candidate(workspace, candidate, config.precision, self.quiet)
        speed = candidate.outcome.speed
        assert speed is not None
        if config.min_speedup is not None and speed.speedup < config.min_speedup:
            raise RequestError(
                f"int8 is {speed.speedup:.2f} times as fast as float32 on this machine "
                f"({describe_cpu()}), and --min-speedup {config.min_speedup} was requested",
                "export float32, or leave out --min-speedup if the device has another processor",
            )
        return candidate

    def _search_with_substitute(self, target: Target) -> QuantizedCandidate:
        """Search for an int8 network with an ONNX file in place of the target's own file.

        The target's engine does not run on this machine; see `OnnxSubstitute`. The ONNX file
        quantizes the same tensors with the same scales, but to onnxruntime's data types. Targets
        whose ONNX files have the same quantization scheme share one search.
        """
        if self.quantization.config.min_speedup is not None:
            raise RequestError(
                f"{target.name} files do not run on this machine, so --min-speedup cannot be "
                "checked",
                "leave out --min-speedup",
            )
        substitute = OnnxSubstitute(target)
        candidate = self.measurements.candidates_by_scheme.get(substitute.scheme)
        if candidate is None:
            with open_workspace(self.source, substitute) as workspace:
                candidate = search_within_budget(
                    workspace, self.quantization, self.measurements, self.progress
                )
            self.measurements.candidates_by_scheme[substitute.scheme] = candidate
        # The candidate has onnxruntime's data types; its recipe is applied with the target's.
        return candidate.with_scheme(self.source.folded, target.scheme)


def make_preparer(
    config: ExportConfig, source: SourceNetwork, targets: Sequence[Target], progress: Progress
) -> NetworkPreparer:
    """Make the preparer, and do the work that all targets share.

    That work is calibration for int8, and computing the golden vectors for other precisions.

    Args:
        config: The options of the export.
        source: The network to export.
        targets: The targets that artifacts are made for. If one quantizes every tensor, all are
            calibrated.
        progress: Receives messages and counts.

    Returns:
        A preparer for the requested precision.

    Raises:
        RequestError: The calibration images or the recipe cannot be used.
    """
    if config.quantization is not None:
        every_tensor = any(target.scheme.every_tensor for target in targets)
        quantization = prepare_quantization(
            replace(config.quantization, every_tensor=every_tensor),
            source.checkpoint,
            source.labels,
            source.original,
            source.folded,
            progress,
        )
        # The recipe is for the equalized network. The float32 artifacts that int8 is compared with
        # are made from `source.graph`, which does not change.
        equalized = equalize_network(source.folded, quantization.recipe.equalization)
        return QuantizedPreparer(config, replace(source, folded=equalized), quantization, progress)
    manifest = build_manifest(
        source.checkpoint,
        source.labels,
        config.batch,
        config.preprocess,
        config.precision,
        source.graph.outputs,
    )
    golden = make_golden_vectors(source.original, manifest, progress)
    return FloatPreparer(source, replace(manifest, golden=golden), progress)
