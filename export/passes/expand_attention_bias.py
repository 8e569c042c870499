"""A pass that stores attention biases expanded, for engines that would expand them for every image.

An ONNX file stores the biases as one row per head, which a Gather expands to one matrix per head
(docs/explanation/decisions.md, "Attention biases stay small in the file"). When onnxruntime opens
an ONNX file, it optimizes the network and computes this Gather once. When it opens a file in its
own format, ORT, it optimizes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinyvit.export.passes.onnx_constants import add_constant

if TYPE_CHECKING:
    import onnx_ir as ir


def expand_attention_bias(model: ir.Model) -> None:
    """Replace every Gather of constants by its result.

    Requires: the only Gathers of constants are those of attention biases.
    Changes: each becomes an initializer; in a quantized model it is stored in float16 and followed
        by a Cast to float32.
    Why: the gathers would take 9 of 35 ms per image (docs/lab-notes/engines.md, "ORT"). With biases
    in float16, the file of the int8 demo has 8.0 MB instead of 10.4.

    Args:
        model: The model to change in place.
    """
    import onnx_ir.passes.common as passes

    is_quantized = any(node.op_type == "QuantizeLinear" for node in model.graph)
    for node in [node for node in model.graph if node.op_type == "Gather"]:
        _replace_gather(model, node, is_quantized)
    passes.RemoveUnusedNodesPass()(model)
    passes.NameFixPass()(model)


def _replace_gather(model: ir.Model, node: ir.Node, as_float16: bool) -> None:
    """Replace one Gather, unless its table or its index depends on the network's input."""
    import onnx_ir as ir

    constants = [None if value is None else value.const_value for value in node.inputs]
    if None in constants:
        return
    table, index = (tensor.numpy() for tensor in constants if tensor is not None)
    expanded = np.take(table, index, node.attributes.get_int("axis", 0))
    if as_float16:
        expanded = expanded.astype(np.float16)
    value = add_constant(model, f"{node.outputs[0].name}_spread", expanded)
    if as_float16:
        cast = ir.node(
            "Cast", [value], attributes={"to": ir.DataType.FLOAT}, name=f"{node.name}_wide"
        )
        model.graph.insert_before(node, cast)
        value = cast.outputs[0]
    node.outputs[0].replace_all_uses_with(value)
    model.graph.remove(node, safe=True)
