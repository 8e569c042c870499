"""Chooses the ranges of the tensors of a network that rknn-toolkit2 has rewritten.

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
Range = tuple[float, float]
"""The smallest and the largest value that the integers of a tensor represent."""


def choose_ranges(
    nodes: list[Node], names: list[str], ranges: dict[str, Range]
) -> dict[str, Range]:
    """Choose the ranges of the tensors of the rewritten network.

    A tensor has the range of the original tensor of its name. Otherwise, it has that of the tensor
    that its node computed originally, or that of the tensor from which its values are moved. The
    last choice is the original tensor whose name is left without the toolkit's suffixes.

    Args:
        nodes: The nodes, in order.
        names: The names of the tensors.
        ranges: Name of a tensor of the original network -> its smallest and largest value.

    Returns:
        Name of a tensor of the rewritten network -> its range, for all for which one is known.
    """
    chosen = {name: ranges[name] for name in names if name in ranges}
    for operator, node_name, _, output in nodes:
        if operator not in _MOVING_OPERATORS and output in names and output not in chosen:
            tensors = [
                candidate[len(_NODE_PREFIX) :]
                for candidate in list_original_names(node_name)
                if candidate.startswith(_NODE_PREFIX)
            ]
            add_first_range(output, tensors, ranges, chosen)
    spread_ranges(nodes, names, chosen)
    for name in names:
        if name not in chosen:
            add_first_range(name, list_original_names(name), ranges, chosen)
    spread_ranges(nodes, names, chosen)
    return chosen


def add_first_range(
    name: str, candidates: list[str], ranges: dict[str, Range], chosen: dict[str, Range]
) -> None:
    """Give a tensor the range of the first of several original tensors that has one.

    Args:
        name: Name of the tensor.
        candidates: Names of original tensors.
        ranges: The ranges of original tensors.
        chosen: The ranges, to which that of the tensor is added.
    """
    for candidate in candidates:
        if candidate in ranges:
            chosen[name] = ranges[candidate]
            return


def spread_ranges(nodes: list[Node], names: list[str], chosen: dict[str, Range]) -> None:
    """Give both sides of each operator that only moves values the same range.

    Args:
        nodes: The nodes, in order.
        names: The names of the tensors.
        chosen: The ranges, to which others are added.
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
