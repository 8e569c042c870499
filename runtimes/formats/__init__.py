"""Recognizes the file formats of artifacts and reads the manifests in them, without any engine.

Each format is one object with the interface `Format`; `Engine.formats` lists the formats that an
engine opens. `TrailerFormat` is for files with the manifest in a ZIP archive at their end, and
`SidecarFormat` for files with the manifest in a separate .json file. Every other format has its own
module here. Files may be hostile, so every reader limits how much it reads.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tinyvit.runtimes.formats.network_graph import NetworkGraph

MAX_FILE_BYTES = 2**31 - 1
"""Largest file that is opened. Protobuf messages and flatbuffers cannot be larger, and some engines
read the whole file into memory. The limit holds for the weights of an OpenVINO model, too."""


class Format(Protocol):
    """The interface of a file format."""

    @property
    def name(self) -> str:
        """Name for messages and JSON, such as "onnx"."""
        ...

    @property
    def suffix(self) -> str:
        """Usual suffix with its dot. Files are recognized by content, so any suffix works."""
        ...

    def recognizes(self, path: Path, head: bytes) -> bool:
        """Return whether a file has this format.

        Args:
            path: Path of the file.
            head: The first 4096 bytes of the file; b"" for a folder.

        Returns:
            Whether the file has this format.

        Raises:
            ArtifactError: If the file has the suffix of this format, but its content is damaged.
        """
        ...

    def read_manifests(self, path: Path) -> list[str]:
        """Read all manifests in a file.

        Args:
            path: Path of a file of this format.

        Returns:
            The manifests' JSON texts. A file that tinyvit-export wrote has exactly one.

        Raises:
            ArtifactError: If the file is damaged or hostile, or larger than a limit.
        """
        ...

    def names_exporter(self, path: Path) -> bool:
        """Return whether the rest of the file, without the manifest, names tinyvit-export.

        `tinyvit.runtimes.artifact` asks this about a file without a manifest. If tinyvit-export
        wrote such a file, its manifest was lost.

        Args:
            path: Path of a file of this format.

        Returns:
            Whether tinyvit-export wrote the file. False if the format cannot show it.

        Raises:
            ArtifactError: If the file is damaged or hostile, or larger than a limit.
        """
        ...

    def read_graph(self, path: Path) -> NetworkGraph:
        """Read the operators of a file that are checked before an engine sees it.

        Args:
            path: Path of a file of this format.

        Returns:
            The operators that image classifiers do not need, and the operators from which memory
            and time are computed. There are none of the latter if the engines of this format check
            the cost themselves, or allocate nothing that the file does not contain.

        Raises:
            ArtifactError: If the file is damaged or hostile, or larger than a limit.
        """
        ...

    def update_hash(self, path: Path, digest: hashlib._Hash) -> None:
        """Update a hash with everything in a file except the text of its manifest.

        Args:
            path: Path of a file of this format.
            digest: Hash to update.

        Raises:
            ArtifactError: If the file is damaged or hostile, or larger than a limit.
        """
        ...

    def list_companions(self, path: Path) -> tuple[Path, ...]:
        """List the separate files that a file needs, which must be copied together with it.

        Args:
            path: Path of a file of this format.

        Returns:
            Paths of existing files; empty if the file needs no other file.

        Raises:
            ArtifactError: If a file that is needed is missing.
        """
        ...
