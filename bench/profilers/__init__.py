"""What an engine says it executed, one file an engine, named as it is in runtimes/engines.

Each has `executed(path, threads) -> list[Part]`: the file run on noise, RUNS times, a free batch as 1; every node that ran, none of the
file's that did not. Raises ArtifactError for a file that the engine refuses, or whose multiply-accumulates cannot all be found. An engine
without a file here does not tell.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

RUNS = 9


class ExecutedKernel(NamedTuple):
    """What one executed node adds to its kind."""

    kind: str
    macs: int
    is_integer: bool
    ms: float


@cache
def names() -> tuple[str, ...]:
    """The engines that tell."""
    return tuple(
        sorted(
            module.name
            for module in pkgutil.iter_modules(__path__)
            if not module.name.startswith("_")
        )
    )


def reader(engine: str) -> Callable[[Path, int], list[ExecutedKernel]]:
    """Its `executed`."""
    return cast(
        Callable[[Path, int], list[ExecutedKernel]], import_module(f"{__name__}.{engine}").executed
    )


def random_input(shape: Iterable[int | str], dtype: str) -> Any:
    """Something to run a network on: pixels for "uint8", else normal numbers; sizes that are free are 1."""
    sizes = [size if isinstance(size, int) and size > 0 else 1 for size in shape]
    rng = np.random.default_rng(0)
    return (
        rng.integers(0, 256, sizes, np.uint8)
        if dtype == "uint8"
        else rng.normal(size=sizes).astype(dtype)
    )
