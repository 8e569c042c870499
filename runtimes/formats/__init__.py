"""How a file is recognized, and where its manifest is: read with no engine, and bounded against files from strangers.

One object a format, which the engines in engines/ name in their FORMATS; a format that fits `trailer.Trailed` or `beside.Beside` needs no
file of its own here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol


class Format(Protocol):
    """One kind of file."""

    @property
    def name(self) -> str:
        """For people: "onnx"."""
        ...

    @property
    def suffix(self) -> str:
        """With its dot; a file is recognized by its content, whatever its name."""
        ...

    def recognizes(self, path: Path, head: bytes) -> bool:
        """Whether it is one of these, by its first 4096 bytes (none of a folder) where they tell.

        Raises ArtifactError where the name says so and the content is damaged.
        """
        ...

    def manifests(self, path: Path) -> list[str]:
        """Every manifest in the file; raises ArtifactError where the file is damaged, hostile or too large."""
        ...

    def digest(self, path: Path, into: hashlib._Hash) -> None:
        """Feed all but the manifest to a hash."""
        ...

    def companions(self, path: Path) -> tuple[Path, ...]:
        """The other files that belong to it, wherever it goes."""
        ...
