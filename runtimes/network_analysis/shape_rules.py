"""Computes the sizes of an operator's outputs, and how many multiplications it needs.

The rules follow https://onnx.ai/onnx/operators and, for ONNX Runtime's own operators,
docs/ContribOperators.md in https://github.com/microsoft/onnxruntime. They assume that the operator
is valid; the engine checks that. An operator without a rule here, or whose sizes depend on numbers
that are not known, has no known cost (`UnknownCostError`).
"""

from __future__ import annotations

from math import ceil, prod

from tinyvit.runtimes.formats.network_graph import MAX_RANK, Node
from tinyvit.runtimes.network_analysis import product_rules as products
from tinyvit.runtimes.network_analysis.tensor_facts import (
    Inputs,
    Result,
    Rule,
    Shape,
    UnknownCostError,
    broadcast,
    get_shape,
    get_values,
)


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


def _keep_shape(node: Node, inputs: Inputs) -> Result:
    return [get_shape(inputs, 0)], 0


def _combine_elements(node: Node, inputs: Inputs) -> Result:
    return [broadcast([tensor.shape for tensor in inputs if tensor is not None])], 0


def _combine_quantized(node: Node, inputs: Inputs) -> Result:
    return [broadcast([get_shape(inputs, 0), get_shape(inputs, 3)])], 0


def _quantize_dynamically(node: Node, inputs: Inputs) -> Result:
    return [get_shape(inputs, 0), (), ()], 0


def _reshape(node: Node, inputs: Inputs) -> Result:
    shape = get_shape(inputs, 0)
    target = get_values(inputs, 1) if len(inputs) > 1 else node.attributes["shape"]
    target = target or []
    if not node.attributes.get("allowzero"):
        target = [shape[axis] if size == 0 else size for axis, size in enumerate(target)]
    known = prod(size for size in target if size != -1)
    result = tuple(prod(shape) // known if size == -1 else size for size in target)
    if prod(result) != prod(shape) or min(result, default=0) < 0:
        raise UnknownCostError("Reshape")
    return [result], 0


def _flatten(node: Node, inputs: Inputs) -> Result:
    shape = get_shape(inputs, 0)
    axis = node.attributes.get("axis", 1)
    return [(prod(shape[:axis]), prod(shape[axis:]))], 0


def _list_axes(node: Node, inputs: Inputs, rank: int, index: int = 1) -> list[int] | None:
    """Return the axes from an attribute or from an input, none of them negative."""
    axes = node.attributes.get("axes")
    if axes is None:
        axes = get_values(inputs, index)
    if axes is None:
        return None
    normalized = [axis + rank if axis < 0 else axis for axis in axes]
    if any(not 0 <= axis < rank for axis in normalized):
        raise UnknownCostError("an axis does not exist")
    return normalized


def _squeeze(node: Node, inputs: Inputs) -> Result:
    shape = get_shape(inputs, 0)
    axes = _list_axes(node, inputs, len(shape))
    if axes is None:
        return [tuple(size for size in shape if size != 1)], 0
    return [tuple(size for axis, size in enumerate(shape) if axis not in axes)], 0


def _unsqueeze(node: Node, inputs: Inputs) -> Result:
    shape = list(get_shape(inputs, 0))
    axes = node.attributes.get("axes") or get_values(inputs, 1) or []
    for axis in sorted(_list_axes(node, inputs, len(shape) + len(axes)) or []):
        shape.insert(axis, 1)
    return [tuple(shape)], 0


def _transpose(node: Node, inputs: Inputs) -> Result:
    shape = get_shape(inputs, 0)
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
    shape = get_shape(inputs, 0)
    axis = range(len(shape))[node.attributes.get("axis", 0)]
    sizes = node.attributes.get("split") or get_values(inputs, 1)
    if sizes is None:
        part = ceil(shape[axis] / len(node.outputs))
        sizes = [part] * (len(node.outputs) - 1)
        sizes.append(shape[axis] - sum(sizes))
    if sum(sizes) > shape[axis] or min(sizes) < 0:
        raise UnknownCostError("Split")
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes], 0


def _slice(node: Node, inputs: Inputs) -> Result:
    shape = list(get_shape(inputs, 0))
    if len(inputs) > 1:
        starts, ends, axes, steps = (get_values(inputs, index) for index in range(1, 5))
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
    shape, indices = get_shape(inputs, 0), get_shape(inputs, 1)
    axis = range(len(shape))[node.attributes.get("axis", 0)]
    return [(*shape[:axis], *indices, *shape[axis + 1 :])], 0


def _gather_elements(node: Node, inputs: Inputs) -> Result:
    return [get_shape(inputs, 1)], 0


def _gather_nd(node: Node, inputs: Inputs) -> Result:
    shape, indices = get_shape(inputs, 0), get_shape(inputs, 1)
    start = node.attributes.get("batch_dims", 0) + indices[-1]
    return [(*indices[:-1], *shape[start:])], 0


def _reduce(node: Node, inputs: Inputs) -> Result:
    shape = get_shape(inputs, 0)
    axes = _list_axes(node, inputs, len(shape))
    if not axes:
        if node.attributes.get("noop_with_empty_axes"):
            return [shape], 0
        axes = list(range(len(shape)))
    return [_remove_axes(shape, axes, node)], prod(shape)


def _reduce_axis(node: Node, inputs: Inputs) -> Result:
    shape = get_shape(inputs, 0)
    return [_remove_axes(shape, [range(len(shape))[node.attributes.get("axis", 0)]], node)], 0


def _remove_axes(shape: Shape, axes: list[int], node: Node) -> Shape:
    """Return the sizes after a reduction, with 1 for each reduced axis unless keepdims is 0."""
    if node.attributes.get("keepdims", 1):
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _pad(node: Node, inputs: Inputs) -> Result:
    shape = list(get_shape(inputs, 0))
    pads = node.attributes.get("pads") or node.attributes.get("paddings") or get_values(inputs, 1)
    axes = _list_axes(node, inputs, len(shape), index=3) or list(range(len(shape)))
    if pads is None or len(pads) != 2 * len(axes):
        raise UnknownCostError("Pad")
    for position, axis in enumerate(axes):
        shape[axis] = max(shape[axis] + pads[position] + pads[position + len(axes)], 0)
    return [tuple(shape)], 0


def _resize(node: Node, inputs: Inputs) -> Result:
    shape = list(get_shape(inputs, 0))
    if node.attributes.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        raise UnknownCostError("Resize")
    scales_index = 1 if len(inputs) == 2 else 2
    sizes, scales = get_values(inputs, 3), get_values(inputs, scales_index)
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
    batch, channels, height, width = get_shape(inputs, 0)
    block = node.attributes["blocksize"]
    if node.operator == "SpaceToDepth":
        return [(batch, channels * block**2, height // block, width // block)], 0
    return [(batch, channels // block**2, height * block, width * block)], 0


def _apply_shape(node: Node, inputs: Inputs) -> Result:
    sizes = get_shape(inputs, 0)[node.attributes.get("start", 0) : node.attributes.get("end")]
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

_PRODUCTS = """
DynamicQuantizeMatMul FusedGemm FusedMatMul Gemm MatMul MatMulInteger MatMulIntegerToFloat
"""

RULES: dict[str, Rule] = {
    **dict.fromkeys(_SAME_SHAPE.split(), _keep_shape),
    **dict.fromkeys(COMBINED_OPERATORS, _combine_elements),
    **dict.fromkeys(_REDUCED.split(), _reduce),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), _combine_quantized),
    **dict.fromkeys(("Conv", "ConvInteger", "FusedConv", "NhwcConv"), products.apply_conv),
    "QLinearConv": products.apply_quantized_conv,
    **dict.fromkeys(
        ("AveragePool", "LpPool", "MaxPool", "NhwcMaxPool", "QLinearAveragePool"),
        products.pool,
    ),
    **dict.fromkeys(
        ("GlobalAveragePool", "GlobalMaxPool", "QLinearGlobalAveragePool"),
        products.pool_globally,
    ),
    **dict.fromkeys(_PRODUCTS.split(), products.apply_matmul),
    **dict.fromkeys(("QGemm", "QLinearMatMul"), products.apply_quantized_matmul),
    "MatMulNBits": products.apply_matmul_of_bits,
    "Einsum": products.apply_einsum,
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
