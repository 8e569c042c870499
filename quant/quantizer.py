"""The part of int8 export that is the same for all export targets (such as onnx or openvino).

This part produces two things once, for all targets: the recipe, which contains the calibrated
scales (`quant.recipe`), and the images on which int8 is compared with float32. For each target,
`export.int8.budget_search` then quantizes the network with the recipe and measures it on the
images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from tinyvit.errors import RequestError
from tinyvit.files.file_io import find_cache_folder
from tinyvit.labels import Label
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.model import TinyViT
from tinyvit.progress import Progress
from tinyvit.quant.accuracy_budget import BatchFactory
from tinyvit.quant.calibration import CalibrationOptions, equalize_and_calibrate, require_points
from tinyvit.quant.config import CPU_WEIGHT_BITS, QuantizationConfig
from tinyvit.quant.images.quantization_images import QuantizationImages, ReportingBatches
from tinyvit.quant.images.validation_data import (
    ValidationSet,
    read_unlabeled_set,
    read_validation_set,
)
from tinyvit.quant.observers import METHOD
from tinyvit.quant.recipe import Recipe, read_recipe, weights_only_recipe

__all__ = ["PreparedQuantization", "QuantizationConfig", "prepare_quantization"]


def _keep_pixels() -> None:
    """Free no memory; the pixels of these images are kept as long as the export runs."""


@dataclass(frozen=True)
class PreparedQuantization:
    """The recipe and the images that every target uses to make its int8 artifact.

    Attributes:
        config: The options.
        recipe: The recipe, read from its file or calibrated.
        make_batches: Function that returns the images on which int8 is compared with float32, in
            batches. Calibration does not use these images.
        count_images: Function that returns the number of these images, including unreadable ones.
        make_sensitivity_images: Function that returns normalized images, float32 (N, 3, H, W), for
            ranking layers by sensitivity. The first call may take minutes.
        is_measured: Whether int8 is compared with float32; see
            `QuantizationConfig.needs_measurement`.
        forget_pixels: Function that frees memory in which pixels of `make_batches` are kept.
    """

    config: QuantizationConfig
    recipe: Recipe
    make_batches: BatchFactory
    count_images: Callable[[], int]
    make_sensitivity_images: Callable[[], Tensor]
    is_measured: bool = True
    forget_pixels: Callable[[], None] = _keep_pixels


def prepare_quantization(
    config: QuantizationConfig,
    checkpoint: Checkpoint,
    labels: Sequence[Label],
    original: TinyViT,
    folded: TinyViT,
    progress: Progress,
) -> PreparedQuantization:
    """Read or calibrate the recipe, and prepare the images on which int8 is measured.

    If `config.recipe` names a file that does not exist, the calibrated recipe is written to it.

    Args:
        config: The options, which `QuantizationConfig.validate` has checked.
        checkpoint: The checkpoint, with its image size set to that of the export.
        labels: The labels of the model, in the order of its logits; empty for other outputs.
        original: The network before folding (`tinyvit.nn.fold`). Synthetic images are made from the
            statistics in its BatchNorms.
        folded: The network after folding, which is calibrated.
        progress: Receives messages and the progress of each step.

    Returns:
        The recipe and the images, for all targets.

    Raises:
        RequestError: The images cannot be used, or the recipe was calibrated for another
            checkpoint, image size, kind of attention windows, mean or standard deviation.
        ImageError: A folder cannot be read, or has no images.
        MissingDependencyError: Calibration needs torchao, which is not installed.
    """
    # `needs_measurement` depends on whether the recipe file exists, and calibration may write it.
    is_measured = config.needs_measurement
    validation: ValidationSet | None = None
    if config.val_data is not None and labels:
        # The class folders are matched before calibration, which takes minutes.
        validation = read_validation_set(config.val_data, checkpoint.preprocess, labels)
    elif config.val_data is not None:
        validation = read_unlabeled_set(config.val_data, checkpoint.preprocess)
    images = QuantizationImages(config, checkpoint, original, progress)
    images.announce_synthetic()
    if config.weights_only:
        recipe = weights_only_recipe(checkpoint.sha256, checkpoint.img_size, checkpoint.windows)
    else:
        recipe = _read_or_calibrate(config, checkpoint, images, folded, progress)
    make_batches: BatchFactory = images.measurement_batches
    count_images = images.count_measurement_images
    forget_pixels = _keep_pixels
    if validation is not None:
        make_batches = ReportingBatches(validation, progress)
        count_images, forget_pixels = validation.__len__, validation.forget_pixels
    return PreparedQuantization(
        config,
        recipe,
        make_batches,
        count_images,
        images.make_sensitivity_images,
        is_measured,
        forget_pixels,
    )


def _read_or_calibrate(
    config: QuantizationConfig,
    checkpoint: Checkpoint,
    images: QuantizationImages,
    folded: TinyViT,
    progress: Progress,
) -> Recipe:
    """Read the recipe file if it exists. Otherwise calibrate, and write the file if it is named."""
    if config.recipe is None:
        return _calibrate_on_images(config, checkpoint, images, folded, progress)
    if config.recipe.exists():
        recipe = read_recipe(config.recipe)
        if not recipe.is_for(checkpoint):
            raise RequestError(
                f"the recipe {config.recipe} was made for another checkpoint, image size, kind of"
                " attention windows, or mean and std",
                "to make a new recipe, give --recipe the name of a file that does not exist yet",
            )
        require_points(recipe, folded, config.recipe, config.every_tensor)
        progress.message(f"using the recipe {config.recipe}")
        return recipe
    progress.message(
        f"the recipe {config.recipe} does not exist; it will be written after calibration"
    )
    recipe = _calibrate_on_images(config, checkpoint, images, folded, progress)
    recipe.save(config.recipe)
    return recipe


def _calibrate_on_images(
    config: QuantizationConfig,
    checkpoint: Checkpoint,
    images: QuantizationImages,
    folded: TinyViT,
    progress: Progress,
) -> Recipe:
    """Calibrate on the images. An interrupted calibration continues from a file in the cache."""
    calibration = images.calibration
    preprocess = checkpoint.preprocess
    network_identity = (
        f"{checkpoint.sha256} {checkpoint.img_size} {checkpoint.windows} {preprocess.mean}"
        f" {preprocess.std}"
    )
    if folded.feature_stages:
        # Other stages have no observers.
        network_identity += f" stages {folded.feature_stages}"
    # The last words distinguish the files from those of versions with another equalization.
    identity = f"{network_identity} {calibration.sha256} {METHOD} equalized 2"
    if config.every_tensor:
        identity += " every tensor"
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    progress.message(f"calibrating on {calibration.source}")
    recipe = equalize_and_calibrate(
        checkpoint,
        folded,
        calibration,
        CPU_WEIGHT_BITS[config.cpu],  # `config.cpu` is the processor on which artifacts will run
        progress,
        CalibrationOptions(
            state_file=find_cache_folder() / f"calibration-{key}.pt",
            every_tensor=config.every_tensor,
        ),
    )
    return replace(recipe, is_synthetic=config.uses_synthetic_images)
