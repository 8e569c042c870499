"""The format of .tflite files (TensorFlow Lite models): a flatbuffer, followed by an archive."""

from __future__ import annotations

from pathlib import Path

from tinyvit.runtimes.formats.file_errors import damaged_error
from tinyvit.runtimes.formats.flatbuffer_tables import READER_ERRORS, read_root_table
from tinyvit.runtimes.formats.protobuf import read_file
from tinyvit.runtimes.formats.stated_operators import StatedNetwork
from tinyvit.runtimes.formats.tflite_network import read_network
from tinyvit.runtimes.formats.trailer import TrailerFormat


class TfliteFormat(TrailerFormat):
    """The format of .tflite files; see `Format`."""

    def read_stated_network(self, path: Path) -> StatedNetwork:
        """Read the operators of a file; see `StatesOperators`."""
        try:
            return read_network(read_root_table(read_file(path)))
        except READER_ERRORS as error:
            raise damaged_error(path, error) from error


TFLITE = TfliteFormat(name="litert", suffix=".tflite", magic=b"TFL3", magic_offset=4)
