"""The format of .ort files, which only ONNX Runtime uses: a flatbuffer, followed by an archive.

The field numbers come from onnxruntime/core/flatbuffers/schema/ort.fbs in
https://github.com/microsoft/onnxruntime.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flatbuffers.table import Table

from tinyvit.runtimes.formats.file_errors import damaged_error
from tinyvit.runtimes.formats.flatbuffer_tables import (
    READER_ERRORS,
    read_root_table,
    read_string,
    read_table,
    read_tables,
)
from tinyvit.runtimes.formats.network_graph import NetworkGraph
from tinyvit.runtimes.formats.onnx_operators import name_if_foreign
from tinyvit.runtimes.formats.ort_graph import read_graph
from tinyvit.runtimes.formats.protobuf import read_file
from tinyvit.runtimes.formats.trailer import TrailerFormat

# Numbers of the fields in the tables InferenceSession, Model, Graph and Node.
_SESSION_MODEL, _MODEL_GRAPH, _GRAPH_NODES = 1, 7, 2
_NODE_DOMAIN, _NODE_OPERATOR = 2, 5

_FUSED_NAMES = """
Attention BiasGelu BiasSoftmax BiasSplitGelu DynamicQuantizeMatMul FastGelu FusedConv FusedGemm
FusedMatMul Gelu GroupNorm MatMulIntegerToFloat MatMulNBits MultiHeadAttention NhwcConv
NhwcMaxPool QAttention QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearConv
QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid
QLinearSoftmax QLinearWhere QuickGelu SkipLayerNormalization DequantizeLinear QuantizeLinear
"""

_FUSED_OPERATORS = frozenset(_FUSED_NAMES.split())
"""Operators of ONNX Runtime's own domain into which it fuses those of an image classifier."""

_FUSED_DOMAIN = "com.microsoft"


class OrtFormat(TrailerFormat):
    """The format of .ort files; see `Format`."""

    def find_foreign_operators(self, path: Path) -> tuple[str, ...]:
        """Return the operators that are not in `ALLOWED_OPERATORS` or `_FUSED_OPERATORS`."""
        try:
            session = read_root_table(read_file(path))
            return tuple(sorted(set(_find_in_session(session))))
        except READER_ERRORS as error:
            raise damaged_error(path, error) from error

    def read_graph(self, path: Path) -> NetworkGraph:
        """Read the operators of the network."""
        try:
            return read_graph(read_root_table(read_file(path)))
        except READER_ERRORS as error:
            raise damaged_error(path, error) from error


ORT = OrtFormat(name="ort", suffix=".ort", magic=b"ORTM", magic_offset=4)


def _find_in_session(session: Table) -> Iterator[str]:
    """Yield the names of the operators that are not allowed."""
    model = read_table(session, _SESSION_MODEL)
    graph = read_table(model, _MODEL_GRAPH) if model else None
    for node in read_tables(graph, _GRAPH_NODES) if graph else ():
        domain, operator = read_string(node, _NODE_DOMAIN), read_string(node, _NODE_OPERATOR)
        is_fused = domain == _FUSED_DOMAIN and operator in _FUSED_OPERATORS
        if not is_fused and (name := name_if_foreign(domain, operator)):
            yield name
