"""Types and limits for reading and evaluating Core ML programs.

A Core ML package contains an ML Program in MIL (model intermediate language): a list of operations
on tensors, in execution order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from tinyvit.errors import ArtifactError
from tinyvit.manifest_parts import TensorSpec

Array = npt.NDArray[Any]

Operands = Mapping[str, Any]
"""Parameter name -> operand of one operation: an array or a string."""

MAX_TENSOR_ELEMENTS = 2**26
"""Largest allowed number of elements in one tensor. In TinyViT-21M at 512 pixels, it is 2**23."""

MAX_PROGRAM_ELEMENTS = 2**31
"""Largest allowed number of elements in all tensors of a program together, and in all operands of
its operations together: a tensor counts each time that an operation reads it.

TinyViT-21M at 512 pixels has fewer than 2**28."""

MAX_LIVE_ELEMENTS = 2**28
"""Largest allowed number of elements in all tensors and constants that exist at the same time.
In float32, they take 1 GiB."""

MAX_PROGRAM_MACS = 2**38
"""Largest allowed number of multiply-accumulates in all operations together.

All operations of TinyViT-21M at 512 pixels together have 2**35."""


@dataclass(frozen=True)
class Operation:
    """One operation of a program.

    Attributes:
        kind: MIL's name of the operation, such as "conv".
        inputs: Parameter -> name of the value, for each parameter that is the program's input or
            the output of an earlier operation.
        constants: Parameter -> value (an array or a string), for each constant parameter.
        output: Name of the one value that the operation computes.
        shape: Shape of the output, as the program declares it.
        dtype: numpy's name of the output's dtype, as the program declares it.
    """

    kind: str
    inputs: dict[str, str]
    constants: dict[str, Any]
    output: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class ModelSignature:
    """The input and the outputs of a model; Core ML calls all of them features.

    Attributes:
        input: The input; uint8 (1, height, width, 3) for an image.
        outputs: The outputs that are float32 arrays with a batch, such as the logits of a
            classifier, but not its labels.
        is_image: Whether Core ML takes the input as an image instead of an array.
    """

    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    is_image: bool


@dataclass(frozen=True)
class MilProgram:
    """The part of an ML Program that computes the outputs.

    Attributes:
        signature: The input and the outputs of the program.
        operations: The operations that the outputs depend on, in execution order.
    """

    signature: ModelSignature
    operations: tuple[Operation, ...]


def unsupported_error(feature: str) -> ArtifactError:
    """Return the error for a part of a program that the reference evaluator does not support.

    Args:
        feature: The unsupported part, such as "the operation lstm".

    Returns:
        The error to raise.
    """
    return ArtifactError(
        f"the reference evaluator does not support {feature}",
        "run the file on an Apple device with --runtime coreml",
    )
