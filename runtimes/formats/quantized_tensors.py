"""Finds which tensors of a network are quantized, if operators quantize them.

In some formats (ONNX, OpenVINO IR, Core ML) tensors between the layers of an int8 network are
declared as floats, and separate operators round them to the values that integers can have. A
compiler for an NPU computes a layer in integers if its input and its output are rounded in this
way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto


class TensorRole(Enum):
    """What an operator does to the tensors that it reads and writes.

    Attributes:
        ROUNDS: Its first input and its output have values that integers can have.
        QUANTIZES: Its first input is such a tensor; the output contains the integers.
        DEQUANTIZES: Its output is such a tensor; the input contains the integers.
        PASSES: It moves or selects values, or adds a bias to a product, which compilers make a part
            of the product. Its output is such a tensor if its inputs are, and the reverse.
        COMPUTES: It computes new values.
    """

    ROUNDS = auto()
    QUANTIZES = auto()
    DEQUANTIZES = auto()
    PASSES = auto()
    COMPUTES = auto()


@dataclass(frozen=True)
class TensorUse:
    """The tensors of one operator.

    Attributes:
        role: What the operator does to them.
        inputs: Its inputs that the network computes, without constants.
        outputs: Its outputs.
    """

    role: TensorRole
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


_READS = frozenset((TensorRole.ROUNDS, TensorRole.QUANTIZES))
_WRITES = frozenset((TensorRole.ROUNDS, TensorRole.DEQUANTIZES))


def find_quantized_tensors(uses: Sequence[TensorUse]) -> set[str]:
    """Find the tensors whose values integers can have.

    Args:
        uses: The operators, in the order in which they are computed. With another order, fewer
            tensors may be found.

    Returns:
        Names of the tensors; empty for a network that is not quantized.
    """
    quantized: set[str] = set()
    for use in uses:
        if use.role in _READS:
            quantized.update(use.inputs[:1])
        if use.role in _WRITES or (
            use.role is TensorRole.PASSES and use.inputs and quantized.issuperset(use.inputs)
        ):
            quantized.update(use.outputs)
    for use in reversed(uses):
        if use.role is TensorRole.PASSES and use.outputs and quantized.issuperset(use.outputs):
            quantized.update(use.inputs)
    return quantized


def computes_in_floats(use: TensorUse, quantized: set[str]) -> bool:
    """Return whether the first input or an output of an operator is not quantized.

    Args:
        use: The tensors of the operator.
        quantized: The result of `find_quantized_tensors`.
    """
    if use.role not in (TensorRole.PASSES, TensorRole.COMPUTES):
        return False
    return not quantized.issuperset((*use.inputs[:1], *use.outputs))
