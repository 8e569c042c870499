"""Describes how an int8 network was found, and what was measured: the outcome of a search.

A unit is a part of the network that is quantized as a whole: a layer or an attention module. A
recipe (`quant.recipe`) contains the scales that the network is quantized with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite

from tinyvit.bench.record import NetworkSensitivity
from tinyvit.export.checks.baseline_timing import SpeedComparison
from tinyvit.manifest_parts import Quantization
from tinyvit.metrics import FLOAT32_NETWORK, PairedComparison
from tinyvit.quant.accuracy_budget import Comparison
from tinyvit.quant.config import QuantizationConfig
from tinyvit.quant.recipe import Recipe

UNMEASURED_ACCURACY = "the accuracy was not measured"
"""Text of a step of the search in which int8 was not compared with float32."""


@dataclass(frozen=True)
class BudgetTrial:
    """One step of the search: an int8 network that was tried, and its accuracy.

    Attributes:
        float_units: Names of the units that stay float32.
        int8_share: Multiply-accumulates of the units that are quantized, as a share of those of all
            units, 0 to 1. Layers that are never quantized are not units. The share states what is
            requested, not what the engine does.
        comparison: Comparison of the int8 artifact with the float32 artifact; None if they were
            not compared.
    """

    float_units: tuple[str, ...]
    int8_share: float
    comparison: Comparison | None

    def __str__(self) -> str:
        """Describe the step on one line, for the printed summary and the manifest."""
        accuracy = UNMEASURED_ACCURACY
        if self.comparison is not None:
            accuracy = self.comparison.describe(FLOAT32_NETWORK)
        return (
            f"{len(self.float_units)} units in float32, "
            f"{self.int8_share:.0%} of the multiply-accumulates in int8: {accuracy}"
        )


@dataclass(frozen=True)
class SearchOutcome:
    """How an int8 network was found, and what was measured. It contains no network.

    Attributes:
        recipe: The recipe that was applied; it names the units that stay float32.
        trials: The steps of the search; the last one tried this network.
        integer_kernel_share: Share of the network's multiply-accumulates that the engine ran in
            integer kernels, 0 to 1; None if the engine does not run here or does not report its
            kernels.
        speed: Latency compared with the float32 artifact; None if the engine does not run here.
        sensitivity: The error that int8 causes in each unit, simulated in PyTorch; None if it was
            not requested.
    """

    recipe: Recipe
    trials: tuple[BudgetTrial, ...]
    integer_kernel_share: float | None = None
    speed: SpeedComparison | None = None
    sensitivity: NetworkSensitivity | None = None

    @property
    def comparison(self) -> Comparison | None:
        """Return the comparison of the artifact with the float32 artifact; None without one."""
        return self.trials[-1].comparison

    def make_manifest_entry(self, config: QuantizationConfig, measured_on: str) -> Quantization:
        """Describe the quantization for the manifest.

        Args:
            config: The options of the quantization.
            measured_on: The processor that accuracy and speed were measured on.

        Returns:
            The field `quantization` of the manifest.
        """
        int8_mac_fraction = self.integer_kernel_share
        if int8_mac_fraction is not None:
            int8_mac_fraction = round(int8_mac_fraction, 4)
        entry = Quantization(
            method=self.recipe.method,
            calibration_sha256=self.recipe.calibration_sha256,
            calibration_count=self.recipe.calibration_count,
            recipe_sha256=self.recipe.sha256,
            weight_bits=self.recipe.weight_bits,
            required_cpu_feature=config.cpu,
            float_units=self.recipe.float_units,
            int8_mac_fraction=int8_mac_fraction,
            trials=tuple(map(str, self.trials)),
            measured_on=measured_on,
            has_synthetic_calibration=self.recipe.is_synthetic,
        )
        comparison = self.comparison
        if comparison is None:
            return entry
        entry = replace(
            entry,
            evaluation_count=comparison.image_count,
            forced=not config.budget.allows(comparison),
            has_synthetic_evaluation=config.measures_on_synthetic_images,
        )
        if isinstance(comparison, PairedComparison):
            return replace(
                entry,
                agreement=comparison.agreement,
                top1=comparison.top1,
                float_top1=comparison.reference_top1,
            )
        return replace(
            entry,
            # NaN cannot be written as JSON. With NaN, the budget is missed.
            cosine=round(comparison.cosine, 6) if isfinite(comparison.cosine) else 0.0,
            neighbor_agreement=comparison.neighbor_agreement,
        )
