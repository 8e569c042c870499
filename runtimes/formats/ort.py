"""The format of .ort files, which only ONNX Runtime uses: a flatbuffer, followed by an archive."""

from __future__ import annotations

from pathlib import Path

from tinyvit.runtimes.formats.file_errors import damaged_error
from tinyvit.runtimes.formats.flatbuffer_tables import READER_ERRORS, read_root_table
from tinyvit.runtimes.formats.network_graph import NetworkGraph
from tinyvit.runtimes.formats.ort_graph import read_graph
from tinyvit.runtimes.formats.protobuf import read_file
from tinyvit.runtimes.formats.trailer import TrailerFormat


class OrtFormat(TrailerFormat):
    """The format of .ort files; see `Format`."""

    def read_graph(self, path: Path) -> NetworkGraph:
        """Read the operators of the network."""
        try:
            return read_graph(read_root_table(read_file(path)))
        except READER_ERRORS as error:
            raise damaged_error(path, error) from error


ORT = OrtFormat(name="ort", suffix=".ort", magic=b"ORTM", magic_offset=4)
