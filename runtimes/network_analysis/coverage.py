"""Finds the operators of a file that accelerators such as NPUs refuse, without any engine.

Files that contain the network are checked by rules (`accelerator_rules`). In files that a vendor's
compiler made, it has already decided; their manifest records what it left to the CPU.
"""

from __future__ import annotations

from dataclasses import replace

from tinyvit.errors import RequestError
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.formats.stated_operators import StatesOperators, StatesPlacement
from tinyvit.runtimes.network_analysis.compiled_coverage import (
    describe_compilation,
    describe_outcome,
    describe_placement,
)
from tinyvit.runtimes.network_analysis.coverage_result import Coverage
from tinyvit.runtimes.network_analysis.graph_coverage import check_graph
from tinyvit.runtimes.network_analysis.stated_coverage import check_stated


def check_coverage(artifact: Artifact) -> Coverage:
    """Find which operators of a file accelerators refuse.

    Args:
        artifact: The file.

    Returns:
        The operators that accelerators refuse.

    Raises:
        RequestError: The file contains no operators, or is compiled and has no manifest that
            states what its compiler decided.
        ArtifactError: The file is damaged or hostile.
    """
    coverage = _check_network(artifact)
    manifest = artifact.manifest
    if coverage is None and manifest is not None:
        if manifest.compilation is not None:
            return describe_compilation(manifest.compilation)
        if isinstance(artifact.format, StatesPlacement) and artifact.format.placement_rule:
            return describe_placement(artifact.format.placement_rule)
    if coverage is None:
        raise RequestError(
            f"{artifact.path.name} contains no operators that can be read, and no manifest that"
            " states what a compiler left to the CPU",
            "give the file that tinyvit-export wrote, together with its .json file if there is one,"
            " or the .onnx file of the same model",
        )
    if manifest is not None and manifest.compilation is not None:
        note = describe_outcome(manifest.compilation)
        coverage = replace(coverage, notes=(*coverage.notes, note))
    return coverage


def _check_network(artifact: Artifact) -> Coverage | None:
    """Check the network in a file by the rules; None if the file has no operators to read."""
    if isinstance(artifact.format, StatesOperators):
        network = artifact.format.read_stated_network(artifact.path)
        is_empty = not network.operators and not network.has_unread_parts
        return None if is_empty else check_stated(network)
    graph = artifact.format.read_graph(artifact.path)
    return check_graph(graph, artifact.path.name) if graph.nodes else None
