"""Which kernels an engine ran: one module per engine that can report it, with the engine's name.

Each module has `list_executed_kernels(path, threads) -> list[ExecutedKernel]`, which runs an
artifact `RUNS` times on random input, with a batch of one if the batch is open, and returns every
node that the engine ran. It raises ArtifactError for a file that the engine refuses, or whose
multiply-accumulates cannot all be found. An engine without a module here does not report what it
ran. Modules whose name begins with an underscore are helpers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from tinyvit.discovery import list_plugins, load_plugin

RUNS = 9
"""Runs of a profile; the time of a kernel is the median of them, or the engine's own average."""


@dataclass(frozen=True)
class ExecutedKernel:
    """One node that an engine ran.

    Attributes:
        kind: Name of the kernel or operator in the engine.
        macs: Multiply-accumulates for one batch; 0 for a node that multiplies no matrices.
        is_integer: Whether it multiplies integers.
        time_ms: Time of one run, slowed a little by the profiler.
    """

    kind: str
    macs: int
    is_integer: bool
    time_ms: float


Profiler: TypeAlias = "Callable[[Path, int], list[ExecutedKernel]]"
"""Runs the artifact at a path on a number of CPU threads, and returns what the engine ran."""


def profiler_names() -> tuple[str, ...]:
    """Return the names of the engines that report which kernels they ran."""
    return list_plugins(sys.modules[__name__])


def get_profiler(engine: str) -> Profiler:
    """Import the profiler of an engine.

    Args:
        engine: A name from `profiler_names`.
    """
    return cast(Profiler, load_plugin(sys.modules[__name__], engine, "list_executed_kernels"))


def random_input(shape: Iterable[int | str], dtype: str) -> Any:
    """Make random input for a network, always the same for the same shape.

    Args:
        shape: Sizes of the input; an open size, which is not a positive number, becomes 1.
        dtype: Name of the numpy dtype.

    Returns:
        An array of that shape: pixels 0 to 255 for "uint8", otherwise values of a standard normal
        distribution.
    """
    sizes = [size if isinstance(size, int) and size > 0 else 1 for size in shape]
    rng = np.random.default_rng(0)
    if dtype == "uint8":
        return rng.integers(0, 256, sizes, np.uint8)
    return rng.normal(size=sizes).astype(dtype)
