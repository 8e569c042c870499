"""The quantization workflow up to the point where targets differ.

The recipe and the images to measure int8 with are prepared once for all targets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from tinyvit.errors import RequestError
from tinyvit.labels import Label
from tinyvit.nn.checkpoint import Checkpoint
from tinyvit.nn.model import TinyViT
from tinyvit.progress import Progress
from tinyvit.quant.accuracy_budget import ImageBatches
from tinyvit.quant.calibration import METHOD, calibrate
from tinyvit.quant.config import CPU_WEIGHT_BITS, QuantizationConfig
from tinyvit.quant.quantization_images import QuantizationImages, ReportingBatches, cache_folder
from tinyvit.quant.recipe import Recipe, read_recipe, weights_only_recipe
from tinyvit.quant.validation_data import read_validation_set

__all__ = ["PreparedQuantization", "QuantizationConfig", "prepare_quantization"]


@dataclass(frozen=True)
class PreparedQuantization:
    """The recipe and images that every target needs to be quantized.

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
    images = QuantizationImages(config, checkpoint, original, progress)
    images.announce_synthetic()
    if config.weights_only:
        recipe = weights_only_recipe(checkpoint.sha256, checkpoint.img_size)
    else:
        recipe = _read_or_calibrate(config, checkpoint, images, folded, progress)
    if config.val_data is not None:
        validation = read_validation_set(config.val_data, checkpoint.preprocess, labels)
        batches: ImageBatches = ReportingBatches(validation, progress)
    else:
        batches = images.unlabeled_batches()
    return PreparedQuantization(config, recipe, batches, images.sensitivity_images)


def _read_or_calibrate(
    config: QuantizationConfig,
    checkpoint: Checkpoint,
    images: QuantizationImages,
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
    images: QuantizationImages,
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
