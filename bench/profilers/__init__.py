"""Profilers, which list the kernels that an engine executed for an artifact.

Each engine that can report its kernels has one module here, named like the engine. The module
defines `list_executed_kernels(path, threads) -> list[ExecutedKernel]`, which runs an artifact
`RUNS` times on random input, with a batch of 1 if the batch is dynamic, and returns every node that
the engine executed. It raises ArtifactError if the engine refuses the file, or if some
multiply-accumulates cannot be counted. Modules whose names begin with an underscore are helpers.

A "product" in these modules is a matrix product, a linear layer or a convolution: a node that
performs multiply-accumulates.
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
"""Runs per profile; the time of a kernel is their median, or the average from the engine."""


@dataclass(frozen=True)
class ExecutedKernel:
    """One node that an engine executed.

    Attributes:
        kind: The engine's name of the kernel or operator.
        macs: Multiply-accumulates for one batch; 0 for a node that is not a product.
        is_integer: Whether the node multiplies integers.
        time_ms: Time of one run, slowed a little by the profiler.
    """

    kind: str
    macs: int
    is_integer: bool
    time_ms: float


Profiler: TypeAlias = "Callable[[Path, int], list[ExecutedKernel]]"
"""Runs the artifact at a path on a number of CPU threads, and returns the executed nodes."""


def profiler_names() -> tuple[str, ...]:
    """Return the names of the engines that report which kernels they execute."""
    return list_plugins(sys.modules[__name__])


def get_profiler(engine: str) -> Profiler:
    """Import the profiler of an engine.

    Args:
        engine: A name from `profiler_names`.
    """
    return cast(Profiler, load_plugin(sys.modules[__name__], engine, "list_executed_kernels"))


def random_input(shape: Iterable[int | str], dtype: str) -> Any:
    """Make random input for a network; the same shape and dtype always give the same input.

    Args:
        shape: Sizes of the input; a dynamic size (a name, 0 or a negative number) becomes 1.
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
