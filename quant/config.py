"""The options of int8 export, and the checks that need neither images nor weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tinyvit.errors import RequestError
from tinyvit.manifest import Precision
from tinyvit.quant.accuracy_budget import AccuracyBudget
from tinyvit.quant.calibration_data import check_calibration_count
from tinyvit.quant.recipe import Recipe, read_recipe

SYNTHETIC = "synthetic"
"""The value of --calib-data that stands for images made from the network itself."""
CPU_WEIGHT_BITS = {"any": 7, "vnni": 8}
"""Width of the weights by --cpu. Kernels for x86 without VNNI add two products of 8 bits in 16 bits
and saturate. With weights of at most 63 they do not: 2 x 255 x 63 < 2^15."""
TRAINED_WEIGHT_BITS = 4
"""Width of weights that quantization-aware training produced. It is safe on every processor."""


@dataclass(frozen=True)
class QuantizationConfig:
    """Options of int8 export. The defaults are those of tinyvit-export.

    Attributes:
        calib_data: Images to calibrate on, as `calibration_data.read_calibration_set` takes them,
            or "synthetic". With `weights_only` nothing is calibrated, and int8 is measured on them.
        calib_count: Number of calibration images. None is 256, and 32 of synthetic images.
        calib_seed: Seed of the choice of images, or of the synthesis.
        recipe: A recipe file. It is read where it exists, and else written after calibration.
        val_data: Labeled images to measure the drop in top-1 accuracy on. None measures the
            agreement with float32, on images that are held out from calibration.
        budget: The loss of accuracy that is allowed.
        min_speedup: Refuse an artifact that is not this many times as fast as float32 here.
        cpu: "any", or "vnni" for 8-bit weights, which are only correct on processors with VNNI.
        force: Write the artifact even where it misses the budget.
        weights_only: Quantize the weights alone. `recipe` and `cpu` must have their defaults then.
    """

    calib_data: str | Path = SYNTHETIC
    calib_count: int | None = None
    calib_seed: int = 0
    recipe: Path | None = None
    val_data: Path | None = None
    budget: AccuracyBudget = field(default_factory=AccuracyBudget)
    min_speedup: float | None = None
    cpu: str = "any"
    force: bool = False
    weights_only: bool = False

    @property
    def precision(self) -> Precision:
        """The precision of the artifact."""
        return "int8-weights" if self.weights_only else "int8"

    def validate(self) -> None:
        """Check everything that can be checked before images and weights are read.

        Raises:
            RequestError: An option has a value that is not allowed, a path does not exist, or the
                recipe file cannot be used.
        """
        self._check_cpu()
        if self.calib_count is not None:
            check_calibration_count(self.calib_count)
        self._check_budget()
        self._check_paths()
        if self.recipe is not None and self.recipe.exists():
            _check_weight_bits(read_recipe(self.recipe), self.recipe, self.cpu)

    def _check_cpu(self) -> None:
        if self.cpu not in CPU_WEIGHT_BITS:
            raise RequestError(
                f"--cpu {self.cpu} is not known", f"use one of {', '.join(CPU_WEIGHT_BITS)}"
            )
        if self.weights_only and (self.recipe is not None or self.cpu != "any"):
            raise RequestError(
                "--int8-weights-only calibrates no scales and computes no sums of integers, so"
                " --recipe and --cpu have no meaning with it",
                "leave out --recipe and --cpu",
            )

    def _check_budget(self) -> None:
        limits = {
            "--max-drop": (self.budget.max_drop, "percentage points"),
            "--min-agreement": (self.budget.min_agreement, "percent"),
        }
        for option, (value, unit) in limits.items():
            if not 0 <= value <= 100:
                raise RequestError(
                    f"{option} {value} is outside the allowed range", f"give 0 to 100 {unit}"
                )
        if self.min_speedup is not None and not self.min_speedup > 0:
            raise RequestError(
                f"--min-speedup {self.min_speedup} is not above 0",
                "give how many times as fast as float32 int8 must be, such as 1.3",
            )

    def _check_paths(self) -> None:
        calib_data = None if self.calib_data == SYNTHETIC else self.calib_data
        for option, path in (("--calib-data", calib_data), ("--val-data", self.val_data)):
            if path is not None and not Path(path).exists():
                raise RequestError(f"{option} {path} does not exist", "give a folder of images")


def _check_weight_bits(recipe: Recipe, path: Path, cpu: str) -> None:
    """Refuse a recipe file whose weights have another width than --cpu means."""
    if recipe.weight_bits not in (TRAINED_WEIGHT_BITS, CPU_WEIGHT_BITS[cpu]):
        raise RequestError(
            f"the weights of {path} have {recipe.weight_bits} bits, but --cpu {cpu} means"
            f" {CPU_WEIGHT_BITS[cpu]}",
            "give the --cpu that the recipe was made with, or another --recipe file",
        )
