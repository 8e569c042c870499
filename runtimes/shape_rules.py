"""Computes the sizes of an operator's outputs, and how many multiplications it needs.

The rules follow https://onnx.ai/onnx/operators and, for ONNX Runtime's own operators,
docs/ContribOperators.md in https://github.com/microsoft/onnxruntime. They assume that the operator
is valid; the engine checks that. An operator without a rule here, or whose sizes depend on numbers
that are not known, has no known cost (`UnknownCostError`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any, TypeAlias

import numpy.typing as npt

from tinyvit.runtimes.formats.network_graph import MAX_RANK, Node

Shape: TypeAlias = "tuple[int, ...]"


class UnknownCostError(Exception):
    """The sizes of an operator's outputs are not known."""


@dataclass(frozen=True)
class Tensor:
    """What is known about a tensor.

    Attributes:
        shape: Its sizes.
        element_bytes: Size of one element, in bytes.
        values: Its values if it is small and they are known.
        is_constant: Whether it does not depend on the image.
        depends_on_pixels: Whether it depends on the image's pixels, not only on its size.
    """

    shape: Shape
    element_bytes: int
    values: npt.NDArray[Any] | None = None
    is_constant: bool = False
    depends_on_pixels: bool = False


Inputs: TypeAlias = "Sequence[Tensor | None]"
Result: TypeAlias = "tuple[list[Shape], int]"
"""Sizes of the outputs, and number of multiplications."""

Rule: TypeAlias = "Callable[[Node, Inputs], Result]"


def apply_rule(node: Node, inputs: Inputs) -> Result:
    """Compute the sizes of the outputs of an operator.

    Args:
        node: The operator.
        inputs: Its inputs; None for one that is left out.

    Returns:
        Sizes of the outputs, in their order, and the number of multiplications. The sizes of
        optional outputs that the rule does not list are at most those of the first.

    Raises:
        UnknownCostError: If the sizes are not known.
    """
    rule = RULES.get(node.operator)
    if rule is None:
        raise UnknownCostError(node.operator)
    try:
        shapes, operations = rule(node, inputs)
    except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError):
        # The operator contradicts itself, so the engine will refuse it.
        raise UnknownCostError(node.operator) from None
    if any(len(shape) > MAX_RANK for shape in shapes):
        raise UnknownCostError(node.operator)
    return shapes, operations


def _shape(inputs: Inputs, index: int) -> Shape:
    """Return the sizes of an input."""
    tensor = inputs[index] if index < len(inputs) else None
    if tensor is None:
        raise UnknownCostError("an input is missing")
    return tensor.shape


def _values(inputs: Inputs, index: int) -> list[Any] | None:
    """Return the values of an input as a list; None if the input is left out."""
    tensor = inputs[index] if index < len(inputs) else None
    if tensor is None or 0 in tensor.shape:
        return None
    if tensor.values is None:
        raise UnknownCostError("a size is not known")
    return list(tensor.values.ravel().tolist())


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    """Return the common shape of tensors that are combined element by element."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(0 if 0 in sizes else max(sizes) for sizes in zip(*padded))


def _keep_shape(node: Node, inputs: Inputs) -> Result:
    return [_shape(inputs, 0)], 0


def _combine_elements(node: Node, inputs: Inputs) -> Result:
    return [_broadcast([tensor.shape for tensor in inputs if tensor is not None])], 0


def _combine_quantized(node: Node, inputs: Inputs) -> Result:
    return [_broadcast([_shape(inputs, 0), _shape(inputs, 3)])], 0


def _quantize_dynamically(node: Node, inputs: Inputs) -> Result:
    return [_shape(inputs, 0), (), ()], 0


def _list_windows(
    node: Node, sizes: Shape, kernel: Sequence[int], offset_sizes: bool = False
) -> Shape:
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


def _convolve(node: Node, image: Shape, kernel: Shape) -> Result:
    windows = _list_windows(node, image[2:], kernel[2:])
    result = (image[0], kernel[0], *windows)
    return [result], prod(result) * prod(kernel[1:])


def _apply_conv(node: Node, inputs: Inputs) -> Result:
    if node.operator == "NhwcConv":
        image = _shape(inputs, 0)
        results, cost = _convolve(node, (image[0], image[-1], *image[1:-1]), _shape(inputs, 1))
        return [(results[0][0], *results[0][2:], results[0][1])], cost
    return _convolve(node, _shape(inputs, 0), _shape(inputs, 1))


def _apply_quantized_conv(node: Node, inputs: Inputs) -> Result:
    image, kernel = _shape(inputs, 0), _shape(inputs, 3)
    if node.attributes.get("channels_last"):
        results, cost = _convolve(node, (image[0], image[-1], *image[1:-1]), kernel)
        return [(results[0][0], *results[0][2:], results[0][1])], cost
    return _convolve(node, image, kernel)


def _pool(node: Node, inputs: Inputs) -> Result:
    image, kernel = _shape(inputs, 0), node.attributes["kernel_shape"]
    if node.operator == "NhwcMaxPool" or node.attributes.get("channels_last"):
        result = (image[0], *_list_windows(node, image[1:-1], kernel), image[-1])
    else:
        result = (*image[:2], *_list_windows(node, image[2:], kernel))
    return [result, result], prod(result) * prod(kernel)


def _pool_globally(node: Node, inputs: Inputs) -> Result:
    image = _shape(inputs, 0)
    if node.attributes.get("channels_last"):
        return [(image[0], *[1] * (len(image) - 2), image[-1])], 0
    return [(*image[:2], *[1] * (len(image) - 2))], 0


def _multiply_matrices(first: Shape, second: Shape) -> Result:
    """Return the sizes of a product of matrices, or of stacks of them."""
    left = (1, *first) if len(first) == 1 else first
    right = (*second, 1) if len(second) == 1 else second
    if left[-1] != right[-2]:
        raise UnknownCostError("the matrices do not fit")
    result = (*_broadcast([left[:-2], right[:-2]]), left[-2], right[-1])
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


def _apply_matmul(node: Node, inputs: Inputs) -> Result:
    left = _transpose_factor(node, _shape(inputs, 0), "A")
    return _multiply_matrices(left, _transpose_factor(node, _shape(inputs, 1), "B"))


def _apply_quantized_matmul(node: Node, inputs: Inputs) -> Result:
    left = _transpose_factor(node, _shape(inputs, 0), "A")
    return _multiply_matrices(left, _transpose_factor(node, _shape(inputs, 3), "B"))


def _apply_matmul_of_bits(node: Node, inputs: Inputs) -> Result:
    shape = _shape(inputs, 0)
    return [(*shape[:-1], node.attributes["N"])], prod(shape) * node.attributes["N"]


def _apply_einsum(node: Node, inputs: Inputs) -> Result:
    equation = node.attributes["equation"].decode("ascii").replace(" ", "")
    if not re.fullmatch(r"[a-zA-Z,]*(->[a-zA-Z]*)?", equation):
        raise UnknownCostError("Einsum")
    terms, arrow, result = equation.partition("->")
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms.split(","), inputs, strict=True):
        shape = tensor.shape if tensor is not None else ()
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    if not arrow:
        letters = terms.replace(",", "")
        result = "".join(sorted(letter for letter in letters if letters.count(letter) == 1))
    return [tuple(sizes[letter] for letter in result)], prod(sizes.values())


def _reshape(node: Node, inputs: Inputs) -> Result:
    shape = _shape(inputs, 0)
    target = _values(inputs, 1) if len(inputs) > 1 else node.attributes["shape"]
    target = target or []
    if not node.attributes.get("allowzero"):
        target = [shape[axis] if size == 0 else size for axis, size in enumerate(target)]
    known = prod(size for size in target if size != -1)
    result = tuple(prod(shape) // known if size == -1 else size for size in target)
    if prod(result) != prod(shape) or min(result, default=0) < 0:
        raise UnknownCostError("Reshape")
    return [result], 0


def _flatten(node: Node, inputs: Inputs) -> Result:
    shape = _shape(inputs, 0)
    axis = node.attributes.get("axis", 1)
    return [(prod(shape[:axis]), prod(shape[axis:]))], 0


def _list_axes(node: Node, inputs: Inputs, rank: int, index: int = 1) -> list[int] | None:
    """Return the axes from an attribute or from an input, none of them negative."""
    axes = node.attributes.get("axes")
    if axes is None:
        axes = _values(inputs, index)
    if axes is None:
        return None
    normalized = [axis + rank if axis < 0 else axis for axis in axes]
    if any(not 0 <= axis < rank for axis in normalized):
        raise UnknownCostError("an axis does not exist")
    return normalized


def _squeeze(node: Node, inputs: Inputs) -> Result:
    shape = _shape(inputs, 0)
    axes = _list_axes(node, inputs, len(shape))
    if axes is None:
        return [tuple(size for size in shape if size != 1)], 0
    return [tuple(size for axis, size in enumerate(shape) if axis not in axes)], 0


def _unsqueeze(node: Node, inputs: Inputs) -> Result:
    shape = list(_shape(inputs, 0))
    axes = node.attributes.get("axes") or _values(inputs, 1) or []
    for axis in sorted(_list_axes(node, inputs, len(shape) + len(axes)) or []):
        shape.insert(axis, 1)
    return [tuple(shape)], 0


def _transpose(node: Node, inputs: Inputs) -> Result:
    shape = _shape(inputs, 0)
    order = node.attributes.get("perm") or range(len(shape))[::-1]
    if sorted(order) != list(range(len(shape))):
        raise UnknownCostError("Transpose")
    return [tuple(shape[axis] for axis in order)], 0


def _concatenate(node: Node, inputs: Inputs) -> Result:
    tensors = inputs[2::3] if node.operator == "QLinearConcat" else inputs
    shapes = [tensor.shape for tensor in tensors if tensor is not None]
    axis = range(len(shapes[0]))[node.attributes["axis"]]
    total = sum(shape[axis] for shape in shapes)
    return [(*shapes[0][:axis], total, *shapes[0][axis + 1 :])], 0


def _split(node: Node, inputs: Inputs) -> Result:
    shape = _shape(inputs, 0)
    axis = range(len(shape))[node.attributes.get("axis", 0)]
    sizes = node.attributes.get("split") or _values(inputs, 1)
    if sizes is None:
        part = ceil(shape[axis] / len(node.outputs))
        sizes = [part] * (len(node.outputs) - 1)
        sizes.append(shape[axis] - sum(sizes))
    if sum(sizes) > shape[axis] or min(sizes) < 0:
        raise UnknownCostError("Split")
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes], 0


def _slice(node: Node, inputs: Inputs) -> Result:
    shape = list(_shape(inputs, 0))
    if len(inputs) > 1:
        starts, ends, axes, steps = (_values(inputs, index) for index in range(1, 5))
    else:
        names = ("starts", "ends", "axes", "steps")
        starts, ends, axes, steps = (node.attributes.get(name) for name in names)
    starts, ends = starts or [], ends or []
    axes = axes or list(range(len(starts)))
    steps = steps or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        shape[axis] = len(range(shape[axis])[slice(start, end, step)])
    return [tuple(shape)], 0


def _gather(node: Node, inputs: Inputs) -> Result:
    shape, indices = _shape(inputs, 0), _shape(inputs, 1)
    axis = range(len(shape))[node.attributes.get("axis", 0)]
    return [(*shape[:axis], *indices, *shape[axis + 1 :])], 0


def _gather_elements(node: Node, inputs: Inputs) -> Result:
    return [_shape(inputs, 1)], 0


def _gather_nd(node: Node, inputs: Inputs) -> Result:
    shape, indices = _shape(inputs, 0), _shape(inputs, 1)
    start = node.attributes.get("batch_dims", 0) + indices[-1]
    return [(*indices[:-1], *shape[start:])], 0


def _reduce(node: Node, inputs: Inputs) -> Result:
    shape = _shape(inputs, 0)
    axes = _list_axes(node, inputs, len(shape))
    if not axes:
        if node.attributes.get("noop_with_empty_axes"):
            return [shape], 0
        axes = list(range(len(shape)))
    return [_remove_axes(shape, axes, node)], prod(shape)


def _reduce_axis(node: Node, inputs: Inputs) -> Result:
    shape = _shape(inputs, 0)
    return [_remove_axes(shape, [range(len(shape))[node.attributes.get("axis", 0)]], node)], 0


def _remove_axes(shape: Shape, axes: list[int], node: Node) -> Shape:
    """Return the sizes after a reduction, with 1 for each reduced axis unless keepdims is 0."""
    if node.attributes.get("keepdims", 1):
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _pad(node: Node, inputs: Inputs) -> Result:
    shape = list(_shape(inputs, 0))
    pads = node.attributes.get("pads") or node.attributes.get("paddings") or _values(inputs, 1)
    axes = _list_axes(node, inputs, len(shape), index=3) or list(range(len(shape)))
    if pads is None or len(pads) != 2 * len(axes):
        raise UnknownCostError("Pad")
    for position, axis in enumerate(axes):
        shape[axis] = max(shape[axis] + pads[position] + pads[position + len(axes)], 0)
    return [tuple(shape)], 0


def _resize(node: Node, inputs: Inputs) -> Result:
    shape = list(_shape(inputs, 0))
    if node.attributes.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        raise UnknownCostError("Resize")
    scales_index = 1 if len(inputs) == 2 else 2
    sizes, scales = _values(inputs, 3), _values(inputs, scales_index)
    axes = node.attributes.get("axes") or list(range(len(shape)))
    if sizes is None:
        sizes = [int(shape[axis] * scale) for axis, scale in zip(axes, scales or [], strict=True)]
    enlargement = 1.0
    for axis, size in zip(axes, sizes, strict=True):
        enlargement *= max(shape[axis] / max(size, 1), 1.0)
        shape[axis] = max(size, 0)
    # A cubic filter reads 16 pixels for each pixel; with antialiasing, all that it covers.
    return [tuple(shape)], int(prod(shape) * 16 * enlargement)


def _move_blocks(node: Node, inputs: Inputs) -> Result:
    batch, channels, height, width = _shape(inputs, 0)
    block = node.attributes["blocksize"]
    if node.operator == "SpaceToDepth":
        return [(batch, channels * block**2, height // block, width // block)], 0
    return [(batch, channels // block**2, height * block, width * block)], 0


def _apply_shape(node: Node, inputs: Inputs) -> Result:
    sizes = _shape(inputs, 0)[node.attributes.get("start", 0) : node.attributes.get("end")]
    return [(len(sizes),)], 0


def _apply_size(node: Node, inputs: Inputs) -> Result:
    return [()], 0


_SAME_SHAPE = """
Abs BatchNormalization Cast Ceil Celu Clip DequantizeLinear Dropout Elu Erf Exp FastGelu Floor Gelu
GroupNorm GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LRN
LayerNormalization LeakyRelu Log LogSoftmax Mish Neg Not QLinearLeakyRelu QLinearSigmoid
QLinearSoftmax QuantizeLinear QuickGelu RMSNormalization Reciprocal Relu Round Selu Sigmoid Sign
SkipLayerNormalization Softmax Softplus Softsign Sqrt Tanh ThresholdedRelu
"""
_COMBINED = """
Add And BiasGelu BiasSoftmax Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul
Or PRelu Pow Sub Sum Where
"""
COMBINED_OPERATORS = frozenset(_COMBINED.split())
"""Operators that combine tensors element by element."""

_REDUCED = "ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum"

RULES: dict[str, Rule] = {
    **dict.fromkeys(_SAME_SHAPE.split(), _keep_shape),
    **dict.fromkeys(COMBINED_OPERATORS, _combine_elements),
    **dict.fromkeys(_REDUCED.split(), _reduce),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), _combine_quantized),
    **dict.fromkeys(("Conv", "ConvInteger", "FusedConv", "NhwcConv"), _apply_conv),
    "QLinearConv": _apply_quantized_conv,
    **dict.fromkeys(
        ("AveragePool", "LpPool", "MaxPool", "NhwcMaxPool", "QLinearAveragePool"), _pool
    ),
    **dict.fromkeys(
        ("GlobalAveragePool", "GlobalMaxPool", "QLinearGlobalAveragePool"), _pool_globally
    ),
    **dict.fromkeys(
        ("FusedGemm", "FusedMatMul", "Gemm", "MatMul", "MatMulInteger", "MatMulIntegerToFloat"),
        _apply_matmul,
    ),
    "DynamicQuantizeMatMul": _apply_matmul,
    **dict.fromkeys(("QGemm", "QLinearMatMul"), _apply_quantized_matmul),
    "MatMulNBits": _apply_matmul_of_bits,
    "Einsum": _apply_einsum,
    "DynamicQuantizeLinear": _quantize_dynamically,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    **dict.fromkeys(("Concat", "QLinearConcat"), _concatenate),
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    **dict.fromkeys(("ArgMax", "ArgMin"), _reduce_axis),
    "Pad": _pad,
    "Resize": _resize,
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _move_blocks),
    "Shape": _apply_shape,
    "Size": _apply_size,
}
"""Maps an operator to the rule for the sizes of its outputs."""
