"""Passes that make the exported ONNX graph small and free of redundancy.

Each pass changes the model in place without changing the function that the model computes. How the
torch module is written (`nn/model.py`) makes the graph faster by more than these passes do;
docs/lab-notes/performance.md has the measurements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


def optimize_graph(model: ir.Model) -> None:
    """Run every pass of this module in the required order.

    Args:
        model: A model as torch's ONNX exporter writes it, without optimization; changed in place.
    """
    shorten_gather_indices(model)
    fold_constants(model)
    remove_redundancy(model)
    remove_export_metadata(model)


def shorten_gather_indices(model: ir.Model) -> None:
    """Make every Gather read its int32 index directly.

    Requires: the index of each Gather has one axis, so that a Reshape of it changes nothing.
    Changes: each Gather reads the int32 index and skips the Cast to int64 (and the Reshape); a
        later pass removes those nodes.
    Why: torch's exporter always casts indices to int64, but ONNX accepts int32 too, which takes
        half the space (docs/lab-notes/performance.md, "Attention biases").

    Args:
        model: The model to change in place.
    """
    for node in model.graph:
        if node.op_type != "Gather":
            continue
        index = node.inputs[1]
        producer = index.producer() if index is not None else None
        while producer is not None and producer.op_type in ("Cast", "Reshape"):
            index = producer.inputs[0]
            producer = index.producer() if index is not None else None
        node.replace_input_with(1, index)


def fold_constants(model: ir.Model) -> None:
    """Replace nodes that depend only on constants by their results, except Gather.

    Requires: nothing.
    Changes: foldable nodes become constants.
    Why: engines would fold them each time they open the file. The Gather that expands a table of
        attention biases stays: if it were folded, the file would contain expanded biases, 4.9 MB
        more for a 5M and 315 MB more for a 21M at 512 pixels (docs/explanation/decisions.md,
        "Attention biases stay small in the file").

    Args:
        model: The model to change in place.
    """
    from onnxscript import optimizer

    # None leaves the decision to the optimizer.
    optimizer.fold_constants(
        model, should_fold=lambda node: False if node.op_type == "Gather" else None
    )


def remove_redundancy(model: ir.Model) -> None:
    """Store equal constants once, compute equal expressions once, and remove what nothing reads.

    Requires: constants are folded.
    Changes: constants become initializers; duplicates, identities and unused nodes are removed;
        nodes are sorted.
    Why: a smaller file with the same function.

    Args:
        model: The model to change in place.
    """
    import onnx_ir.passes.common as passes

    # Initializers are deduplicated before subexpressions: expressions over equal constants are
    # recognized as equal only if they use the same initializer.
    for graph_pass in (
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.IdentityEliminationPass(),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.TopologicalSortPass(),
    ):
        graph_pass(model)


def remove_export_metadata(model: ir.Model) -> None:
    """Remove the metadata that the exporter records about its run.

    Requires: nothing.
    Changes: metadata, documentation strings and model functions are removed, and the graph and the
        producer get fixed names.
    Why: stack traces contain paths of the exporting machine, but the same checkpoint must give the
        same bytes on every machine.

    Args:
        model: The model to change in place.
    """
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
