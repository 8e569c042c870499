"""Calibration: runs the float32 network on images and chooses the scale of each activation.

An observer (an object of a class of torchao) collects statistics of one tensor while the images
pass through the network, and computes the scale from these statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from tinyvit.errors import RequestError
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.model import TinyViT
from tinyvit.progress import NullProgress, Progress
from tinyvit.quant.channel_ranges.equalization import equalize_network
from tinyvit.quant.channel_ranges.equalization_choice import find_equalization
from tinyvit.quant.images.calibration_data import CalibrationSet
from tinyvit.quant.images.image_counts import choose_batch_size
from tinyvit.quant.images.normalized_images import NetworkInputs, NormalizedImages
from tinyvit.quant.observers import (
    EIGHT_BIT_LIMIT,
    METHOD,
    OBSERVER,
    StateWriter,
    create_observers,
    load_observers,
    observe_tensors,
    read_range,
)
from tinyvit.quant.quantized_network import (
    attention_modules,
    quantizable_layers,
)
from tinyvit.quant.recipe import Recipe
from tinyvit.quant.tensor_points import ObservedTensor, find_every_tensor, layer_input_point


@dataclass(frozen=True)
class CalibrationOptions:
    """How a calibration is done.

    Attributes:
        state_file: A file that stores the state of the calibration. It is written after the first
            batch, and then after a batch whenever some time has passed (`MAX_SAVING_SHARE` of
            `quant.observers`), and removed at the end. If the file exists, calibration continues
            from it, with the same result. Its name must be different for every network, set of
            images, observer and value of `every_tensor`. If None, no state is stored.
        observer: The name of an observer class in `torchao.quantization.pt2e`.
        every_tensor: Whether every tensor of the network is observed, for targets that quantize all
            (`QuantScheme.every_tensor`), instead of those that any other target quantizes.
    """

    state_file: Path | None = None
    observer: str = OBSERVER
    every_tensor: bool = False


@dataclass(frozen=True)
class TensorScales:
    """The scales and ranges that a calibration measured.

    Attributes:
        scales: The scale of every quantization point for 8 bits, by the name of the point.
        ranges: The smallest and the largest value of every point; empty unless every tensor was
            observed.
    """

    scales: dict[str, float]
    ranges: dict[str, tuple[float, float]]


def calibrate_recipe(
    checkpoint: Checkpoint,
    folded: TinyViT,
    images: CalibrationSet,
    weight_bits: int,
    progress: Progress = NullProgress(),
    options: CalibrationOptions = CalibrationOptions(),
) -> Recipe:
    """Calibrate the recipe of a checkpoint.

    Args:
        checkpoint: The checkpoint at the image size of the recipe.
        folded: The folded float32 network of the checkpoint (`tinyvit.nn.fold`).
        images: The images to calibrate on, with the preprocessing of the checkpoint.
        weight_bits: Number of bits of the weights, one of `recipe.WEIGHT_BITS`.
        progress: Receives the number of images that have passed through the network.
        options: How the calibration is done.

    Raises:
        MissingDependencyError: torchao is not installed.
    """
    preprocess = checkpoint.preprocess
    inputs = NormalizedImages(images.pixels, preprocess)
    measured = measure_tensors(folded, inputs, progress, options)
    return Recipe(
        checkpoint_sha256=checkpoint.sha256,
        img_size=checkpoint.img_size,
        scales=measured.scales,
        weight_bits=weight_bits,
        float_units=(),
        method=METHOD,
        calibration_sha256=images.sha256,
        calibration_count=len(images.pixels),
        windows=checkpoint.windows,
        mean=preprocess.mean,
        std=preprocess.std,
        ranges=measured.ranges,
    )


def equalize_and_calibrate(
    checkpoint: Checkpoint,
    folded: TinyViT,
    images: CalibrationSet,
    weight_bits: int,
    progress: Progress = NullProgress(),
    options: CalibrationOptions = CalibrationOptions(),
) -> Recipe:
    """Calibrate the recipe of a checkpoint whose network is equalized before, if necessary.

    The arguments, and the errors that are raised, are those of `calibrate_recipe`.

    Returns:
        The recipe, which contains the equalization.
    """
    inputs = NormalizedImages(images.pixels, checkpoint.preprocess)
    # The multiplications would be further operators with tensors of their own for an NPU.
    equalization = find_equalization(folded, inputs, progress, multiplies=not options.every_tensor)
    equalized = equalize_network(folded, equalization)
    recipe = calibrate_recipe(checkpoint, equalized, images, weight_bits, progress, options)
    return replace(recipe, equalization=equalization)


def calibrate(
    folded: nn.Module,
    images: NetworkInputs,
    progress: Progress = NullProgress(),
    state_file: Path | None = None,
    observer: str = OBSERVER,
) -> dict[str, float]:
    """Choose the scale of every quantization point that targets of CPUs and GPUs need.

    A quantization point is a tensor of the network that may become int8 (see `quant.recipe`).

    Args:
        folded: The folded float32 network (`tinyvit.nn.fold`).
        images: Normalized images, float32 (N, 3, H, W).
        progress: Receives the number of images that have passed through the network.
        state_file: See `CalibrationOptions`.
        observer: See `CalibrationOptions`.

    Returns:
        The scale of every quantization point, by the name of the point.

    Raises:
        MissingDependencyError: torchao is not installed.
    """
    options = CalibrationOptions(state_file, observer)
    return measure_tensors(folded, images, progress, options).scales


def measure_tensors(
    folded: nn.Module,
    images: NetworkInputs,
    progress: Progress = NullProgress(),
    options: CalibrationOptions = CalibrationOptions(),
) -> TensorScales:
    """Choose the scale of every quantization point, and find the ranges if every tensor has one.

    Args:
        folded: The folded float32 network (`tinyvit.nn.fold`).
        images: Normalized images, float32 (N, 3, H, W).
        progress: Receives the number of images that have passed through the network.
        options: How the calibration is done.

    Returns:
        The scales and, if every tensor is observed, the ranges.

    Raises:
        MissingDependencyError: torchao is not installed.
    """
    tensors = _find_observed_tensors(folded, options.every_tensor)
    observers = create_observers(tensors, options.observer)
    state_file = options.state_file
    finished_images, batch_size = 0, choose_batch_size(*images.shape[2:])
    if state_file is not None and state_file.is_file():
        finished_images = load_observers(observers, state_file)
        if finished_images == 0:
            # The file is damaged, and some observers may have been loaded from it.
            observers = create_observers(tensors, options.observer)
    writer = StateWriter(observers, state_file)
    with torch.inference_mode(), observe_tensors(tensors, observers):
        for start in range(finished_images, len(images), batch_size):
            folded(images[start : start + batch_size])
            writer.write(start + batch_size)
            progress.advance("calibrating", min(start + batch_size, len(images)), len(images))
    scales = {}
    for point, point_observer in observers.items():
        scale = point_observer.calculate_qparams()[0]  # The zero point that follows is always 0.
        scales[point] = float(scale)
    for name, _ in attention_modules(folded):
        # The outputs of a softmax are at most 1, which an observer does not know.
        point = f"{name}.softmax:out"
        scales[point] = min(scales[point], 1 / EIGHT_BIT_LIMIT)
    ranges = {}
    if options.every_tensor:
        ranges = {point: read_range(observer) for point, observer in observers.items()}
    if state_file is not None:
        state_file.unlink(missing_ok=True)
    return TensorScales(dict(sorted(scales.items())), dict(sorted(ranges.items())))


def require_points(recipe: Recipe, folded: TinyViT, path: Path, every_tensor: bool = False) -> None:
    """Check that a recipe from a file has a scale for every quantization point of its network.

    Args:
        recipe: The recipe.
        folded: The network after folding.
        path: The file, for the error message.
        every_tensor: Whether a target quantizes every tensor, and needs the ranges, too.

    Raises:
        RequestError: A scale is missing, or the equalization is for another network.
    """
    try:
        equalized = equalize_network(folded, recipe.equalization)
    except ValueError as error:
        raise RequestError(
            f"the recipe {path} cannot be used: {error}",
            "to make a new recipe, give --recipe the name of a file that does not exist yet",
        ) from error
    points = _find_observed_tensors(equalized, every_tensor).keys()
    missing = sorted(points - recipe.scales.keys())
    if every_tensor and (missing or points - recipe.ranges.keys()):
        raise RequestError(
            f"the recipe {path} does not have the scales of every tensor, which an NPU needs: it"
            " was calibrated for other targets",
            "give --recipe the name of a file that does not exist yet; the new recipe is for all"
            " targets",
        )
    if missing:
        raise RequestError(
            f"the recipe {path} has no scale for {missing[0]} ({len(missing)} scales are missing)",
            "to make a new recipe, give --recipe the name of a file that does not exist yet",
        )


def _find_observed_tensors(folded: nn.Module, every_tensor: bool) -> dict[str, ObservedTensor]:
    """Return the tensor of every quantization point, by point name."""
    if every_tensor:
        return find_every_tensor(folded)
    tensors: dict[str, ObservedTensor] = {}
    for name, layer in quantizable_layers(folded):
        point = layer_input_point(folded, name)
        # Query, key and value layers share the point of their input, which has the name of the
        # module that contains them. So the input of that module is observed, once.
        module = folded.get_submodule(point.rpartition(":")[0])
        tensors.setdefault(point, ObservedTensor(module, is_input=True))
        tensors[f"{name}:out"] = ObservedTensor(layer, is_input=False)
    for name, attention in attention_modules(folded):
        tensors[f"{name}.softmax:out"] = ObservedTensor(attention.softmax, is_input=False)
    return tensors
