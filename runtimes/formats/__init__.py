"""File formats: how a file is recognized and where its manifest is, read without any engine.

Each format is one object, which engines list in `Engine.formats`. A file that ends with a ZIP
archive is a `TrailerFormat`, a file with a manifest next to it is a `SidecarFormat`;
the other formats have a module of their own. Files may come from strangers: every reader limits how
much it reads.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol


class Format(Protocol):
    """One file format."""

    @property
    def name(self) -> str:
        """Name for messages and JSON, such as "onnx"."""
        ...

    @property
    def suffix(self) -> str:
        """Usual suffix with its dot; files are recognized by their content, whatever their name."""
        ...

    def recognizes(self, path: Path, head: bytes) -> bool:
        """Return whether a file has this format.

        Args:
            path: Path of the file.
            head: Its first 4096 bytes; b"" for a folder.

        Returns:
            True if it has.

        Raises:
            ArtifactError: If the file's suffix is the one of this format and its content is
                damaged.
        """
        ...

    def manifests(self, path: Path) -> list[str]:
        """Read every manifest in a file.

        Args:
            path: Path of a file of this format.

        Returns:
            The manifests' JSON texts. A file that tinyvit-export wrote has exactly one.

        Raises:
            ArtifactError: If the file is damaged or hostile, or larger than a limit.
        """
        ...

    def update_hash(self, path: Path, digest: hashlib._Hash) -> None:
        """Update a hash with everything in a file but its manifest.

        Args:
            path: Path of a file of this format.
            digest: Hash to update.

        Raises:
            ArtifactError: If the file is damaged or hostile, or larger than a limit.
        """
        ...

    def companions(self, path: Path) -> tuple[Path, ...]:
        """List the other files that must be copied together with a file.

        Args:
            path: Path of a file of this format.

        Returns:
            Paths of existing files.

        Raises:
            ArtifactError: If a file that is needed is missing.
        """
        ...
