"""Everything int8 needs before a target comes into it: the recipe, and images to judge it by. Made once for all targets."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinyvit.errors import RequestError
from tinyvit.labels import Label
from tinyvit.manifest import Precision
from tinyvit.nn.checkpoint import Checkpoint
from tinyvit.nn.model import TinyViT
from tinyvit.quant.accuracy_budget import AccuracyBudget, ImageBatches
from tinyvit.quant.calibration import METHOD, calibrate
from tinyvit.quant.calibration_data import (
    MAX_IMAGES,
    MIN_IMAGES,
    CalibrationSet,
    ValidationSet,
    read_validation,
    split_calibration,
)
from tinyvit.quant.recipe import Recipe, read_recipe, weights_only
from tinyvit.quant.synthetic import COUNT, SyntheticConfig, synthesize_images

SYNTHETIC = "synthetic"
PHOTOGRAPHS = 256
"""To calibrate with, of --calib-data, where --calib-count says nothing."""
HELD_OUT = 1000
"""Images of --calib-data, at most, that agreement is measured on and that are not calibrated with. Of 500, a network that answers otherwise
in 1% fell under the default budget by chance too often, and layers went back to float32 for nothing (docs/engines.md)."""
CERTAINTY = 0.1
"""Of the synthetic images to measure with: enough for the network to be sure of them (docs/int8.md). They show that int8 is
not broken; what it costs, only --val-data shows."""
PROBE = 16
"""Images to rank damage with."""

WEIGHT_BITS = {"any": 7, "vnni": 8}
"""Processor -> width of the weights. Kernels for x86 without VNNI add two products of 8 bits in 16, and saturate: with weights
of at most 63, 2 x 255 x 63 fits."""

FEW_BITS = 4
"""Of weights that were trained for it (tinyvit-distill train --qat --weight-bits 4): right on every processor."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class QuantizationConfig:
    """What is asked of int8. The defaults are tinyvit-export's.

    calib_data: a folder of images or of class folders, a list file, an .npz, or "synthetic". recipe: a file to take the recipe
    from, or to write it to where there is none. val_data: class folders; without, agreement on held-out images decides.
    min_speedup: refuse where int8 is not so many times as fast as float32 here. cpu: "any", or "vnni" for 8-bit weights that
    only processors with VNNI add up right. force: hand the file over even where the budget is missed. weights_only: quantize no
    activations: nothing is calibrated then, calib_data gives images to measure with, and recipe and cpu mean nothing.
    """

    calib_data: str | Path = "synthetic"
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
        """Of the network that is asked for."""
        return "int8-weights" if self.weights_only else "int8"

    @property
    def synthetic(self) -> str:
        """What synthetic images will be made for, "" where none are."""
        known = self.weights_only or (self.recipe is not None and self.recipe.exists())
        if self.calib_data != SYNTHETIC or (known and self.val_data is not None):
            return ""
        return "measuring" if known else "calibrating"

    def check(self) -> None:
        """Raise RequestError for what can be seen to be impossible before anything is read."""
        if self.cpu not in WEIGHT_BITS:
            raise RequestError(
                f"--cpu {self.cpu} is not known", f"use one of {', '.join(WEIGHT_BITS)}"
            )
        if self.weights_only and (self.recipe is not None or self.cpu != "any"):
            raise RequestError(
                "--int8-weights-only has no scales to keep and no sums to saturate",
                "leave out --recipe and --cpu",
            )
        if self.calib_count is not None and not MIN_IMAGES <= self.calib_count <= MAX_IMAGES:
            raise RequestError(
                f"{self.calib_count} calibration images are not possible",
                f"give --calib-count of {MIN_IMAGES} to {MAX_IMAGES}",
            )
        if not 0 <= self.budget.max_drop <= 100 or not 0 <= self.budget.min_agreement <= 100:
            raise RequestError(
                "the budget is not clear",
                "--max-drop is in points, --min-agreement in percent: 0 to 100 each",
            )
        if self.min_speedup is not None and not self.min_speedup > 0:
            raise RequestError(
                f"--min-speedup {self.min_speedup} is not possible",
                "give how many times as fast as float32, such as 1.3",
            )
        for option, path in (
            ("--calib-data", self.calib_data if self.calib_data != SYNTHETIC else None),
            ("--val-data", self.val_data),
        ):
            if path is not None and not Path(path).exists():
                raise RequestError(f"{option} {path} does not exist", "give a folder of images")
        if self.recipe is not None and self.recipe.exists():
            _check_bits(read_recipe(self.recipe), self)


@dataclass(frozen=True)
class PreparedQuantization:
    """asked: the request. recipe; images to measure int8 with, other ones than the calibration's; probe: gives a few images,
    float32 (N, 3, S, S), to rank damage with."""

    asked: QuantizationConfig
    recipe: Recipe
    images: ImageBatches
    probe: Callable[[], Tensor]


def prepare_quantization(
    asked: QuantizationConfig,
    source: Checkpoint,
    labels: Sequence[Label],
    original: TinyViT,
    folded: TinyViT,
    report: Progress,
) -> PreparedQuantization:
    """The recipe, read from its file or calibrated (and then written there), and the images to judge it by.

    original: the network before folding, whose BatchNorm says what synthetic images must look like. Raises RequestError for
    data that cannot be used and for a recipe of another network.
    """
    if asked.synthetic:
        report(
            f"no --calib-data: {asked.synthetic} on images made from the network itself; --val-data shows what int8 costs"
        )
    data = cache(
        lambda: _data(asked, source, original, report)
    )  # minutes, where nothing may need them
    recipe = (
        weights_only(source.sha256, source.img_size)
        if asked.weights_only
        else _recipe(asked, source, lambda: data()[0], folded, report)
    )
    if asked.val_data is not None:
        validation = read_validation(asked.val_data, source.preprocess, labels)
        return PreparedQuantization(
            asked,
            recipe,
            _telling(validation, report),
            lambda: _normalized(source, data()[0].pixels[:PROBE]),
        )
    held_out = data()[1]
    return PreparedQuantization(
        asked,
        recipe,
        lambda: iter([(held_out, None)]),
        lambda: _normalized(source, held_out[:PROBE]),
    )


def _recipe(
    asked: QuantizationConfig,
    source: Checkpoint,
    data: Callable[[], CalibrationSet],
    folded: TinyViT,
    report: Progress,
) -> Recipe:
    """From its file, where it is there; else calibrated, and written there where a file was named."""
    if asked.recipe is not None and asked.recipe.exists():
        recipe = read_recipe(asked.recipe)
        _check(recipe, asked, source)
        report(f"taking the quantization from {asked.recipe}")
        return recipe
    if asked.recipe is not None:
        report(f"there is no {asked.recipe} yet: calibrating, and writing it there")
    recipe = _calibrated(asked, source, data(), folded, report)
    if asked.recipe is not None:
        recipe.save(asked.recipe)
    return recipe


def _telling(validation: ValidationSet, report: Progress) -> ImageBatches:
    """Its batches; after the first pass over them, a line on what could not be read."""
    tell = cache(
        lambda skipped: report(
            f"{skipped} of {len(validation)} images to validate on cannot be read and do not count"
        )
    )

    def batches() -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
        yield from validation.batches()
        if validation.skipped:
            tell(validation.skipped)

    return batches


def _quarters(report: Progress, what: str) -> Callable[[int, int], None]:
    """A progress of (done, of) that reports each time another quarter is done."""

    told = {0, 4}

    def progress(done: int, of: int) -> None:
        if (quarter := 4 * done // of) not in told:
            told.add(quarter)
            report(f"{what}: {25 * quarter}%")

    return progress


def _data(
    asked: QuantizationConfig, source: Checkpoint, original: TinyViT, report: Progress
) -> tuple[CalibrationSet, npt.NDArray[np.uint8]]:
    """What to calibrate with, and pixels (N, S, S, 3) that are none of it."""
    if asked.calib_data != SYNTHETIC:
        report(f"reading images to calibrate with from {asked.calib_data}")
        return split_calibration(
            asked.calib_data,
            source.preprocess,
            asked.calib_count or PHOTOGRAPHS,
            HELD_OUT,
            asked.calib_seed,
        )
    count = asked.calib_count or COUNT

    def made(seed: int, settings: SyntheticConfig, what: str) -> CalibrationSet:
        report(f"making {count} synthetic images to {what}, from the network itself")
        progress = _quarters(report, "synthetic images")
        return synthesize_images(
            original,
            source.preprocess,
            count,
            seed,
            cache_folder(),
            source.sha256,
            progress,
            settings,
        )

    if asked.weights_only and asked.val_data is None:
        certain = made(asked.calib_seed + 1, SyntheticConfig(certainty=CERTAINTY), "measure with")
        return certain, certain.pixels
    calibration = made(asked.calib_seed, SyntheticConfig(), "calibrate with")
    if asked.val_data is not None:
        return calibration, calibration.pixels
    return calibration, made(
        asked.calib_seed + 1, SyntheticConfig(certainty=CERTAINTY), "measure with"
    ).pixels


def _calibrated(
    asked: QuantizationConfig,
    source: Checkpoint,
    calibration: CalibrationSet,
    folded: TinyViT,
    report: Progress,
) -> Recipe:
    images = _normalized(source, calibration.pixels)
    key = hashlib.sha256(
        f"{source.sha256} {source.img_size} {calibration.sha256} {METHOD}".encode()
    ).hexdigest()[:16]
    report(f"calibrating on {calibration.source}")
    scales = calibrate(
        folded, images, cache_folder() / f"calibration-{key}.pt", _quarters(report, "calibrating")
    )
    bits = WEIGHT_BITS[asked.cpu]
    return Recipe(
        source.sha256, source.img_size, scales, bits, (), METHOD, calibration.sha256, len(images)
    )


def _check(recipe: Recipe, asked: QuantizationConfig, source: Checkpoint) -> None:
    if (recipe.checkpoint, recipe.img_size) != (source.sha256, source.img_size):
        raise RequestError(
            f"{asked.recipe} is the recipe of another checkpoint or image size",
            "give another --recipe file to write a new one",
        )


def _check_bits(recipe: Recipe, asked: QuantizationConfig) -> None:
    if recipe.weight_bits not in (FEW_BITS, WEIGHT_BITS[asked.cpu]):
        cause = f"{asked.recipe} has weights of {recipe.weight_bits} bits, and --cpu {asked.cpu} means {WEIGHT_BITS[asked.cpu]}"
        raise RequestError(cause, "give the --cpu that it was made with, or another --recipe file")


def _normalized(source: Checkpoint, pixels: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(source.preprocess.normalize(pixels))


def cache_folder() -> Path:
    """Where what takes minutes is kept for the next time: $TINYVIT_CACHE, or the user's cache."""
    given = os.environ.get("TINYVIT_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(given or f"{base}/tinyvit-edge").expanduser()
