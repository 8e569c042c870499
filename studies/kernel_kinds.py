"""Divides the nodes that an engine executed into kinds of work, such as products and copies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from tinyvit.bench.profilers import ExecutedNode

PRODUCTS: Final = "products"
"""Matrix products and convolutions, with everything that the engine fused into them."""
ELEMENTWISE: Final = "elementwise"
"""GELU, softmax, LayerNorm, sums, means, and everything that is of no other kind."""
QUANTIZATION: Final = "quantization"
"""Quantizing, dequantizing and other conversions of the data type."""
MOVEMENT: Final = "movement"
"""Transposing, reshaping, copying, padding, slicing, joining and reordering of values."""
KINDS: Final = (PRODUCTS, ELEMENTWISE, QUANTIZATION, MOVEMENT)
"""The kinds of work, in the order of the table's columns."""

# The names are those of ONNX operators and of onnxruntime's own, of OpenVINO's executed layers, of
# XNNPACK's kernels ("Static Reshape (NC)"), and of TensorFlow Lite's operators ("RESHAPE").
_QUANTIZATION = re.compile("(Dynamic|Fake|De)?Quantize|Convert|Cast", re.IGNORECASE)
_MOVEMENT = re.compile(
    "(Static |Strided_?|Constant |Even |Unpacked )?"
    "(Transpose|Reshape|Reorder|Split|Slice|Pad|Concat|Gather|Copy|Squeeze|Unsqueeze|Flatten"
    "|Expand|Tile|Broadcast|Identity|Memcpy|Memory|ScatterND|ShuffleChannels|SpaceToDepth"
    "|DepthToSpace|Shape|Roll|Window)",
    re.IGNORECASE,
)
_VIEW = re.compile("(Static )?(Reshape|Squeeze|Unsqueeze|Flatten|Identity)", re.IGNORECASE)
"""Kernels that usually only describe the same memory with another shape."""


def find_kind(node: ExecutedNode) -> str:
    """Return the kind of work of a node, one of `KINDS`.

    Args:
        node: The node. If it performs multiply-accumulates, it is a product, whatever its name.
    """
    if node.macs:
        return PRODUCTS
    if _QUANTIZATION.match(node.kernel_name):
        return QUANTIZATION
    return MOVEMENT if _MOVEMENT.match(node.kernel_name) else ELEMENTWISE


def add_times(nodes: Iterable[ExecutedNode]) -> dict[str, float]:
    """Add up the times of each kind of work.

    Args:
        nodes: The nodes.

    Returns:
        Milliseconds of one run by kind, with all of `KINDS`.
    """
    times_ms = dict.fromkeys(KINDS, 0.0)
    for node in nodes:
        times_ms[find_kind(node)] += node.time_ms
    return times_ms


def count_output_bytes(nodes: Iterable[ExecutedNode]) -> int | None:
    """Return the size of everything that the nodes write; None if the engine does not state it.

    Args:
        nodes: The nodes. Nodes that only change the shape write nothing.
    """
    sizes = [node.output_bytes for node in nodes if not _VIEW.match(node.kernel_name)]
    return None if None in sizes else sum(size or 0 for size in sizes)
