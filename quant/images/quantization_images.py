"""Provides the images that an export to int8 uses.

- Calibration images are those from which the scales of activations are calibrated.
- Measurement images are those on which the outputs of int8 and float32 are compared.
- Sensitivity images are a few of the measurement images, or of the calibration images if accuracy
  is measured on --val-data. Layers are ranked by the error that int8 causes on these images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tinyvit.data.calibration_images import Pixels
from tinyvit.files.file_io import find_cache_folder
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.model import TinyViT
from tinyvit.progress import Progress
from tinyvit.quant.config import QuantizationConfig
from tinyvit.quant.images.calibration_data import (
    CALIBRATION_COUNT,
    CalibrationSet,
    read_calibration_set,
    read_calibration_split,
)
from tinyvit.quant.images.image_counts import scale_image_count
from tinyvit.quant.images.pixel_source import PixelSource
from tinyvit.quant.images.synthetic import (
    DEFAULT_COUNT,
    EVERY_TENSOR_COUNT,
    ImageCache,
    SyntheticConfig,
    synthesize_images,
)
from tinyvit.quant.images.validation_data import LabeledBatch, ValidationSet

MAX_HELD_OUT = 1000
"""Largest number of images of --calib-data that are held out from calibration to measure the
agreement of int8 with float32. With 500, a network that disagrees on 1% of all images missed the
default budget by chance too often, and layers stayed float32 without need
(docs/lab-notes/engines.md)."""
SENSITIVITY_COUNT = 16
"""Number of images of up to 512 x 512 pixels for ranking layers by sensitivity (see
`quant.images.image_counts`)."""
CLASS_WEIGHT = 0.1
"""`SyntheticConfig.class_weight` of synthetic measurement images. It is large enough that the
network has one clearly largest logit for each image. Agreement on such images shows whether int8
works at all; only --val-data shows how much accuracy it costs (docs/lab-notes/int8.md)."""

NOT_MEASURED = (
    "the accuracy of int8 is not measured, because no images were given: --val-data measures it,"
    " --calib-data compares int8 with float32 on your images, and --calib-data synthetic on images"
    " made from the network itself, which takes minutes"
)
"""Message of an export that does not compare int8 with float32."""


@dataclass(frozen=True)
class _ImageSets:
    """The calibration images and the measurement images.

    Attributes:
        calibration: The calibration images.
        measurement: RGB pixels of the measurement images, uint8 (N, H, W, 3).
    """

    calibration: CalibrationSet
    measurement: PixelSource


class QuantizationImages:
    """The images of --calib-data, or synthetic images.

    The images are read or made when they are first needed, because this takes minutes, and an
    export with a recipe file and --val-data may not need them at all.
    """

    def __init__(
        self,
        config: QuantizationConfig,
        checkpoint: Checkpoint,
        original: TinyViT,
        progress: Progress,
    ) -> None:
        """Store the arguments. No image is read or made yet.

        Args:
            config: The options.
            checkpoint: The checkpoint, with its image size set to that of the export.
            original: The network before folding (`tinyvit.nn.fold`). Synthetic images are made from
                the statistics in its BatchNorms.
            progress: Receives messages and the progress of making synthetic images.
        """
        self._config = config
        self._checkpoint = checkpoint
        self._original = original
        self._progress = progress

    def announce_synthetic(self) -> None:
        """Announce what synthetic images are used for, if any, or that int8 is not measured."""
        config = self._config
        if not config.needs_measurement:
            self._progress.message(NOT_MEASURED)
            return
        # With a recipe file and --val-data, the use of synthetic images is not certain: they are
        # made only if layers have to be ranked.
        if not config.uses_synthetic_images or (
            not config.needs_calibration and config.val_data is not None
        ):
            return
        reason = "no --calib-data: " if config.calib_data is None else ""
        purpose = "calibrating" if config.needs_calibration else "measuring"
        self._progress.message(
            f"{reason}{purpose} on images made from the network itself;"
            " only --val-data shows how much accuracy int8 costs"
        )

    @property
    def calibration(self) -> CalibrationSet:
        """Return the images to calibrate on."""
        return self._sets.calibration

    def measurement_batches(self) -> Iterator[tuple[Pixels, None]]:
        """Yield all measurement images in one batch, without classes.

        The method is an `accuracy_budget.BatchFactory`.
        """
        yield self._sets.measurement[:], None

    def count_measurement_images(self) -> int:
        """Return the number of measurement images."""
        return len(self._sets.measurement)

    def make_sensitivity_images(self) -> Tensor:
        """Return normalized images for ranking layers by sensitivity, float32 (N, 3, H, W)."""
        if self._config.val_data is None:
            pixels: PixelSource = self._sets.measurement
        else:
            # With --val-data, there may be no separate measurement images.
            pixels = self._sets.calibration.pixels
        count = self._scale_count(SENSITIVITY_COUNT)
        normalized = self._checkpoint.preprocess.normalize(pixels[:count])
        return torch.from_numpy(normalized)

    @cached_property
    def _sets(self) -> _ImageSets:
        """Return the images, which are read or made at the first use.

        Images of --calib-data are divided into the two sets, except with --val-data: then no image
        is held out, because none would be used. Synthetic images are made only for a set that is
        needed; if only one is, it also stands for the other set.
        """
        if self._config.calib_data is None or self._config.uses_synthetic_images:
            return self._synthesize_sets()
        self._progress.message(f"reading calibration images from {self._config.calib_data}")
        preprocess, seed = self._checkpoint.preprocess, self._config.calib_seed
        count = self._config.calib_count or self._scale_count(CALIBRATION_COUNT)
        if self._config.val_data is not None:
            images = read_calibration_set(self._config.calib_data, preprocess, count, seed)
            return _ImageSets(images, images.pixels)
        calibration, held_out = read_calibration_split(
            self._config.calib_data,
            preprocess,
            count=count,
            max_held_out=self._scale_count(MAX_HELD_OUT),
            seed=seed,
        )
        return _ImageSets(calibration, held_out)

    def _scale_count(self, count: int) -> int:
        """Reduce a number of images if the images of the network are large."""
        preprocess = self._checkpoint.preprocess
        return scale_image_count(count, preprocess.height, preprocess.width)

    def _synthesize_sets(self) -> _ImageSets:
        """Make the synthetic images that the options need.

        With --val-data, no measurement images are needed. Without it, an export that calibrates
        nothing needs no calibration images.
        """
        config = self._config
        calibration_count = EVERY_TENSOR_COUNT if config.every_tensor else DEFAULT_COUNT
        for_calibration = SyntheticConfig(
            config.calib_count or calibration_count, seed=config.calib_seed
        )
        # With another seed, the images differ from those for calibration.
        for_measuring = SyntheticConfig(
            config.calib_count or DEFAULT_COUNT,
            seed=config.calib_seed + 1,
            # Without classes, images cannot be made for them.
            class_weight=CLASS_WEIGHT if self._original.num_classes else 0.0,
            contrast=1.0,
        )
        if config.val_data is None and not config.needs_calibration:
            images = self._synthesize(for_measuring, "for measuring int8")
            return _ImageSets(images, images.pixels)
        calibration = self._synthesize(for_calibration, "for calibration")
        if config.val_data is not None:
            return _ImageSets(calibration, calibration.pixels)
        measurement = self._synthesize(for_measuring, "for measuring int8")
        return _ImageSets(calibration, measurement.pixels)

    def _synthesize(self, synthetic: SyntheticConfig, purpose: str) -> CalibrationSet:
        """Make synthetic images for a purpose such as "for calibration", and announce them."""
        self._progress.message(
            f"making {synthetic.count} synthetic images {purpose} from the network itself"
        )
        return synthesize_images(
            self._original,
            self._checkpoint.preprocess,
            synthetic,
            ImageCache(find_cache_folder(), self._checkpoint.sha256, self._original.feature_stages),
            self._progress,
        )


class ReportingBatches:
    """A `BatchFactory` for a validation set that also reports the number of unreadable images."""

    def __init__(self, validation: ValidationSet, progress: Progress) -> None:
        """Wrap a validation set.

        Args:
            validation: The labeled images.
            progress: Receives the message about unreadable images.
        """
        self._validation = validation
        self._progress = progress
        self._reported_count = 0

    def __call__(self) -> Iterator[LabeledBatch]:
        """Yield the batches, then report unreadable images if their number has changed."""
        yield from self._validation.batches()
        skipped = self._validation.skipped
        if skipped != self._reported_count:
            self._reported_count = skipped
            self._progress.message(
                f"{skipped} of {len(self._validation)} validation images cannot be read and are"
                " left out"
            )
