"""Formats of files with the manifest in a separate .json file (a sidecar) next to them.

They are for engines, such as TensorRT, that do not load a file to which a manifest was added.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from tinyvit.files.file_io import update_hash
from tinyvit.files.regular_files import read_bounded
from tinyvit.manifest import MAX_BYTES
from tinyvit.runtimes.formats.file_errors import unreadable_error
from tinyvit.runtimes.formats.network_graph import NetworkGraph


def manifest_path(path: Path) -> Path:
    """Return the path of a file's manifest: demo.engine.json for demo.engine."""
    return path.with_name(f"{path.name}.json")


@dataclass(frozen=True)
class SidecarFormat:
    """A format of files with the manifest in a .json file next to them; see `Format`.

    Attributes:
        name: Name of the format for messages and JSON.
        suffix: Usual suffix of the files, with its dot.
        magics: Magic numbers; every file begins with one of them.
        placement_rule: See `stated_operators.StatesPlacement`.
    """

    name: str
    suffix: str
    magics: tuple[bytes, ...]
    placement_rule: str = ""

    def recognizes(self, path: Path, head: bytes) -> bool:
        """Return whether a file begins with one of `magics`."""
        return head.startswith(self.magics)

    def read_manifests(self, path: Path) -> list[str]:
        """Return the text of the .json file as the only item; [] if there is no such file."""
        manifest = manifest_path(path)
        if not os.path.lexists(manifest):
            return []
        try:
            return [read_bounded(manifest, MAX_BYTES).decode("utf-8")]
        except (OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError.
            raise unreadable_error(manifest, error) from error

    def list_companions(self, path: Path) -> tuple[Path, ...]:
        """Return the .json file, if there is one."""
        manifest = manifest_path(path)
        return (manifest,) if manifest.is_file() else ()

    def names_exporter(self, path: Path) -> bool:
        """Return False: a compiled network cannot state which program exported it."""
        return False

    def read_graph(self, path: Path) -> NetworkGraph:
        """Return an empty graph: a compiled network does not name its operators."""
        return NetworkGraph()

    def update_hash(self, path: Path, digest: hashlib._Hash) -> None:
        """Update a hash with all bytes of the file."""
        update_hash(path, digest)
