"""The format of networks that are compiled for an NPU of Rockchip: .rknn files.

Rockchip does not publish the format, and its library could not be tried with anything appended, so
the manifest is in a .json file beside the artifact.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinyvit.files.regular_files import open_regular_file
from tinyvit.runtimes.formats.file_errors import unreadable_error
from tinyvit.runtimes.formats.sidecar import SidecarFormat

EXPORTER_NAME = "exported by tinyvit-edge"
"""Text that tinyvit-export stores in the file, as the field that Rockchip calls custom string."""

_HEAD_BYTES = 4096
"""Number of bytes that contain this text; in tested files, it is at byte 448."""


@dataclass(frozen=True)
class RknnFormat(SidecarFormat):
    """The format of .rknn files; see `Format`."""

    def names_exporter(self, path: Path) -> bool:
        """Return whether the head of a file contains `EXPORTER_NAME`."""
        try:
            with open_regular_file(path) as file:
                return EXPORTER_NAME.encode("ascii") in file.read(_HEAD_BYTES)
        except (OSError, ValueError) as error:
            raise unreadable_error(path, error) from error


RKNN = RknnFormat(name="rknn", suffix=".rknn", magics=(b"RKNN\0\0\0\0",))


def network_path(path: Path) -> Path:
    """Return the path of the network that a file was compiled from: demo.rknn.onnx for demo.rknn.

    Only the simulator needs it.
    """
    return path.with_name(f"{path.name}.onnx")


def layer_errors_path(path: Path) -> Path:
    """Return the path of the table with the error of each layer: demo.rknn.layers.txt."""
    return path.with_name(f"{path.name}.layers.txt")


def quantization_path(path: Path) -> Path:
    """Return the path of the toolkit's parameters: demo.rknn.quantization.cfg for demo.rknn.

    It exists for int8 files. Only the simulator needs it.
    """
    return path.with_name(f"{path.name}.quantization.cfg")
