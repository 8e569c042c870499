"""Observers: objects of torchao that collect statistics of a tensor, and compute its scale."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tinyvit.errors import MissingDependencyError
from tinyvit.nn.checkpoints.tensor_files.resumable_state import read_state_file, write_state_file
from tinyvit.processes.output_capture import quiet_loggers
from tinyvit.quant.quantized_layers import SEVEN_BIT_LIMIT
from tinyvit.quant.quantized_network import SEVEN_BIT_OPERANDS
from tinyvit.quant.recipe import MIN_SCALE
from tinyvit.quant.tensor_points import ObservedTensor

OBSERVER = "HistogramObserver"
"""Name of the observer class of torchao that is used by default. It keeps a histogram of all values
and chooses the range with the least mean square error. docs/lab-notes/int8.md compares it with
others."""
MAX_SAVING_SHARE = 0.02
"""Largest share of the time of a calibration in which its state is written."""
METHOD = f"torchao {OBSERVER}"
"""The value of `Recipe.method` for the default observer."""
EIGHT_BIT_LIMIT = 127
"""Largest signed integer of 8 bits."""


def read_range(observer: Any) -> tuple[float, float]:
    """Return the smallest and the largest value that an observer has seen.

    Args:
        observer: An observer of torchao with the attributes `min_val` and `max_val`.

    Returns:
        A number that is at most 0, and one that is at least `MIN_SCALE`.
    """
    return min(float(observer.min_val), 0.0), max(float(observer.max_val), MIN_SCALE)


def create_observers(tensors: Iterable[str], class_name: str) -> dict[str, Any]:
    """Return a new observer for every quantization point.

    Outputs of the layers for keys and values get 7 bits; all other tensors get 8 bits.

    Args:
        tensors: Names of the quantization points.
        class_name: Name of the observer class of torchao, such as `OBSERVER`.

    Raises:
        MissingDependencyError: torchao is not installed.
    """
    seven_bit_endings = tuple(f"{operand}:out" for operand in SEVEN_BIT_OPERANDS)
    observers = {}
    for point in tensors:
        has_seven_bits = point.endswith(seven_bit_endings)
        largest_integer = SEVEN_BIT_LIMIT if has_seven_bits else EIGHT_BIT_LIMIT
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


@contextmanager
def observe_tensors(
    tensors: Mapping[str, ObservedTensor], observers: dict[str, Any]
) -> Iterator[None]:
    """Pass every observed tensor to its observer whenever the network runs in this context.

    Args:
        tensors: Name of the quantization point -> the tensor to observe.
        observers: Name of the quantization point -> its observer.
    """

    def make_hook(observer: Any, is_input: bool) -> Callable[[nn.Module, Any, Tensor], None]:
        def observe(_: nn.Module, inputs: Any, output: Tensor) -> None:
            observer(inputs[0] if is_input else output)

        return observe

    handles = [
        tensor.module.register_forward_hook(make_hook(observers[point], tensor.is_input))
        for point, tensor in tensors.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def load_observers(observers: dict[str, Any], state_file: Path) -> int:
    """Load the state of observers from a file.

    Args:
        observers: Name of the quantization point -> a new observer.
        state_file: A file that `save_observers` wrote.

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


class StateWriter:
    """Writes the state of observers to a file, so seldom that it takes little of the time."""

    def __init__(self, observers: dict[str, Any], state_file: Path | None) -> None:
        """Store the arguments.

        Args:
            observers: Name of the quantization point -> its observer.
            state_file: The file to write or replace; None to write nothing.
        """
        self._observers = observers
        self._state_file = state_file
        self._next_s = 0.0

    def write(self, finished_images: int) -> None:
        """Write the state, unless too little time has passed since it was written.

        Args:
            finished_images: Number of images that the observers have seen.
        """
        start_s = time.monotonic()
        if self._state_file is None or start_s < self._next_s:
            return
        save_observers(self._observers, finished_images, self._state_file)
        end_s = time.monotonic()
        self._next_s = end_s + (end_s - start_s) / MAX_SAVING_SHARE


def save_observers(observers: dict[str, Any], finished_images: int, state_file: Path) -> None:
    """Write the state of the observers, and the number of images they have seen, to a file.

    Errors are ignored, because the file only saves time after an interruption.

    Args:
        observers: Name of the quantization point -> its observer.
        finished_images: Number of images that the observers have seen.
        state_file: The file to write or replace.
    """
    states = {point: observer.state_dict() for point, observer in observers.items()}
    with suppress(OSError):
        write_state_file(state_file, {"observed": finished_images, "observers": states})
