"""Puts the operators of a network in an order in which they can be computed."""

from __future__ import annotations

from collections import defaultdict

from tinyvit.errors import ArtifactError
from tinyvit.runtimes.formats.network_graph import Node


def sort_nodes(nodes: list[Node], known_names: set[str], file_name: str) -> list[Node]:
    """Put operators in an order in which each comes after those whose results it uses.

    Args:
        nodes: The operators.
        known_names: Names of the inputs and the constants of the network.
        file_name: Name of the file for messages.

    Returns:
        The operators; those that use an unknown tensor are left out, because no engine runs them.

    Raises:
        ArtifactError: If operators need each other's results.
    """
    missing: dict[int, int] = {}
    users: dict[str, list[int]] = defaultdict(list)
    ready = []
    for index, node in enumerate(nodes):
        needed = {name for name in node.inputs if name and name not in known_names}
        missing[index] = len(needed)
        for name in needed:
            users[name].append(index)
        if not needed:
            ready.append(index)
    ordered = []
    ready.reverse()
    while ready:
        node = nodes[ready.pop()]
        ordered.append(node)
        for name in node.outputs:
            for index in reversed(users.pop(name, ())):
                missing[index] -= 1
                if not missing[index]:
                    ready.append(index)
    if len(ordered) < len(nodes):
        raise ArtifactError(
            f"{file_name} contains operators that use the results of each other, or of none",
            "the file is damaged or hostile: export it again",
        )
    return ordered
