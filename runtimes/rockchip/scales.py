"""Chooses the scales of a network that rknn-toolkit2 has rewritten.

The toolkit rewrites a network before it is quantized, and changes the names of tensors. The worker
(`worker.py`) loads a copy of this file, so it imports nothing of this package.
"""

_MOVING_OPERATORS = ("Reshape", "Transpose", "Pad", "Slice", "Squeeze", "Unsqueeze")
"""Operators whose output has the range of their input."""
_NAME_SUFFIXES = (
    *("_mm", "_rs", "_tp", "_sw", "-rs", "-tp", "#1", "#2"),
    *("_sdpa", "_cvt4sdpa", "_int8"),
)
"""What the toolkit appends to the name of a tensor or a node when it rewrites the network."""
_ATTENTION_MARK = "_2sdpa"
"""What the toolkit appends to the name of the second product of an attention that it fuses."""
_NODE_PREFIX = "node_"
"""What torch's exporter puts before the name of a tensor to name the node that computes it."""

Node = tuple[str, str, str, str]
"""A node of the rewritten network: operator, name, name of its first input, name of its output."""


def choose_scales(
    nodes: list[Node], names: list[str], scales: dict[str, float]
) -> dict[str, float]:
    """Choose the scales of the tensors of the rewritten network.

    A tensor has the scale of the original tensor of its name. Otherwise, it has that of the tensor
    that its node computed originally, or that of the tensor from which its values are moved. The
    last choice is the original tensor whose name is left without the toolkit's suffixes.

    Args:
        nodes: The nodes, in order.
        names: The names of the tensors.
        scales: Name of a tensor of the original network -> its scale.

    Returns:
        Name of a tensor of the rewritten network -> its scale, for all for which one is known.
    """
    chosen = {name: scales[name] for name in names if name in scales}
    for operator, node_name, _, output in nodes:
        if operator not in _MOVING_OPERATORS and output in names and output not in chosen:
            tensors = [
                candidate[len(_NODE_PREFIX) :]
                for candidate in list_original_names(node_name)
                if candidate.startswith(_NODE_PREFIX)
            ]
            add_first_scale(output, tensors, scales, chosen)
    spread_scales(nodes, names, chosen)
    for name in names:
        if name not in chosen:
            add_first_scale(name, list_original_names(name), scales, chosen)
    spread_scales(nodes, names, chosen)
    return chosen


def add_first_scale(
    name: str, candidates: list[str], scales: dict[str, float], chosen: dict[str, float]
) -> None:
    """Give a tensor the scale of the first of several original tensors that has one.

    Args:
        name: Name of the tensor.
        candidates: Names of original tensors.
        scales: The scales of original tensors.
        chosen: The scales, to which that of the tensor is added.
    """
    for candidate in candidates:
        if candidate in scales:
            chosen[name] = scales[candidate]
            return


def spread_scales(nodes: list[Node], names: list[str], chosen: dict[str, float]) -> None:
    """Give both sides of each operator that only moves values the same scale.

    Args:
        nodes: The nodes, in order.
        names: The names of the tensors.
        chosen: The scales, to which others are added.
    """
    moves = [node[2:] for node in nodes if node[0] in _MOVING_OPERATORS]
    for pairs in (moves, [(output, source) for source, output in reversed(moves)]):
        for source, output in pairs:
            if source in chosen and output not in chosen and output in names:
                chosen[output] = chosen[source]


def list_original_names(name: str) -> list[str]:
    """Return a name, and what remains of it without the toolkit's suffixes.

    Args:
        name: Name of a tensor or a node, such as "gelu_9-rs_sw", or of a tensor inside of an
            attention, such as "node_matmul_5#1_2sdpa_q_add".
    """
    name, mark, part = name.partition(_ATTENTION_MARK)
    candidates = [name + mark + part]
    while True:
        suffix = next((suffix for suffix in _NAME_SUFFIXES if name.endswith(suffix)), None)
        if suffix is None:
            return candidates
        name = name[: -len(suffix)]
        candidates.append(name + mark + part)
