"""The format of .pte files, which ExecuTorch runs: a program and its segments, then an archive."""

from __future__ import annotations

from pathlib import Path

from tinyvit.runtimes.formats.file_errors import damaged_error
from tinyvit.runtimes.formats.flatbuffer_tables import READER_ERRORS
from tinyvit.runtimes.formats.protobuf import read_file
from tinyvit.runtimes.formats.pte_network import read_network
from tinyvit.runtimes.formats.stated_operators import StatedNetwork
from tinyvit.runtimes.formats.trailer import TrailerFormat


class ExecuTorchFormat(TrailerFormat):
    """The format of .pte files; see `Format`."""

    def read_stated_network(self, path: Path) -> StatedNetwork:
        """Read the operators of a file; see `StatesOperators`."""
        try:
            return read_network(read_file(path))
        except READER_ERRORS as error:
            raise damaged_error(path, error) from error


EXECUTORCH = ExecuTorchFormat(name="executorch", suffix=".pte", magic=b"ET12", magic_offset=4)
