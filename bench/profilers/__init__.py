"""Contains the profilers, which list the nodes that an engine executed, and the kernel of each.

Each engine that can report its kernels has one module here, named like the engine. The module
defines `list_executed_nodes(path, threads) -> list[ExecutedNode]`, a function that runs an artifact
(exported model file) `RUNS` times on random input and returns every node that the engine executed.
A dynamic batch size is set to 1. The function raises ArtifactError if the engine refuses the file,
or if some multiply-accumulates cannot be counted. Modules whose names begin with an underscore are
helpers.

A "product" in these modules is a node that performs multiply-accumulates: a matrix product, a
linear layer or a convolution.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from tinyvit.discovery import list_plugins, load_plugin

REPORT_REMEDY = "if tinyvit-export wrote the file, report a bug of tinyvit-edge, with the file"
"""Remedy for a file whose profile contradicts its network."""

RUNS = 9
"""Number of runs for a profile. The time of a node is the median of its times in these runs, or
their average after a first run if the engine reports only averages."""


@dataclass(frozen=True)
class ExecutedNode:
    """One node that an engine executed.

    Attributes:
        kernel_name: The engine's name of the kernel or operator that it ran.
        macs: Number of multiply-accumulates for one batch; 0 for a node that is not a product.
        is_integer: Whether the node multiplies integers.
        time_ms: Time of the node in one run, slowed a little by the profiler.
        output_bytes: Size of the node's outputs; None if the profile states no shapes.
    """

    kernel_name: str
    macs: int
    is_integer: bool
    time_ms: float
    output_bytes: int | None = None


Profiler: TypeAlias = "Callable[[Path, int], list[ExecutedNode]]"
"""Function `list_executed_nodes` of a profiler. Its arguments are the path of an artifact and the
number of CPU threads."""


def profiler_names() -> tuple[str, ...]:
    """Return the names of the engines that report which kernels they execute."""
    return list_plugins(sys.modules[__name__])


def get_profiler(engine: str) -> Profiler:
    """Import the profiler of an engine.

    Args:
        engine: One of `profiler_names`.

    Returns:
        The function `list_executed_nodes` of the engine's module.
    """
    return cast(Profiler, load_plugin(sys.modules[__name__], engine, "list_executed_nodes"))


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
