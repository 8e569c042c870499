"""Attention biases written out, for a file whose engine would gather them anew for every picture.

They are stored one row a head and spread by an index (docs/decisions.md); onnxruntime does that once, when it optimizes an ONNX file, but
does not optimize one of its own format when it opens it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


def biases(model: ir.Model) -> None:
    """Replace every Gather of constants by its result, in place: in float32, or beside 8-bit layers in float16, with a Cast."""
    import numpy as np
    import onnx_ir as ir
    import onnx_ir.passes.common as passes

    quantized = any(node.op_type == "QuantizeLinear" for node in model.graph)
    for node in [node for node in model.graph if node.op_type == "Gather"]:
        constants = [None if value is None else value.const_value for value in node.inputs]
        if None in constants:
            continue
        table, index = (tensor.numpy() for tensor in constants if tensor is not None)
        made = np.take(table, index, node.attributes.get_int("axis", 0))
        name = f"{node.outputs[0].name}_spread"
        value = ir.Value(
            name=name,
            const_value=ir.tensor(made.astype(np.float16) if quantized else made, name=name),
        )
        model.graph.register_initializer(value)
        if quantized:
            cast = ir.node(
                "Cast", [value], attributes={"to": ir.DataType.FLOAT}, name=f"{node.name}_wide"
            )
            model.graph.insert_before(node, cast)
            value = cast.outputs[0]
        node.outputs[0].replace_all_uses_with(value)
        model.graph.remove(node, safe=True)
    passes.RemoveUnusedNodesPass()(model)
    passes.NameFixPass()(model)
