"""The options of int8 export, and checks of them that need neither the images nor the network."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from tinyvit.errors import RequestError
from tinyvit.manifest_parts import Precision
from tinyvit.outputs import OutputKind
from tinyvit.quant.accuracy_budget import AccuracyBudget
from tinyvit.quant.images.calibration_data import (
    MAX_IMAGES,
    MAX_SYNTHETIC_IMAGES,
    check_calibration_count,
)
from tinyvit.quant.recipe import Recipe, read_recipe

SYNTHETIC = "synthetic"
"""Value of --calib-data for images that are made from the network (`quant.images.synthetic`)."""
CPU_WEIGHT_BITS = {"any": 7, "vnni": 8}
"""Number of bits of the weights for each value of --cpu. On x86 processors without the VNNI
instructions, int8 kernels add two products of an activation (an integer from 0 to 255) and a weight
in a 16-bit integer, and the sum can saturate. With weights of 7 bits (at most 63) it cannot:
2 x 255 x 63 < 2^15."""
TRAINED_WEIGHT_BITS = 4
"""Number of bits of weights that only quantization-aware training can make accurate. With so few
bits, no sum saturates on any processor, so --cpu does not matter."""


@dataclass(frozen=True)
class QuantizationConfig:
    """Options of an export to int8 or int8 weights. The defaults are those of tinyvit-export.

    Attributes:
        calib_data: Images to calibrate on, in any form that `calibration_data.read_calibration_set`
            accepts, or "synthetic". If nothing is calibrated (with `weights_only`, or with a recipe
            file that exists), these images are used only to compare int8 with float32 and to find
            the layers that are most sensitive to int8. None selects synthetic images, which are
            made only if they are needed for calibration or if `needs_measurement` is true.
        calib_count: Number of calibration images. None selects 256; if they are synthetic, 32, or
            64 with `every_tensor`.
        calib_seed: Seed for the choice of images, or for making synthetic images.
        recipe: A recipe file (the scales of an earlier calibration). If the file exists, it is used
            and nothing is calibrated. Otherwise it is written after calibration.
        val_data: Images to measure int8 on: labeled images for the drop in top-1 accuracy, or any
            folder of images for embeddings and feature maps. If None, int8 is compared with float32
            on images that are not used for calibration.
        budget: The loss of accuracy that is allowed.
        min_speedup: How many times as fast as float32 the artifact must run on this machine. A
            slower artifact is refused. None allows any speed.
        cpu: "any" for 7-bit weights, or "vnni" for 8-bit weights, which can give wrong results on
            an x86 processor without VNNI instructions.
        force: Whether an artifact is written even if it misses the budget.
        weights_only: Whether only the weights are quantized. `recipe` and `cpu` must then have
            their defaults.
        sensitivity: Whether the error that int8 causes in each unit is measured for the artifact
            (`quant.sensitivity`). This needs images, which are synthetic if none are given.
        every_tensor: Whether the recipe must have the scales of every tensor, because a target
            quantizes all (`QuantScheme.every_tensor`). The export sets it.
    """

    calib_data: str | Path | None = None
    calib_count: int | None = None
    calib_seed: int = 0
    recipe: Path | None = None
    val_data: Path | None = None
    budget: AccuracyBudget = field(default_factory=AccuracyBudget)
    min_speedup: float | None = None
    cpu: str = "any"
    force: bool = False
    weights_only: bool = False
    sensitivity: bool = False
    every_tensor: bool = False

    @property
    def precision(self) -> Precision:
        """Return the precision that the manifest of the artifact states."""
        return "int8-weights" if self.weights_only else "int8"

    @property
    def uses_synthetic_images(self) -> bool:
        """Return whether images are made from the network itself, because no images were given."""
        return self.calib_data is None or self.calib_data == SYNTHETIC

    @property
    def measures_on_synthetic_images(self) -> bool:
        """Return whether int8, if it is compared with float32, is compared on synthetic images."""
        return self.val_data is None and self.uses_synthetic_images

    @property
    def needs_calibration(self) -> bool:
        """Return whether scales are calibrated; not with `weights_only` or an existing recipe."""
        if self.weights_only:
            return False
        return self.recipe is None or not self.recipe.exists()

    @property
    def needs_measurement(self) -> bool:
        """Return whether int8 is compared with float32.

        This is so if images were given or are made for the calibration anyway, or if a budget, a
        number of images or a seed was requested. In all other cases, measuring would need synthetic
        images that nothing else needs, and making them takes minutes.
        """
        image_options = (self.calib_data, self.val_data, self.calib_count)
        is_requested = any(value is not None for value in image_options) or self.calib_seed != 0
        return is_requested or self.budget != AccuracyBudget() or self.needs_calibration

    def check_output(self, output: OutputKind) -> None:
        """Check that the budget is one for an output.

        Args:
            output: What the artifact returns.

        Raises:
            RequestError: A budget for another kind of output was requested.
        """
        default, budget = AccuracyBudget(), self.budget
        if output == "logits" and budget.min_cosine != default.min_cosine:
            raise RequestError(
                "--min-cosine is for embeddings and feature maps, and the output is logits",
                "give --min-agreement, or --val-data with --max-drop",
            )
        if output != "logits" and budget != replace(default, min_cosine=budget.min_cosine):
            raise RequestError(
                f"--max-drop and --min-agreement are for logits, and the output is {output}",
                "give --min-cosine, the smallest cosine similarity to float32, such as 0.99",
            )

    def validate(self) -> None:
        """Check all options as far as possible without reading images and weights.

        Raises:
            RequestError: An option has a value that is not allowed, a path does not exist, or the
                recipe file cannot be used.
        """
        self._check_cpu()
        if self.calib_count is not None:
            largest = MAX_SYNTHETIC_IMAGES if self.uses_synthetic_images else MAX_IMAGES
            check_calibration_count(self.calib_count, largest)
        self._check_budget()
        self._check_paths()
        if self.recipe is not None and self.recipe.exists():
            _check_weight_bits(read_recipe(self.recipe), self.recipe, self.cpu)

    def _check_cpu(self) -> None:
        if self.cpu not in CPU_WEIGHT_BITS:
            raise RequestError(
                f"--cpu {self.cpu} is not a known value", f"use one of {', '.join(CPU_WEIGHT_BITS)}"
            )
        if self.weights_only and (self.recipe is not None or self.cpu != "any"):
            raise RequestError(
                "--recipe and --cpu have no effect with --int8-weights-only, which calibrates no"
                " scales and computes in float32",
                "leave out --recipe and --cpu",
            )

    def _check_budget(self) -> None:
        percentages = {
            "--max-drop": (self.budget.max_drop, "percentage points"),
            "--min-agreement": (self.budget.min_agreement, "percent"),
        }
        for option, (value, unit) in percentages.items():
            if not 0 <= value <= 100:
                raise RequestError(
                    f"{option} {value} is outside the allowed range", f"give 0 to 100 {unit}"
                )
        if not 0 <= self.budget.min_cosine <= 1:
            raise RequestError(
                f"--min-cosine {self.budget.min_cosine} is outside the allowed range",
                "give 0 to 1",
            )
        if self.min_speedup is not None and not self.min_speedup > 0:
            raise RequestError(
                f"--min-speedup {self.min_speedup} is not above 0",
                "give the required speed relative to float32, such as 1.3 for 1.3 times as fast",
            )

    def _check_paths(self) -> None:
        calib_data = None if self.calib_data == SYNTHETIC else self.calib_data
        for option, path in (("--calib-data", calib_data), ("--val-data", self.val_data)):
            if path is not None and not Path(path).exists():
                raise RequestError(f"{option} {path} does not exist", "give a folder of images")


def _check_weight_bits(recipe: Recipe, path: Path, cpu: str) -> None:
    """Refuse a recipe with a number of weight bits that does not fit --cpu; 4 bits always fit."""
    if recipe.weight_bits not in (TRAINED_WEIGHT_BITS, CPU_WEIGHT_BITS[cpu]):
        raise RequestError(
            f"the recipe {path} is for weights of {recipe.weight_bits} bits, but --cpu {cpu} needs"
            f" {CPU_WEIGHT_BITS[cpu]} bits",
            "give the same --cpu as when the recipe was made, or another --recipe file",
        )
