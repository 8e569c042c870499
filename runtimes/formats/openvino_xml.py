"""Reads .xml files from unknown sources, element by element.

Size and nesting depth are limited, and document type declarations, with which a small file can
define a text of gigabytes, are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinyvit.errors import ArtifactError
from tinyvit.files.regular_files import check_regular_file, open_regular_file
from tinyvit.manifest import MAX_BYTES
from tinyvit.runtimes.formats.file_errors import damaged_error, unreadable_error

_ENCODINGS = ("utf-8", "us-ascii")
"""Encodings, in lower case, that the XML declaration of a model may name."""

_MAX_XML_BYTES, _MAX_DEPTH = 4 * MAX_BYTES, 256

_CHUNK_BYTES = MAX_BYTES
"""Number of bytes that the parser gets at once, which is also the size of a chunk in which an
element must begin. The parser reads a long attribute again with each chunk: with the 2 KiB of its
function ParseFile, an attribute of 10 MB takes 14 s."""


class XmlVisitor:
    """Is called for each element of a file. Subclasses override `start`, `end` and `add_text`.

    These methods may raise ValueError if the file is damaged.

    Attributes:
        reads_text: Whether `add_text` is called, which takes time.
        open_elements: Names of the elements that have begun and not yet ended, the outermost first.
        position: Position in the file where the last element began.
    """

    reads_text = False

    def __init__(self) -> None:
        """Begin without any elements."""
        self.open_elements: list[str] = []
        self.position = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Begin an element, which is already the last one of `open_elements`.

        Args:
            name: Name of the element.
            attributes: Names and values of its attributes.
        """

    def end(self, name: str) -> None:
        """End an element, which is still the last one of `open_elements`.

        Args:
            name: Name of the element.
        """

    def add_text(self, text: str) -> None:
        """Add a piece of the text of the last one of `open_elements`.

        Args:
            text: The piece. A text may come in any number of pieces.
        """


class _GuardedParser:
    """Handles the parser's events: checks the file, and calls a visitor."""

    def __init__(self, path: Path, visitor: XmlVisitor) -> None:
        from xml.parsers import expat

        self.parser: Any = expat.ParserCreate()
        self._path, self._visitor = path, visitor
        self.parser.StartElementHandler = self._start_element
        self.parser.EndElementHandler = self._end_element
        if visitor.reads_text:
            self.parser.CharacterDataHandler = visitor.add_text
        self.parser.StartDoctypeDeclHandler = self._refuse_document_type
        self.parser.XmlDeclHandler = self._check_declaration

    def _start_element(self, name: str, attributes: dict[str, str]) -> None:
        visitor = self._visitor
        visitor.open_elements.append(name)
        if len(visitor.open_elements) > _MAX_DEPTH:
            raise ArtifactError(
                f"{self._path} is nested more than {_MAX_DEPTH} elements deep",
                "the file is damaged or hostile: export it again",
            )
        visitor.position = self.parser.CurrentByteIndex
        visitor.start(name, attributes)

    def _end_element(self, name: str) -> None:
        self._visitor.end(name)
        self._visitor.open_elements.pop()

    def _check_declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        # The parser would decode other encodings with Python's codecs, of which many fail.
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            raise ArtifactError(
                f"{self._path} is in the encoding {encoding[:40]}, not in UTF-8",
                "the file is damaged or hostile: export it again",
            )

    def _refuse_document_type(self, *_: object) -> None:
        raise ArtifactError(
            f"{self._path} declares a document type, which no OpenVINO model does",
            "the file is hostile: export it again",
        )


def parser_errors() -> tuple[type[Exception], ...]:
    """Return the errors that expat raises for a damaged file, or for an encoding it cannot read."""
    from xml.parsers import expat

    return expat.ExpatError, ValueError, LookupError


def parse_xml(path: Path, visitor: XmlVisitor) -> None:
    """Read a file, and call a visitor for each element.

    Args:
        path: Path of the file.
        visitor: What is called.

    Raises:
        ArtifactError: If the file cannot be read, is damaged or hostile, or larger than a limit.
    """
    try:
        size_bytes = check_regular_file(path).st_size
    except OSError as error:
        raise unreadable_error(path, error) from error
    guarded = _GuardedParser(path, visitor)
    try:
        if size_bytes > _MAX_XML_BYTES:
            raise ArtifactError(
                f"{path} is larger than {_MAX_XML_BYTES >> 20} MiB",
                "an OpenVINO model's .xml is small: export it again",
            )
        with open_regular_file(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                if len(chunk) == _CHUNK_BYTES and b"<" not in chunk:
                    raise ValueError(f"it has a text of more than {_CHUNK_BYTES >> 20} MiB")
                guarded.parser.Parse(chunk, False)
            guarded.parser.Parse(b"", True)
    except parser_errors() as error:
        raise damaged_error(path, error) from error
