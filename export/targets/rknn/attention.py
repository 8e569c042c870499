"""Prepares attention for chips on which rknn-toolkit2 does not fuse it to one operator.

For these chips, the simulator has no zero point for the second operand of a product of two tensors,
and the numbers from a softmax have one. So they must be the first operand, which the toolkit
transposes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyvit.runtimes.rockchip.ranges import TRANSPOSED_SUFFIX

if TYPE_CHECKING:
    import onnx_ir as ir


def transpose_scores(model: ir.Model) -> None:
    """Compute the scores of attention with the keys as rows and the queries as columns.

    Requires: scores are the sum of a product and a bias.
    Changes: queries x keys becomes keys x queries, the biases are transposed, the softmax is over
        the rows, and its result is transposed before it is multiplied by the values.
    Why: the toolkit transposes the first operand of each product. Its Transpose and this one
        cancel out, so that nothing as large as the scores is transposed on the CPU.

    Args:
        model: The model to change in place.
    """
    for node in list(model.graph):
        if node.op_type == "Softmax":
            _transpose_scores(model, node)


def _transpose_scores(model: ir.Model, softmax: ir.Node) -> None:
    """Compute transposed scores for a softmax; leave one that does not belong to attention."""
    import onnx_ir as ir

    addition = _producer(softmax, 0, "Add")
    product = None if addition is None else _producer(addition, 0, "MatMul")
    if addition is None or product is None:
        return
    queries, keys, bias = product.inputs[0], product.inputs[1], addition.inputs[1]
    assert queries is not None
    assert keys is not None
    assert bias is not None
    rows, columns, added = (_make_transpose(value) for value in (keys, queries, bias))
    model.graph.insert_before(product, [rows, columns])
    model.graph.insert_before(addition, added)
    product.replace_input_with(0, rows.outputs[0])
    product.replace_input_with(1, columns.outputs[0])
    addition.replace_input_with(1, added.outputs[0])
    softmax.attributes.add(ir.AttrInt64("axis", -2))
    result = _make_transpose(softmax.outputs[0])
    softmax.outputs[0].replace_all_uses_with(result.outputs[0])
    # The uses that were replaced include that of the Transpose.
    result.replace_input_with(0, softmax.outputs[0])
    model.graph.insert_after(softmax, result)
    for node in (product, addition, softmax):
        node.outputs[0].shape = _swap_last_axes(node.outputs[0].shape)


def _producer(node: ir.Node, index: int, operator: str) -> ir.Node | None:
    """Return the node that computes an input, if it has an operator."""
    value = node.inputs[index]
    producer = None if value is None else value.producer()
    return producer if producer is not None and producer.op_type == operator else None


def _make_transpose(source: ir.Value) -> ir.Node:
    """Make a Transpose of the last two axes, whose name says which range its output has."""
    import onnx_ir as ir

    assert source.shape is not None
    name = f"{source.name}{TRANSPOSED_SUFFIX}"
    rank = len(source.shape)
    order = [*range(rank - 2), rank - 1, rank - 2]
    output = ir.Value(name=name, shape=_swap_last_axes(source.shape), type=source.type)
    return ir.Node(
        "",
        "Transpose",
        [source],
        attributes=[ir.AttrInt64s("perm", order)],
        outputs=[output],
        name=f"node_{name}",
    )


def _swap_last_axes(shape: ir.Shape | None) -> ir.Shape:
    """Return a shape whose last two axes are swapped."""
    import onnx_ir as ir

    assert shape is not None
    *others, rows, columns = shape
    return ir.Shape([*others, columns, rows])
