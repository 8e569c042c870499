"""The format of networks that are compiled for a Hexagon NPU: ONNX files with EPContext operators.

Such an operator contains the compiled network as bytes that only Qualcomm's library reads.
"""

from __future__ import annotations

from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.runtimes.formats.file_errors import damaged_error
from tinyvit.runtimes.formats.network_graph import NetworkGraph, Node
from tinyvit.runtimes.formats.onnx import OnnxFormat
from tinyvit.runtimes.formats.onnx_graph import read_graph
from tinyvit.runtimes.formats.protobuf import read_file

_OPERATOR = b"EPContext"
_FOREIGN_NAME = "com.microsoft::EPContext"
"""Name of the operator among the foreign operators of a graph."""
_EMBEDDED = 1
"""Value of the attribute `embed_mode` of an operator that contains the compiled network itself.
With another value, it names a file, which could be any file of the machine."""

_CPU_NAMES = """
Cast DequantizeLinear Flatten Gelu Identity LayerNormalization QuantizeLinear ReduceMean Relu
Reshape Sigmoid Slice Softmax Squeeze Transpose Unsqueeze
"""
_CPU_OPERATORS = frozenset(_CPU_NAMES.split())
"""Operators that may stay on the CPU: their results are no larger than their inputs."""

_MAX_OPERATORS = 1000
"""Largest number of operators. A network in one part has three."""


class QnnContextFormat(OnnxFormat):
    """The format of .qnn.onnx files that were compiled for a chip; see `Format`."""

    name = "qnn-context"
    suffix = ".qnn.onnx"

    def recognizes(self, path: Path, head: bytes) -> bool:
        """Return whether a file is an ONNX model with an EPContext operator."""
        if path.is_dir() or not super().recognizes(path, head):
            return False
        data = read_file(path)
        if _OPERATOR not in data:
            return False
        try:
            return _FOREIGN_NAME in read_graph(memoryview(data)).foreign_operators
        except ValueError:
            return False  # The format of ONNX files, which is asked next, states the reason.

    def read_graph(self, path: Path) -> NetworkGraph:
        """Read the operators that stay on the CPU.

        Their cost is not computed, because the sizes of a compiled network's results are not known.
        An operator whose result could be larger than its inputs is therefore a foreign one. The
        NPU's own memory is limited by the driver.
        """
        try:
            graph = read_graph(memoryview(read_file(path)))
            if len(graph.nodes) > _MAX_OPERATORS:
                raise ValueError(f"it has {len(graph.nodes)} operators, more than {_MAX_OPERATORS}")
        except ValueError as error:
            raise damaged_error(path, error) from error
        if graph.external_files or not all(map(_is_embedded, graph.nodes)):
            raise ArtifactError(
                f"{path} does not contain its compiled network, but names another file",
                "export it again with tinyvit-export --target qnn --soc CHIP",
            )
        enlarging = {node.operator for node in graph.nodes} - _CPU_OPERATORS
        foreign = graph.foreign_operators - {_FOREIGN_NAME}
        return NetworkGraph(foreign_operators=foreign | (enlarging - {_OPERATOR.decode()}))


def _is_embedded(node: Node) -> bool:
    """Return whether an operator is no compiled network, or contains the network itself."""
    if node.operator != _OPERATOR.decode():
        return True
    mode = node.attributes.get("embed_mode")
    # onnxruntime reads an attribute of another type, such as 1.0, as 0.
    return isinstance(mode, int) and mode == _EMBEDDED


QNN_CONTEXT = QnnContextFormat()
