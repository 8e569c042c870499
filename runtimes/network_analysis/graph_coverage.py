"""Finds the operators that accelerators refuse in files whose sizes follow from the operators."""

from __future__ import annotations

from tinyvit.runtimes.formats.network_graph import NetworkGraph, Node
from tinyvit.runtimes.formats.quantized_tensors import (
    TensorRole,
    TensorUse,
    computes_in_floats,
    find_quantized_tensors,
)
from tinyvit.runtimes.network_analysis.accelerator_rules import (
    COMMON_ONNX_OPERATORS,
    CONVERSIONS,
    explain_refusal,
)
from tinyvit.runtimes.network_analysis.coverage_result import Coverage, RefusedOperator
from tinyvit.runtimes.network_analysis.inference_cost import CostWalk, InferenceCost
from tinyvit.runtimes.network_analysis.node_order import sort_nodes
from tinyvit.runtimes.network_analysis.tensor_facts import Shape, UnknownCostError

_ROLES = {
    "QuantizeLinear": TensorRole.QUANTIZES,
    "DequantizeLinear": TensorRole.DEQUANTIZES,
}
"""Name of an operator -> what it does to its tensors; the others compute new values."""


def check_graph(graph: NetworkGraph, file_name: str) -> Coverage:
    """Check a network of ONNX operators.

    Args:
        graph: The network.
        file_name: Name of the file for messages.

    Returns:
        The operators that accelerators refuse; what depends only on constants is not counted.

    Raises:
        ArtifactError: The network needs too much memory or time.
    """
    walk = _RecordingWalk(graph, InferenceCost(file_name))
    try:
        walk.run()
    except UnknownCostError:
        walk.is_complete = False
    quantized = find_quantized_tensors([_find_use(node, graph) for node in graph.nodes])
    nodes = _leave_out_constants(graph, file_name)
    refused = []
    for node in nodes:
        reason = _find_reason(node, graph, walk.shapes, quantized)
        if reason:
            refused.append(RefusedOperator(node.operator, _first_output(node), reason))
    share = None
    if walk.is_complete:
        total = sum(walk.operations.values())
        on_cpu = sum(walk.operations.get(item.output, 0) for item in refused)
        share = on_cpu / max(1, total)
    return Coverage(len(nodes), tuple(refused), share)


def _leave_out_constants(graph: NetworkGraph, file_name: str) -> list[Node]:
    """Return the operators without those whose inputs are all constants: a compiler runs them."""
    known = set(graph.constants)
    for node in sort_nodes(graph.nodes, known.union(graph.inputs), file_name):
        if node.operator == "Constant" or (node.inputs and known.issuperset(node.inputs)):
            known.update(node.outputs)
    return [node for node in graph.nodes if not node.outputs or not known.issuperset(node.outputs)]


class _RecordingWalk(CostWalk):
    """Visits the operators and records the sizes of their results and their multiplications.

    Attributes:
        shapes: Name of a tensor -> its sizes.
        operations: Name of the first output of an operator -> its multiplications.
        is_complete: Whether the sizes of all tensors are known.
    """

    def __init__(self, graph: NetworkGraph, cost: InferenceCost) -> None:
        """Prepare the walk; see `CostWalk`."""
        super().__init__(graph, cost)
        self.shapes: dict[str, Shape] = {}
        self.operations: dict[str, int] = {}
        self.is_complete = True

    def record(self, node: Node, shapes: list[Shape], operations: int) -> None:
        """Record an operator; see `CostWalk.record`."""
        self.shapes |= zip(node.outputs, shapes)
        self.operations[_first_output(node)] = operations


def _first_output(node: Node) -> str:
    """Return the name of the first output; "" for a damaged operator without any."""
    return node.outputs[0] if node.outputs else ""


def _find_reason(
    node: Node, graph: NetworkGraph, shapes: dict[str, Shape], quantized: set[str]
) -> str:
    """Return why an operator is refused, as a clause; "" if it is accepted."""
    is_float = bool(quantized) and computes_in_floats(_find_use(node, graph), quantized)
    ranks = [len(shapes[name]) for name in (*node.inputs, *node.outputs) if name in shapes]
    return explain_refusal(
        node.domain in ("", "ai.onnx") and node.operator in COMMON_ONNX_OPERATORS,
        any(None in sizes[1:] for sizes in graph.inputs.values()),
        max(ranks, default=0),
        is_float and node.operator not in CONVERSIONS,
    )


def _find_use(node: Node, graph: NetworkGraph) -> TensorUse:
    """Return what an operator does to its first input, unless that is a constant, and outputs."""
    role = _ROLES.get(node.operator, TensorRole.COMPUTES)
    inputs = tuple(name for name in node.inputs[:1] if name not in graph.constants)
    return TensorUse(role, inputs, tuple(node.outputs))
