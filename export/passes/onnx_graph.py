"""Tuning the exported ONNX graph: constants computed once, nothing said twice, attention biases kept small.

The big wins are in how the module is written (nn/model.py); docs/performance.md has the figures of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


def tune(model: ir.Model) -> None:
    """Tune in place. The function computed stays the same, operation by operation."""
    import onnx_ir.passes.common as passes
    from onnxscript import optimizer

    _index_with_int32(model)
    # A Gather of the bias table is constant too, but folded here it would be stored expanded: 315 MB at 512 pixels.
    optimizer.fold_constants(
        model, should_fold=lambda node: False if node.op_type == "Gather" else None
    )
    for tidy in (
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.IdentityEliminationPass(),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),  # after it: what is computed from equal constants is equal
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.TopologicalSortPass(),
    ):
        tidy(model)
    _strip(model)


def _index_with_int32(model: ir.Model) -> None:
    """torch's converter casts the index of a Gather to int64; ONNX takes int32 as well, in half the space."""
    for node in model.graph:
        if node.op_type == "Gather":
            value = node.inputs[1]
            producer = value.producer() if value is not None else None
            while producer is not None and producer.op_type in (
                "Cast",
                "Reshape",
            ):  # the index is flat already
                value = producer.inputs[0]
                producer = value.producer() if value is not None else None
            node.replace_input_with(1, value)


def _strip(model: ir.Model) -> None:
    """Drop what the converter notes of its own run: stack traces hold paths of the machine that exported."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
    model.graph.name, model.graph.doc_string, model.doc_string = "tinyvit", None, None
    model.producer_name, model.producer_version = "tinyvit-edge", None
    model.functions.clear()
