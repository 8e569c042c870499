"""Limits the cost of a Core ML program, in memory and in time, before it is evaluated.

Every shape in a program is declared and constant, so the cost is known before the first operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from tinyvit.errors import ArtifactError
from tinyvit.runtimes.engines._mil_types import (
    MAX_LIVE_ELEMENTS,
    MAX_PROGRAM_ELEMENTS,
    MAX_PROGRAM_MACS,
    MilProgram,
    Operation,
)

_PRODUCT_KINDS = ("conv", "linear", "matmul")


def check_cost(program: MilProgram) -> None:
    """Refuse a program that takes too much memory or time.

    Args:
        program: The program.

    Raises:
        ArtifactError: The program exceeds a limit of `_mil_types`.
    """
    shapes = {program.signature.input.name: _fixed_shape(program)}
    shapes |= {operation.output: operation.shape for operation in program.operations}
    elements = sum(_count_elements(operation, shapes) for operation in program.operations)
    if elements > MAX_PROGRAM_ELEMENTS:
        raise _cost_error(f"its operations read and write {elements:,} numbers")
    macs = sum(_estimate_macs(operation, shapes) for operation in program.operations)
    if macs > MAX_PROGRAM_MACS:
        raise _cost_error(f"its operations need {macs:,} multiply-accumulates")
    live_elements = _find_most_live_elements(program, shapes)
    if live_elements > MAX_LIVE_ELEMENTS:
        raise _cost_error(f"{live_elements:,} numbers are in memory at the same time")


def _cost_error(reason: str) -> ArtifactError:
    return ArtifactError(
        f"the reference evaluator cannot run the file, because {reason}",
        "export it with a smaller batch, or run it on an Apple device with --runtime coreml",
    )


def _fixed_shape(program: MilProgram) -> tuple[int, ...]:
    return tuple(size for size in program.signature.input.shape if isinstance(size, int))


def _count_elements(operation: Operation, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Count the elements that an operation reads and writes.

    A depthwise convolution reads each element once for each position in the filter.
    """
    read = sum(prod(shapes[name]) for name in operation.inputs.values())
    taps = 1
    if operation.kind == "conv":
        taps = prod(_find_shape(operation, "weight", shapes)[2:])
    return read + taps * prod(operation.shape)


def _estimate_macs(operation: Operation, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the number of multiply-accumulates of a product, and 0 for other operations."""
    if operation.kind not in _PRODUCT_KINDS:
        return 0
    if operation.kind == "matmul":
        shape = _find_shape(operation, "y", shapes)
        depth = max(shape[-2:], default=0)  # The larger one, whether or not y is transposed.
    else:
        depth = prod(_find_shape(operation, "weight", shapes)[1:])
    return prod(operation.shape) * depth


def _find_shape(
    operation: Operation, parameter: str, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[int, ...]:
    """Return the shape of an operand; () if there is none, which the evaluation refuses."""
    if parameter in operation.inputs:
        return shapes[operation.inputs[parameter]]
    return np.shape(operation.constants.get(parameter, ()))


def _find_most_live_elements(program: MilProgram, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the largest number of elements that are in memory at the same time.

    Constants, and what is computed from constants only, stay in memory. A constant that several
    operations read may be converted for each of them, so it counts for each.
    """
    operations = program.operations
    live = sum(_count_constants(operation.constants) for operation in operations)
    live += prod(_fixed_shape(program))
    last_uses = {
        name: index
        for index, operation in enumerate(operations)
        for name in operation.inputs.values()
    }
    constant_names: set[str] = set()
    most = live
    for index, operation in enumerate(operations):
        live += prod(operation.shape)
        most = max(most, live)
        inputs = set(operation.inputs.values())
        if inputs <= constant_names:
            constant_names.add(operation.output)
            continue
        ended = (name for name in inputs - constant_names if last_uses[name] == index)
        live -= sum(prod(shapes[name]) for name in ended)
    return most


def _count_constants(constants: Mapping[str, Any]) -> int:
    return sum(int(np.size(value)) for value in constants.values())
