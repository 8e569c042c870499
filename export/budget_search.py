"""The int8 road for one target: apply the recipe, measure what it costs, give back to float32 what hurts, or refuse.

In: the folded network, its recipe, images that were not calibrated with. Out: `QuantizedCandidate`, the network within the budget.
Both artifacts, int8 and float32, are made for the target and run in its own engine, on one machine, in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tinyvit.bench.kernel_profile import can_profile_kernels, profile_kernels
from tinyvit.bench.latency.interleave import Timing, median_ratio
from tinyvit.errors import RequestError
from tinyvit.export.baseline_timing import beside_float32
from tinyvit.export.manifest_builder import RELATIVE_TOLERANCE
from tinyvit.export.targets import LoweredModel, Target, input_for_target
from tinyvit.export.tracing import Graph, in_one_line
from tinyvit.manifest import Manifest, Precision, Quantization
from tinyvit.metrics import PairedComparison
from tinyvit.nn.model import TinyViT
from tinyvit.quant.accuracy_budget import (
    ArtifactOutputs,
    ImageBatches,
    compare_outputs,
    run_artifact,
)
from tinyvit.quant.quantized_network import quantize_network, quantized_units
from tinyvit.quant.quantizer import PreparedQuantization
from tinyvit.quant.recipe import Recipe
from tinyvit.quant.sensitivity import UnitSensitivity, count_unit_macs, rank_sensitivity
from tinyvit.quant_scheme import QuantScheme
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.registry import open_runtime

LEAST_INT8 = 0.5
"""Share of the multiply-accumulates under which an int8 file is not worth its name: the search for a better one ends there."""

FEW = 8
"""Images that tell whether two engines answer alike."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class BudgetTrial:
    """One step of the search: what stayed float32 besides the recipe's own, the share of MACs left in int8, and the outcome."""

    float_units: tuple[str, ...]
    planned_int8: float
    worth: PairedComparison

    def __str__(self) -> str:
        return f"{len(self.float_units)} units in float32, {self.planned_int8:.0%} of the work in int8: {self.worth}"


@dataclass(frozen=True)
class QuantizedCandidate:
    """A network within the budget (or forced), its graph, and what was measured of it in the target's engine: times None where that does
    not run here, int8_macs where it does not tell. lowered: its file as it was measured, at stage "host" for the target itself."""

    network: TinyViT
    graph: Graph
    recipe: Recipe
    trials: tuple[BudgetTrial, ...]
    int8_macs: float | None = None
    int8_ms: Timing | None = None
    float_ms: Timing | None = None
    lowered: LoweredModel | None = None

    @property
    def worth(self) -> PairedComparison:
        """Of the network that was kept, the last one tried."""
        return self.trials[-1].worth

    @property
    def speedup(self) -> float:
        """How many times as fast as float32 it ran here."""
        assert self.int8_ms is not None
        assert self.float_ms is not None
        return 1 / median_ratio(self.int8_ms, self.float_ms)

    def placed(self, folded: TinyViT, placement: QuantScheme) -> QuantizedCandidate:
        """The same recipe as another engine wants it, which does not run here."""
        network = quantize_network(folded, self.recipe, placement)
        return replace(self, network=network, graph=self.graph.again(network), lowered=None)

    def record(self, cpu: str, measured_on: str, forced: bool) -> Quantization:
        """What the manifest says of it."""
        return Quantization(
            method=self.recipe.method,
            data=self.recipe.calibration_sha256,
            data_count=self.recipe.calibration_count,
            recipe=self.recipe.sha256,
            weight_bits=self.recipe.weight_bits,
            cpu=cpu,
            float_units=self.recipe.float_units,
            int8_macs=None if self.int8_macs is None else round(self.int8_macs, 4),
            images=self.worth.images,
            agreement=self.worth.agreement,
            top1=self.worth.top1,
            float_top1=self.worth.reference_top1,
            trials=tuple(map(str, self.trials)),
            measured_on=measured_on,
            forced=forced,
        )


@dataclass(frozen=True)
class Workspace:
    """Where the artifacts of one target are made to be measured: a folder, the float32 network, how it is traced, its manifest.

    draft: of the float32 artifact at stage "host"; accuracy is of the network, whatever preprocessing goes into the file.
    stands_in: the target is not what was asked for, but what runs here instead of it.
    """

    folder: Path
    target: Target
    folded: TinyViT
    graph: Graph
    draft: Manifest
    stands_in: bool = False

    def lower(self, graph: Graph) -> LoweredModel:
        """For the target, at stage "host"."""
        with in_one_line(f"making the {self.target.name} artifact"):
            return self.target.lower(graph, self.draft.preprocess, "host")

    def save(self, lowered: LoweredModel, precision: Precision) -> Artifact:
        """A file to measure, replaced by the next of its precision."""
        path = self.folder / f"{precision}{self.target.suffix}"
        manifest = replace(
            self.draft,
            target=self.target.name,
            precision=precision,
            input=input_for_target(self.draft.input, self.target),
        )
        with in_one_line(f"writing {path.name}"):
            lowered.save(path, manifest)
        return Artifact(path, manifest)

    def answers(self, artifact: Artifact, images: ImageBatches) -> ArtifactOutputs:
        """Of one artifact, on as many threads as its engine likes."""
        assert artifact.manifest is not None
        with open_runtime(artifact) as runtime:
            return run_artifact(runtime, artifact.manifest, images)


@dataclass
class SharedMeasurements:
    """What is measured once in an export and holds for several targets.

    stand_ins: what was found for targets that do not run here, by the placement that stood for them. float32: the answers of the
    float32 network in the first engine.
    """

    stand_ins: dict[QuantScheme, QuantizedCandidate] = field(default_factory=dict)
    float32: ArtifactOutputs | None = None

    def answers(
        self, shop: Workspace, float32: Artifact, images: ImageBatches, report: Progress
    ) -> ArtifactOutputs:
        """Of the float32 artifact; measured again only where it differs from the first one on the first FEW images."""
        if self.float32 is not None:
            pixels, _ = next(images())
            few = shop.answers(float32, lambda: iter([(pixels[:FEW], None)])).logits
            known = self.float32.logits[: len(few)]
            if np.abs(few - known).max() <= RELATIVE_TOLERANCE["host"] * np.abs(known).max():
                return self.float32
        report(f"measuring float32 in the {shop.target.name} target's engine")
        found = shop.answers(float32, images)
        self.float32 = self.float32 or found
        return found


def search_within_budget(
    shop: Workspace, prepared: PreparedQuantization, measured: SharedMeasurements, report: Progress
) -> QuantizedCandidate:
    """The recipe, or the one with the fewest units in float32 that meets the budget.

    Raises RequestError, saying what was measured, where none does.
    """
    recipe, asked = prepared.recipe, prepared.config
    float32 = shop.save(shop.lower(shop.graph), "float32")
    wanted = measured.answers(shop, float32, prepared.images, report)
    trials: list[BudgetTrial] = []
    ranking: list[UnitSensitivity] = []
    costs = count_unit_macs(shop.folded)
    while True:
        network = quantize_network(shop.folded, recipe, shop.target.placement)
        graph = shop.graph.again(network)
        lowered = shop.lower(graph)
        int8 = shop.save(lowered, asked.precision)
        left = sum(
            costs[unit] for unit in quantized_units(shop.folded, recipe, shop.target.placement)
        ) / sum(costs.values())
        trials.append(
            BudgetTrial(
                recipe.float_units,
                left,
                compare_outputs(shop.answers(int8, prepared.images), wanted),
            )
        )
        report(f"int8: {trials[-1].worth}")
        if asked.budget.allows(trials[-1].worth) or asked.force:
            break
        if not ranking:
            alone = (
                ""
                if prepared.config.val_data
                else f"; of {trials[-1].worth.images} images, one is {100 / trials[-1].worth.images:.1f}%"
            )
            report(f"over budget{alone}: ranking what int8 hurts most, which takes minutes")
            ranking = rank_sensitivity(shop.folded, recipe, shop.target.placement, prepared.sensitivity_images())
        recipe = recipe.with_float_units(_next(ranking, len(trials)))
        if left <= LEAST_INT8 or len(recipe.float_units) == len(trials[-1].float_units):
            raise RequestError(
                f"int8 misses its budget: {'; '.join(map(str, trials))}",
                "calibrate with images like the device's (--calib-data), allow more (--max-drop, --min-agreement), or --force",
            )
    if shop.stands_in:
        return QuantizedCandidate(network, graph, recipe, tuple(trials))
    share = profile_kernels(int8.path).share if can_profile_kernels(int8.path) else None
    return QuantizedCandidate(
        network, graph, recipe, tuple(trials), share, *beside_float32(int8, float32), lowered
    )


def _next(ranking: list[UnitSensitivity], tried: int) -> tuple[str, ...]:
    """Twice as many as the time before: 1, 2, 4, ... units that int8 does harm to."""
    return tuple(damage.unit for damage in ranking[: 2 ** (tried - 1)] if damage.error > 0)
