"""Chooses the ranges of the tensors of a network that rknn-toolkit2 has rewritten.

The toolkit rewrites a network before it is quantized, and changes the names of tensors. The worker
(`worker.py`) loads a copy of this file, so it imports nothing of this package.
"""

from collections.abc import Sequence

_MOVING_OPERATORS = ("Reshape", "Transpose", "Pad", "Slice", "Squeeze", "Unsqueeze")
"""Operators whose output has the range of their input."""
TRANSPOSED_SUFFIX = "_transposed"
"""What this project appends to the name of a tensor to name the transposed one."""
_NAME_SUFFIXES = (
    TRANSPOSED_SUFFIX,
    *("_mm", "_rs", "_tp", "_sw", "-rs", "-tp", "#1", "#2"),
    *("_sdpa", "_cvt4sdpa", "_int8"),
)
"""What is appended to the name of a tensor or a node when the network is rewritten."""
_ATTENTION_MARK = "_2sdpa"
"""What the toolkit appends to the name of the second product of an attention that it fuses."""
_NODE_PREFIX = "node_"
"""What torch's exporter puts before the name of a tensor to name the node that computes it."""

_PRODUCT_OPERATOR = "exMatMul"
"""The toolkit's product of two tensors, which it uses where it does not fuse attention."""
_INTEGER_LIMITS = (-128, 127)
"""The smallest and the largest int8 number."""

Node = tuple[str, str, Sequence[str], str]
"""A node of the rewritten network: operator, name, names of its inputs, name of its output."""
Range = tuple[float, float]
"""The smallest and the largest value that the integers of a tensor represent."""


def choose_ranges(
    nodes: list[Node], names: list[str], ranges: dict[str, Range]
) -> dict[str, Range]:
    """Choose the ranges of the tensors of the rewritten network.

    A tensor has the range of the original tensor of its name. Otherwise, it has that of the tensor
    that its node computed originally, or that of the tensor from which its values are moved. The
    last choice is the original tensor whose name is left without the toolkit's suffixes. The range
    of a tensor by which another is multiplied is made symmetric
    (`make_second_operands_symmetric`).

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
    make_second_operands_symmetric(nodes, chosen)
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
    moves = _list_moves(nodes)
    for pairs in (moves, [(output, source) for source, output in reversed(moves)]):
        for source, output in pairs:
            if source in chosen and output not in chosen and output in names:
                chosen[output] = chosen[source]


def make_second_operands_symmetric(nodes: list[Node], chosen: dict[str, Range]) -> None:
    """Give the second operand of each product of two tensors a range with zero point 0.

    The simulator has no zero point for this operand, as the NPU has none for weights. It rounds
    integers with another zero point down to even ones. The numbers from a softmax, which are small
    and have the zero point -128, lose a quarter of their sum by that.

    Args:
        nodes: The nodes, in order.
        chosen: The ranges, of which those of second operands are enlarged until 0 is the integer 0,
            with those of all tensors from which and to which their values are only moved.
    """
    moves = _list_moves(nodes)
    sources = {output: source for source, output in moves}
    computed = {output for _, _, _, output in nodes}
    operands = {
        inputs[1]
        for operator, _, inputs, _ in nodes
        if operator == _PRODUCT_OPERATOR and inputs[1] in computed
    }
    changed = set()
    for name in operands:
        while sources.get(name) in chosen:
            name = sources[name]
        if name in chosen and make_symmetric(chosen[name]) != chosen[name]:
            chosen[name] = make_symmetric(chosen[name])
            changed.add(name)
    for source, output in moves:
        if source in changed and output in chosen:
            chosen[output] = chosen[source]
            changed.add(output)


def _list_moves(nodes: list[Node]) -> list[tuple[str, str]]:
    """Return the input and the output of each operator that only moves values."""
    return [
        (inputs[0], output)
        for operator, _, inputs, output in nodes
        if operator in _MOVING_OPERATORS
    ]


def make_symmetric(limits: Range) -> Range:
    """Return the smallest range that contains another and whose zero point is 0.

    Args:
        limits: A range; one whose zero point is 0 is returned as it is.
    """
    smallest, largest = limits
    scale = (largest - smallest) / (_INTEGER_LIMITS[1] - _INTEGER_LIMITS[0])
    if not scale > 0 or round(_INTEGER_LIMITS[0] - smallest / scale) == 0:
        return limits
    scale = max(smallest / _INTEGER_LIMITS[0], largest / _INTEGER_LIMITS[1])
    return _INTEGER_LIMITS[0] * scale, _INTEGER_LIMITS[1] * scale


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
