"""Calibration: runs the float32 network on images and chooses the scale of each activation.

An observer (an object of a class of torchao) collects statistics of one tensor while the images
pass through the network, and computes the scale from these statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.nn.checkpoint import Checkpoint
from tinyvit.nn.model import TinyViT
from tinyvit.nn.state_files import read_state_file, write_state_file
from tinyvit.output_capture import quiet_loggers
from tinyvit.progress import NullProgress, Progress
from tinyvit.quant.calibration_data import CalibrationSet
from tinyvit.quant.equalization import equalize_network
from tinyvit.quant.equalization_choice import find_equalization
from tinyvit.quant.image_counts import choose_batch_size
from tinyvit.quant.quantized_layers import SEVEN_BIT_LIMIT
from tinyvit.quant.quantized_network import (
    SEVEN_BIT_OPERANDS,
    attention_modules,
    input_scale_key,
    quantizable_layers,
)
from tinyvit.quant.recipe import Recipe

OBSERVER = "HistogramObserver"
"""Name of the observer class of torchao that is used by default. It keeps a histogram of all values
and chooses the range with the least mean square error. docs/lab-notes/int8.md compares it with
others."""
METHOD = f"torchao {OBSERVER}"
"""The value of `Recipe.method` for the default observer."""
_EIGHT_BIT_LIMIT = 127
"""Largest signed integer of 8 bits."""


@dataclass(frozen=True)
class _ObservedTensor:
    """A tensor of the network whose values an observer collects.

    Attributes:
        module: The module that has the tensor as its first input or as its output.
        is_input: Whether the tensor is the first input.
    """

    module: nn.Module
    is_input: bool


def calibrate_recipe(
    checkpoint: Checkpoint,
    folded: TinyViT,
    images: CalibrationSet,
    weight_bits: int,
    progress: Progress = NullProgress(),
    state_file: Path | None = None,
) -> Recipe:
    """Calibrate the recipe of a checkpoint.

    Args:
        checkpoint: The checkpoint at the image size of the recipe.
        folded: The folded float32 network of the checkpoint (`tinyvit.nn.fold`).
        images: The images to calibrate on, with the preprocessing of the checkpoint.
        weight_bits: Number of bits of the weights, one of `recipe.WEIGHT_BITS`.
        progress: Receives the number of images that have passed through the network.
        state_file: A file that stores the state of the calibration, see `calibrate`.

    Raises:
        MissingDependencyError: torchao is not installed.
    """
    preprocess = checkpoint.preprocess
    normalized = torch.from_numpy(preprocess.normalize(images.pixels))
    return Recipe(
        checkpoint_sha256=checkpoint.sha256,
        img_size=checkpoint.img_size,
        scales=calibrate(folded, normalized, progress, state_file),
        weight_bits=weight_bits,
        float_units=(),
        method=METHOD,
        calibration_sha256=images.sha256,
        calibration_count=len(images.pixels),
        windows=checkpoint.windows,
        mean=preprocess.mean,
        std=preprocess.std,
    )


def equalize_and_calibrate(
    checkpoint: Checkpoint,
    folded: TinyViT,
    images: CalibrationSet,
    weight_bits: int,
    progress: Progress = NullProgress(),
    state_file: Path | None = None,
) -> Recipe:
    """Calibrate the recipe of a checkpoint whose network is equalized before, if necessary.

    The arguments, and the errors that are raised, are those of `calibrate_recipe`.

    Returns:
        The recipe, which contains the equalization.
    """
    normalized = torch.from_numpy(checkpoint.preprocess.normalize(images.pixels))
    equalization = find_equalization(folded, normalized, progress)
    equalized = equalize_network(folded, equalization)
    recipe = calibrate_recipe(checkpoint, equalized, images, weight_bits, progress, state_file)
    return replace(recipe, equalization=equalization)


def calibrate(
    folded: nn.Module,
    images: Tensor,
    progress: Progress = NullProgress(),
    state_file: Path | None = None,
    observer: str = OBSERVER,
) -> dict[str, float]:
    """Choose the scale of every quantization point.

    A quantization point is a tensor of the network that may become int8 (see `quant.recipe`).

    Args:
        folded: The folded float32 network (`tinyvit.nn.fold`).
        images: Normalized images, float32 (N, 3, H, W).
        progress: Receives the number of images that have passed through the network.
        state_file: A file that stores the state of the calibration. It is written after every batch
            and removed at the end. If the file exists, calibration continues from it, with the same
            result. Its name must be different for every network, set of images and observer. If
            None, no state is stored.
        observer: The name of an observer class in `torchao.quantization.pt2e`.

    Returns:
        The scale of every quantization point, by the name of the point.

    Raises:
        MissingDependencyError: torchao is not installed.
    """
    observers = _create_observers(folded, observer)
    finished_images, batch_size = 0, choose_batch_size(*images.shape[2:])
    if state_file is not None and state_file.is_file():
        finished_images = _load_state(observers, state_file)
        if finished_images == 0:
            # The file is damaged, and some observers may have been loaded from it.
            observers = _create_observers(folded, observer)
    with torch.inference_mode(), _observe_tensors(folded, observers):
        for start in range(finished_images, len(images), batch_size):
            folded(images[start : start + batch_size])
            if state_file is not None:
                _save_state(observers, start + batch_size, state_file)
            progress.advance("calibrating", min(start + batch_size, len(images)), len(images))
    scales = {}
    for point, point_observer in observers.items():
        scale = point_observer.calculate_qparams()[0]  # The zero point that follows is always 0.
        scales[point] = float(scale)
    # The outputs of a softmax are always between 0 and 1, so they are not observed.
    for name, _ in attention_modules(folded):
        scales[f"{name}.softmax:out"] = 1 / _EIGHT_BIT_LIMIT
    if state_file is not None:
        state_file.unlink(missing_ok=True)
    return dict(sorted(scales.items()))


def _create_observers(folded: nn.Module, class_name: str) -> dict[str, Any]:
    """Return a new observer for every quantization point.

    Outputs of the layers for keys and values get 7 bits; all other tensors get 8 bits.
    """
    seven_bit_endings = tuple(f"{operand}:out" for operand in SEVEN_BIT_OPERANDS)
    observers = {}
    for point in _find_observed_tensors(folded):
        has_seven_bits = point.endswith(seven_bit_endings)
        largest_integer = SEVEN_BIT_LIMIT if has_seven_bits else _EIGHT_BIT_LIMIT
        observers[point] = _create_observer(class_name, largest_integer)
    return observers


def _create_observer(class_name: str, largest_integer: int) -> Any:
    """Return an observer of torchao for integers from -`largest_integer` to `largest_integer`."""
    try:
        with quiet_loggers("torchao", "torch.utils._pytree"):
            from torchao.quantization import pt2e
    except ImportError as error:
        raise MissingDependencyError.for_package("torchao", extra="export") from error
    return getattr(pt2e, class_name)(
        dtype=torch.int8,
        qscheme=torch.per_tensor_symmetric,
        quant_min=-largest_integer,
        quant_max=largest_integer,
    )


def require_points(recipe: Recipe, folded: TinyViT, path: Path) -> None:
    """Check that a recipe from a file has a scale for every quantization point of its network.

    Args:
        recipe: The recipe.
        folded: The network after folding.
        path: The file, for the error message.

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
    missing = sorted(_find_observed_tensors(equalized).keys() - recipe.scales.keys())
    if missing:
        raise RequestError(
            f"the recipe {path} has no scale for {missing[0]} ({len(missing)} scales are missing)",
            "to make a new recipe, give --recipe the name of a file that does not exist yet",
        )


def _find_observed_tensors(folded: nn.Module) -> dict[str, _ObservedTensor]:
    """Return the tensor of every quantization point except outputs of softmax, by point name."""
    tensors: dict[str, _ObservedTensor] = {}
    for name, layer in quantizable_layers(folded):
        point = input_scale_key(folded, name)
        # Query, key and value layers share the point of their input, which has the name of the
        # module that contains them. So the input of that module is observed, once.
        module = folded.get_submodule(point.rpartition(":")[0])
        tensors.setdefault(point, _ObservedTensor(module, is_input=True))
        tensors[f"{name}:out"] = _ObservedTensor(layer, is_input=False)
    return tensors


@contextmanager
def _observe_tensors(folded: nn.Module, observers: dict[str, Any]) -> Iterator[None]:
    """Pass every observed tensor to its observer whenever the network runs in this context."""

    def make_hook(observer: Any, is_input: bool) -> Callable[[nn.Module, Any, Tensor], None]:
        def observe(_: nn.Module, inputs: Any, output: Tensor) -> None:
            observer(inputs[0] if is_input else output)

        return observe

    handles = [
        tensor.module.register_forward_hook(make_hook(observers[point], tensor.is_input))
        for point, tensor in _find_observed_tensors(folded).items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _load_state(observers: dict[str, Any], state_file: Path) -> int:
    """Load the state of observers from a file.

    Returns:
        The number of images that the observers have seen. It is 0 if the file is damaged; some
        observers may then be loaded and others not.
    """
    try:
        state = read_state_file(state_file)
        for point, observer in observers.items():
            observer.load_state_dict(state["observers"][point])
        return int(state["observed"])
    except Exception:  # observers raise unrelated exceptions for damaged states.
        return 0


def _save_state(observers: dict[str, Any], finished_images: int, state_file: Path) -> None:
    """Write the state of the observers, and the number of images they have seen, to a file.

    Errors are ignored, because the file only saves time after an interruption.
    """
    states = {point: observer.state_dict() for point, observer in observers.items()}
    with suppress(OSError):
        write_state_file(state_file, {"observed": finished_images, "observers": states})
