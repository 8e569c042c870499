"""Observing activations: a folded network and images in, a scale for every point out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tinyvit.errors import MissingDependencyError
from tinyvit.files import publish_files, staging_folder
from tinyvit.output_capture import quiet_loggers
from tinyvit.quant.quantized_network import (
    LARGEST_SEVEN,
    SEVEN_BITS,
    attention_modules,
    input_point,
    quantizable_layers,
)

OBSERVER = "HistogramObserver"
"""Of torchao's. The range that loses least in the mean square, by a histogram of all values seen; docs/int8.md compares it with others."""
METHOD = f"torchao {OBSERVER}"
BATCH = 8
LARGEST = 127

Progress = Callable[[int, int], None]


def calibrate(
    folded: nn.Module,
    images: Tensor,
    state: Path | None = None,
    progress: Progress | None = None,
    observer: str = OBSERVER,
) -> dict[str, float]:
    """Point -> scale, from float32 images (N, 3, S, S), normalized.

    state: a file to go on from where it exists and is of the same call (its name must say so), written after every batch
    and removed at the end: stopped anywhere and called again, the result is the same.
    observer: the class in torchao.quantization.pt2e that every point gets one of.
    """
    observers = _observers(folded, observer)
    done = _resume(observers, state, lambda: _observers(folded, observer))
    with torch.inference_mode(), _hooked(folded, observers):
        for start in range(done, len(images), BATCH):
            folded(images[start : start + BATCH])
            if state is not None:
                _keep(observers, start + BATCH, state)
            if progress is not None:
                progress(min(start + BATCH, len(images)), len(images))
    scales = {name: float(seen.calculate_qparams()[0]) for name, seen in observers.items()}
    scales.update(
        {f"{name}.softmax:out": 1 / LARGEST for name, _ in attention_modules(folded)}
    )  # between 0 and 1 by nature
    if state is not None:
        state.unlink(missing_ok=True)
    return dict(sorted(scales.items()))


def _observers(folded: nn.Module, kind: str) -> dict[str, Any]:
    narrow = tuple(f"{part}:out" for part in SEVEN_BITS)
    return {
        name: _observer(kind, LARGEST_SEVEN if name.endswith(narrow) else LARGEST)
        for name in _observed(folded)
    }


def _observer(kind: str, largest: int) -> Any:
    try:
        with quiet_loggers("torchao", "torch.utils._pytree"):
            from torchao.quantization import pt2e
    except ImportError as error:
        raise MissingDependencyError.of("torchao", "export") from error
    return getattr(pt2e, kind)(
        dtype=torch.int8, qscheme=torch.per_tensor_symmetric, quant_min=-largest, quant_max=largest
    )


def _observed(folded: nn.Module) -> dict[str, tuple[nn.Module, bool]]:
    """Point -> (the module, whether it is its input that is looked at)."""
    found: dict[str, tuple[nn.Module, bool]] = {}
    for name, layer in quantizable_layers(folded):
        point = input_point(folded, name)
        found.setdefault(point, (folded.get_submodule(point.rpartition(":")[0]), True))
        found[f"{name}:out"] = layer, False
    return found


@contextmanager
def _hooked(folded: nn.Module, observers: dict[str, Any]) -> Iterator[None]:
    def watch(observer: Any, is_input: bool) -> Callable[[nn.Module, Any, Tensor], None]:
        def look(_: nn.Module, given: Any, result: Tensor) -> None:
            observer(given[0] if is_input else result)

        return look

    handles = [
        module.register_forward_hook(watch(observers[name], is_input))
        for name, (module, is_input) in _observed(folded).items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _resume(
    observers: dict[str, Any], state: Path | None, anew: Callable[[], dict[str, Any]]
) -> int:
    """How many images the observers have seen already, by the file."""
    if state is None or not state.is_file():
        return 0
    try:
        kept = torch.load(state, weights_only=True)
        for name, observer in observers.items():
            observer.load_state_dict(kept["observers"][name])
        return int(kept["done"])
    except Exception:  # torch's for a damaged file have no base of their own: begin again
        observers.update(anew())
        return 0


def _keep(observers: dict[str, Any], done: int, state: Path) -> None:
    with staging_folder(state) as folder:
        kept = folder / state.name
        torch.save(
            {
                "done": done,
                "observers": {name: observer.state_dict() for name, observer in observers.items()},
            },
            kept,
        )
        publish_files([kept], state.parent)
