"""The quantization workflow up to the point where targets differ: options, recipe and images.

The recipe and the images to measure int8 with are prepared once for all targets.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from tinyvit.data.image_sources import Pixels
from tinyvit.errors import RequestError
from tinyvit.labels import Label
from tinyvit.manifest import Precision
from tinyvit.nn.checkpoint import Checkpoint
from tinyvit.nn.model import TinyViT
from tinyvit.progress import Progress
from tinyvit.quant.accuracy_budget import AccuracyBudget, ImageBatches
from tinyvit.quant.calibration import METHOD, calibrate
from tinyvit.quant.calibration_data import (
    CalibrationSet,
    check_calibration_count,
    read_calibration_split,
)
from tinyvit.quant.recipe import Recipe, read_recipe, weights_only_recipe
from tinyvit.quant.synthetic import (
    DEFAULT_COUNT,
    ImageCache,
    SyntheticConfig,
    synthesize_images,
)
from tinyvit.quant.validation_data import LabeledBatch, ValidationSet, read_validation_set

SYNTHETIC = "synthetic"
"""The value of --calib-data that stands for images made from the network itself."""
CALIBRATION_COUNT = 256
"""Default number of calibration images where --calib-data names images."""
MAX_HELD_OUT = 1000
"""Largest number of images of --calib-data that are not calibrated on, so that agreement can be
measured on them. With 500, a network that disagrees on 1% of images missed the default budget by
chance too often, and layers returned to float32 without need (docs/engines.md)."""
SENSITIVITY_COUNT = 16
"""Number of images to rank layers by sensitivity with."""
CLASS_WEIGHT = 0.1
"""`SyntheticConfig.class_weight` of synthetic images to measure agreement on: large enough for the
network to be sure of their classes. They show that int8 is not broken (docs/int8.md); only
--val-data shows how much accuracy it costs."""

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


@dataclass(frozen=True)
class PreparedQuantization:
    """What every target needs to be quantized.

    Attributes:
        config: The options.
        recipe: The recipe, read from its file or calibrated.
        images: Images to measure int8 with. None of them was calibrated on.
        sensitivity_images: Returns normalized images, float32 (N, 3, S, S), to rank layers by
            sensitivity with. The first call may take minutes.
    """

    config: QuantizationConfig
    recipe: Recipe
    images: ImageBatches
    sensitivity_images: Callable[[], Tensor]


def prepare_quantization(
    config: QuantizationConfig,
    checkpoint: Checkpoint,
    labels: Sequence[Label],
    original: TinyViT,
    folded: TinyViT,
    progress: Progress,
) -> PreparedQuantization:
    """Read or calibrate the recipe, and prepare the images to measure int8 with.

    A recipe that is calibrated is written to `config.recipe`, if that names a file.

    Args:
        config: The options, validated.
        checkpoint: The checkpoint, at the input size of the export.
        labels: The labels of the model, in the order of its logits.
        original: The network before folding. Its BatchNorms determine synthetic images.
        folded: The network after folding.
        progress: Receives messages and the progress of each stage.

    Raises:
        RequestError: The images cannot be used, or the recipe belongs to another network.
        ImageError: A folder cannot be read, or has no images.
    """
    images = _QuantizationImages(config, checkpoint, original, progress)
    images.announce_synthetic()
    if config.weights_only:
        recipe = weights_only_recipe(checkpoint.sha256, checkpoint.img_size)
    else:
        recipe = _read_or_calibrate(config, checkpoint, images, folded, progress)
    if config.val_data is not None:
        validation = read_validation_set(config.val_data, checkpoint.preprocess, labels)
        batches: ImageBatches = _ReportingBatches(validation, progress)
    else:
        batches = images.unlabeled_batches()
    return PreparedQuantization(config, recipe, batches, images.sensitivity_images)


def cache_folder() -> Path:
    """Return the folder where results that take minutes are kept for later calls.

    It is $TINYVIT_CACHE, or "tinyvit-edge" in the user's cache folder.
    """
    cache = os.environ.get("TINYVIT_CACHE")
    user_cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache or f"{user_cache}/tinyvit-edge").expanduser()


class _QuantizationImages:
    """The images of --calib-data, or synthetic ones, which are read or made on first use.

    That takes minutes, and an export with a recipe file and --val-data may need none of them.
    """

    def __init__(
        self,
        config: QuantizationConfig,
        checkpoint: Checkpoint,
        original: TinyViT,
        progress: Progress,
    ) -> None:
        self._config = config
        self._checkpoint = checkpoint
        self._original = original
        self._progress = progress

    def announce_synthetic(self) -> None:
        """Tell where synthetic images take the place of photographs, and what for."""
        config = self._config
        needs_no_calibration = config.weights_only or (
            config.recipe is not None and config.recipe.exists()
        )
        if config.calib_data != SYNTHETIC or (needs_no_calibration and config.val_data is not None):
            return
        purpose = "measuring" if needs_no_calibration else "calibrating"
        self._progress.message(
            f"no --calib-data: {purpose} on images made from the network itself;"
            " only --val-data shows how much accuracy int8 costs"
        )

    @property
    def calibration(self) -> CalibrationSet:
        """The images to calibrate on."""
        return self._sets[0]

    def unlabeled_batches(self) -> ImageBatches:
        """Return the images to measure agreement on, in one batch."""
        return _SingleBatch(self._sets[1])

    def sensitivity_images(self) -> Tensor:
        """Return images to rank layers by sensitivity with, float32 (N, 3, S, S)."""
        calibration, held_out = self._sets
        pixels = held_out if self._config.val_data is None else calibration.pixels
        return self.normalize(pixels[:SENSITIVITY_COUNT])

    def normalize(self, pixels: Pixels) -> Tensor:
        """Return normalized images, float32 (N, 3, S, S), for pixels, uint8 (N, S, S, 3)."""
        return torch.from_numpy(self._checkpoint.preprocess.normalize(pixels))

    @cached_property
    def _sets(self) -> tuple[CalibrationSet, Pixels]:
        """The images to calibrate on, and the pixels of others, uint8 (N, S, S, 3).

        With --val-data, no other synthetic images are made.
        """
        if self._config.calib_data == SYNTHETIC:
            return self._synthesize_sets()
        self._progress.message(f"reading calibration images from {self._config.calib_data}")
        return read_calibration_split(
            self._config.calib_data,
            self._checkpoint.preprocess,
            self._config.calib_count or CALIBRATION_COUNT,
            MAX_HELD_OUT,
            self._config.calib_seed,
        )

    def _synthesize_sets(self) -> tuple[CalibrationSet, Pixels]:
        config, count = self._config, self._config.calib_count or DEFAULT_COUNT
        for_calibration = SyntheticConfig(count, config.calib_seed)
        for_measuring = SyntheticConfig(count, config.calib_seed + 1, class_weight=CLASS_WEIGHT)
        if config.weights_only and config.val_data is None:
            images = self._synthesize(for_measuring, "to measure with")
            return images, images.pixels
        calibration = self._synthesize(for_calibration, "to calibrate on")
        if config.val_data is not None:
            return calibration, calibration.pixels
        return calibration, self._synthesize(for_measuring, "to measure with").pixels

    def _synthesize(self, synthetic: SyntheticConfig, purpose: str) -> CalibrationSet:
        self._progress.message(
            f"making {synthetic.count} synthetic images {purpose} from the network itself"
        )
        return synthesize_images(
            self._original,
            self._checkpoint.preprocess,
            synthetic,
            ImageCache(cache_folder(), self._checkpoint.sha256),
            self._progress,
        )


@dataclass(frozen=True)
class _SingleBatch:
    """`ImageBatches` of a single batch of unlabeled images, uint8 (N, S, S, 3)."""

    pixels: Pixels

    def __call__(self) -> Iterator[tuple[Pixels, None]]:
        yield self.pixels, None


class _ReportingBatches:
    """`ImageBatches` of a validation set, which report unreadable images after the first pass."""

    def __init__(self, validation: ValidationSet, progress: Progress) -> None:
        self._validation = validation
        self._progress = progress
        self._reported = 0

    def __call__(self) -> Iterator[LabeledBatch]:
        yield from self._validation.batches()
        skipped = self._validation.skipped
        if skipped != self._reported:
            self._reported = skipped
            self._progress.message(
                f"{skipped} of {len(self._validation)} validation images cannot be read and do not"
                " count"
            )


def _read_or_calibrate(
    config: QuantizationConfig,
    checkpoint: Checkpoint,
    images: _QuantizationImages,
    folded: TinyViT,
    progress: Progress,
) -> Recipe:
    """Return the recipe from its file if that exists. Else calibrate, and write the file."""
    if config.recipe is None:
        return _calibrate_recipe(config, checkpoint, images, folded, progress)
    if config.recipe.exists():
        recipe = read_recipe(config.recipe)
        if (recipe.checkpoint_sha256, recipe.img_size) != (checkpoint.sha256, checkpoint.img_size):
            raise RequestError(
                f"{config.recipe} is the recipe of another checkpoint or image size",
                "give --recipe the name of a file that does not exist yet, to write a new recipe",
            )
        progress.message(f"using the recipe {config.recipe}")
        return recipe
    progress.message(f"calibrating, because {config.recipe} does not exist; it will be written")
    recipe = _calibrate_recipe(config, checkpoint, images, folded, progress)
    recipe.save(config.recipe)
    return recipe


def _calibrate_recipe(
    config: QuantizationConfig,
    checkpoint: Checkpoint,
    images: _QuantizationImages,
    folded: TinyViT,
    progress: Progress,
) -> Recipe:
    """Calibrate on the images. An interrupted calibration continues from the cache."""
    calibration = images.calibration
    identity = f"{checkpoint.sha256} {checkpoint.img_size} {calibration.sha256} {METHOD}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    progress.message(f"calibrating on {calibration.source}")
    scales = calibrate(
        folded,
        images.normalize(calibration.pixels),
        progress,
        cache_folder() / f"calibration-{key}.pt",
    )
    return Recipe(
        checkpoint_sha256=checkpoint.sha256,
        img_size=checkpoint.img_size,
        scales=scales,
        weight_bits=CPU_WEIGHT_BITS[config.cpu],
        float_units=(),
        method=METHOD,
        calibration_sha256=calibration.sha256,
        calibration_count=len(calibration.pixels),
    )


def _check_weight_bits(recipe: Recipe, path: Path, cpu: str) -> None:
    """Refuse a recipe file whose weights have another width than --cpu means."""
    if recipe.weight_bits not in (TRAINED_WEIGHT_BITS, CPU_WEIGHT_BITS[cpu]):
        raise RequestError(
            f"the weights of {path} have {recipe.weight_bits} bits, but --cpu {cpu} means"
            f" {CPU_WEIGHT_BITS[cpu]}",
            "give the --cpu that the recipe was made with, or another --recipe file",
        )
