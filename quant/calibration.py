"""Calibration: runs the float32 network on images and chooses the scale of each activation.

An observer (a class of torchao) collects statistics of one tensor while the images pass through the
network, and computes the scale from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tinyvit.errors import MissingDependencyError
from tinyvit.files import publish_files, staging_folder
from tinyvit.output_capture import quiet_loggers
from tinyvit.progress import NullProgress, Progress
from tinyvit.quant.quantized_layers import SEVEN_BIT_LIMIT
from tinyvit.quant.quantized_network import (
    SEVEN_BIT_OPERANDS,
    attention_modules,
    input_point_name,
    quantizable_layers,
)

OBSERVER = "HistogramObserver"
"""The default observer class of torchao. It keeps a histogram of all values and chooses the range
with the least mean square error. docs/int8.md compares it with others."""
METHOD = f"torchao {OBSERVER}"
"""The value of `Recipe.method` for the default observer."""
BATCH_SIZE = 8

_LARGEST_INTEGER = 127
"""Largest integer of 8 bits."""


@dataclass(frozen=True)
class _ObservedTensor:
    """A tensor that is observed.

    Attributes:
        module: The module that has the tensor as its first input or as its output.
        is_input: Whether the tensor is the first input.
    """

    module: nn.Module
    is_input: bool


def calibrate(
    folded: nn.Module,
    images: Tensor,
    progress: Progress = NullProgress(),
    state_file: Path | None = None,
    observer: str = OBSERVER,
) -> dict[str, float]:
    """Choose the scale of every quantization point (see `quant.recipe`).

    Args:
        folded: The folded float32 network (`tinyvit.nn.fold`).
        images: Normalized images, float32 (N, 3, S, S).
        progress: Receives the number of images that have passed through the network.
        state_file: A file that stores the state of the calibration. It is written after every batch
            and removed at the end. If it exists, calibration continues from it, with the same
            result. Its name must be different for every network, set of images and observer. If
            None, no state is stored.
        observer: The name of an observer class in `torchao.quantization.pt2e`.

    Returns:
        The scale of every quantization point, by the name of the point.

    Raises:
        MissingDependencyError: torchao is not installed.
    """
    observers = _create_observers(folded, observer)
    observed = 0
    if state_file is not None and state_file.is_file():
        observed = _load_state(observers, state_file)
        if not observed:
            observers = _create_observers(folded, observer)
    with torch.inference_mode(), _observing(folded, observers):
        for start in range(observed, len(images), BATCH_SIZE):
            folded(images[start : start + BATCH_SIZE])
            if state_file is not None:
                _save_state(observers, start + BATCH_SIZE, state_file)
            progress.advance("calibrating", min(start + BATCH_SIZE, len(images)), len(images))
    scales = {point: float(obs.calculate_qparams()[0]) for point, obs in observers.items()}
    # The outputs of a softmax are always between 0 and 1, so they are not observed.
    for name, _ in attention_modules(folded):
        scales[f"{name}.softmax:out"] = 1 / _LARGEST_INTEGER
    if state_file is not None:
        state_file.unlink(missing_ok=True)
    return dict(sorted(scales.items()))


def _create_observers(folded: nn.Module, class_name: str) -> dict[str, Any]:
    """Return a new observer for every quantization point."""
    seven_bit_points = tuple(f"{operand}:out" for operand in SEVEN_BIT_OPERANDS)
    return {
        point: _create_observer(
            class_name, SEVEN_BIT_LIMIT if point.endswith(seven_bit_points) else _LARGEST_INTEGER
        )
        for point in _observed_tensors(folded)
    }


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


def _observed_tensors(folded: nn.Module) -> dict[str, _ObservedTensor]:
    """Return the tensor of every quantization point except the outputs of softmax."""
    tensors: dict[str, _ObservedTensor] = {}
    for name, layer in quantizable_layers(folded):
        point = input_point_name(folded, name)
        module = folded.get_submodule(point.rpartition(":")[0])
        tensors.setdefault(point, _ObservedTensor(module, is_input=True))
        tensors[f"{name}:out"] = _ObservedTensor(layer, is_input=False)
    return tensors


@contextmanager
def _observing(folded: nn.Module, observers: dict[str, Any]) -> Iterator[None]:
    """Pass every observed tensor to its observer whenever the network runs in this context."""

    def make_hook(observer: Any, is_input: bool) -> Callable[[nn.Module, Any, Tensor], None]:
        def observe(_: nn.Module, inputs: Any, output: Tensor) -> None:
            observer(inputs[0] if is_input else output)

        return observe

    handles = [
        tensor.module.register_forward_hook(make_hook(observers[point], tensor.is_input))
        for point, tensor in _observed_tensors(folded).items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _load_state(observers: dict[str, Any], state_file: Path) -> int:
    """Load observers from a file.

    Returns:
        The number of images that the observers have seen. It is 0 if the file is damaged; some
        observers may then be loaded and others not.
    """
    try:
        state = torch.load(state_file, weights_only=True)
        for point, observer in observers.items():
            observer.load_state_dict(state["observers"][point])
        return int(state["observed"])
    except Exception:  # The errors of torch.load for damaged files have no common base class.
        return 0


def _save_state(observers: dict[str, Any], observed: int, state_file: Path) -> None:
    """Write the observers and the number of images that they have seen to a file."""
    states = {point: observer.state_dict() for point, observer in observers.items()}
    with staging_folder(state_file) as folder:
        staged = folder / state_file.name
        torch.save({"observed": observed, "observers": states}, staged)
        publish_files([staged], state_file.parent)
