"""Rules for the sizes of convolutions, pools and products of matrices; see `shape_rules`."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from string import ascii_letters

from tinyvit.runtimes.formats.network_graph import Node
from tinyvit.runtimes.network_analysis.tensor_facts import (
    Inputs,
    Result,
    Shape,
    UnknownCostError,
    broadcast,
    get_shape,
)


def _list_windows(node: Node, sizes: Shape, kernel: Sequence[int]) -> Shape:
    """Return the height and width (or other sizes) of the result of a convolution or a pool."""
    rank = len(kernel)
    strides = node.attributes.get("strides") or [1] * rank
    dilations = node.attributes.get("dilations") or [1] * rank
    pads = node.attributes.get("pads") or [0] * (2 * rank)
    if node.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return tuple(ceil(size / stride) for size, stride in zip(sizes, strides, strict=True))
    round_up = bool(node.attributes.get("ceil_mode", 0))
    results = []
    for axis, size in enumerate(sizes):
        room = size + pads[axis] + pads[axis + rank] - dilations[axis] * (kernel[axis] - 1) - 1
        if strides[axis] < 1 or dilations[axis] < 1:
            raise UnknownCostError("a stride is not positive")
        windows = -(-room // strides[axis]) if round_up else room // strides[axis]
        results.append(max(windows + 1, 0))
    return tuple(results)


def _convolve(node: Node, image: Shape, kernel: Shape, channels_last: bool) -> Result:
    """Return the sizes of the result of a convolution, and the number of its multiplications.

    The result has its channels where the image has them; kernels always have theirs first.
    """
    windows = _list_windows(node, image[1:-1] if channels_last else image[2:], kernel[2:])
    sizes = (*windows, kernel[0]) if channels_last else (kernel[0], *windows)
    result = (image[0], *sizes)
    return [result], prod(result) * prod(kernel[1:])


def apply_conv(node: Node, inputs: Inputs) -> Result:
    """Apply the rule for Conv, ConvInteger, FusedConv and NhwcConv."""
    image, kernel = get_shape(inputs, 0), get_shape(inputs, 1)
    return _convolve(node, image, kernel, channels_last=node.operator == "NhwcConv")


def apply_quantized_conv(node: Node, inputs: Inputs) -> Result:
    """Apply the rule for QLinearConv."""
    image, kernel = get_shape(inputs, 0), get_shape(inputs, 3)
    return _convolve(node, image, kernel, bool(node.attributes.get("channels_last")))


def pool(node: Node, inputs: Inputs) -> Result:
    """Apply the rule for AveragePool, LpPool, MaxPool and their variants."""
    image, kernel = get_shape(inputs, 0), node.attributes["kernel_shape"]
    if node.operator == "NhwcMaxPool" or node.attributes.get("channels_last"):
        result = (image[0], *_list_windows(node, image[1:-1], kernel), image[-1])
    else:
        result = (*image[:2], *_list_windows(node, image[2:], kernel))
    return [result, result], prod(result) * prod(kernel)


def pool_globally(node: Node, inputs: Inputs) -> Result:
    """Apply the rule for GlobalAveragePool, GlobalMaxPool and QLinearGlobalAveragePool."""
    image = get_shape(inputs, 0)
    if node.attributes.get("channels_last"):
        return [(image[0], *[1] * (len(image) - 2), image[-1])], 0
    return [(*image[:2], *[1] * (len(image) - 2))], 0


def _multiply_matrices(first: Shape, second: Shape) -> Result:
    """Return the sizes of a product of matrices, or of stacks of them."""
    left = (1, *first) if len(first) == 1 else first
    right = (*second, 1) if len(second) == 1 else second
    if left[-1] != right[-2]:
        raise UnknownCostError("the matrices do not fit")
    result = (*broadcast([left[:-2], right[:-2]]), left[-2], right[-1])
    cost = prod(result) * left[-1]
    if len(first) == 1:
        result = (*result[:-2], result[-1])
    if len(second) == 1:
        result = result[:-1]
    return [result], cost


def _transpose_factor(node: Node, shape: Shape, side: str) -> Shape:
    """Apply the attributes that transpose a factor, which is "A" or "B"."""
    if node.attributes.get(f"transBatch{side}"):
        shape = (*shape[1:-1], shape[0], shape[-1])
    if node.attributes.get(f"trans{side}"):
        shape = (*shape[:-2], shape[-1], shape[-2])
    return shape


def apply_matmul(node: Node, inputs: Inputs) -> Result:
    """Apply the rule for MatMul, Gemm and their variants."""
    left = _transpose_factor(node, get_shape(inputs, 0), "A")
    return _multiply_matrices(left, _transpose_factor(node, get_shape(inputs, 1), "B"))


def apply_quantized_matmul(node: Node, inputs: Inputs) -> Result:
    """Apply the rule for QLinearMatMul and QGemm."""
    left = _transpose_factor(node, get_shape(inputs, 0), "A")
    return _multiply_matrices(left, _transpose_factor(node, get_shape(inputs, 3), "B"))


def apply_matmul_of_bits(node: Node, inputs: Inputs) -> Result:
    """Apply the rule for MatMulNBits."""
    shape = get_shape(inputs, 0)
    return [(*shape[:-1], node.attributes["N"])], prod(shape) * node.attributes["N"]


def apply_einsum(node: Node, inputs: Inputs) -> Result:
    """Apply the rule for Einsum."""
    equation = node.attributes["equation"].decode("ascii").replace(" ", "")
    terms, arrow, result = equation.partition("->")
    if not set(terms) <= {*ascii_letters, ","} or not set(result) <= set(ascii_letters):
        raise UnknownCostError("Einsum")
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms.split(","), inputs, strict=True):
        shape = tensor.shape if tensor is not None else ()
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    if not arrow:
        letters = terms.replace(",", "")
        result = "".join(sorted(letter for letter in letters if letters.count(letter) == 1))
    return [tuple(sizes[letter] for letter in result)], prod(sizes.values())
