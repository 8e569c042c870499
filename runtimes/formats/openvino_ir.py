"""The format OpenVINO IR: an .xml file with the graph, and a .bin file with the weights next to it.

The manifest is the element net/rt_info/tinyvit/manifest of the .xml file, which OpenVINO's
`Model.set_rt_info(text, ["tinyvit", "manifest"])` writes. Because files may be hostile, size and
nesting depth are limited, and document type declarations are refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.files import update_hash
from tinyvit.manifest import MANIFEST_KEY, MAX_BYTES

_METADATA_PATH = ["net", "rt_info", MANIFEST_KEY]
"""The element net/rt_info/tinyvit, which contains only the manifest."""

_ENCODINGS = ("utf-8", "us-ascii")
"""Encodings, in lower case, that the XML declaration of a model may name."""

_COMMENT = rb"<!--(?:(?!-->).)*-->"
"""Matches exactly one comment.

A simple `<!--.*?-->` could also match several comments as one. In a hostile file with many
comments, `_ROOT` would then try every way to divide them, which would take forever.
"""

_ROOT = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*\?>)?\s*(" + _COMMENT + rb"\s*)*<net[\s>]", re.DOTALL
)
"""Matches the beginning of an .xml file up to the root element `net`: an optional byte order mark,
XML declaration and comments may come before it."""

_MAX_XML_BYTES, _MAX_DEPTH = 4 * MAX_BYTES, 256


class OpenVinoIrFormat:
    """The format of OpenVINO's .xml files; see `Format`."""

    name = "openvino-ir"
    suffix = ".xml"

    def recognizes(self, path: Path, head: bytes) -> bool:
        """Return whether the root element is `net`; raise ArtifactError for a model's .bin file."""
        if path.suffix.lower() == ".bin" and path.with_suffix(".xml").is_file():
            raise ArtifactError(
                f"{path} contains only the weights of an OpenVINO model",
                f"give {path.with_suffix('.xml').name}, which is next to it",
            )
        return _ROOT.match(head) is not None

    def read_manifests(self, path: Path) -> list[str]:
        """Read the values of all elements net/rt_info/tinyvit/manifest."""
        return _parse_xml(path)

    def list_companions(self, path: Path) -> tuple[Path, ...]:
        """Return the .bin file."""
        return (weights_path(path),)

    def update_hash(self, path: Path, digest: hashlib._Hash) -> None:
        """Update a hash with the elements, attributes and texts of the .xml, then with the .bin.

        The element net/rt_info/tinyvit, which contains the manifest, is not hashed.
        """
        _parse_xml(path, digest)
        update_hash(weights_path(path), digest)


OPENVINO_IR = OpenVinoIrFormat()


def weights_path(path: Path) -> Path:
    """Return the path of a model's weights.

    Args:
        path: Path of the .xml file.

    Returns:
        Path of the .bin file.

    Raises:
        ArtifactError: If there is no such file.
    """
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ArtifactError(
            f"{path} has no {weights.name} next to it",
            "an OpenVINO model is two files: keep them together",
        )
    return weights


class _XmlHandler:
    """Handles the XML parser's events: collects the manifests and hashes everything else.

    White space around texts is only indentation and is not hashed. If the digest is None, nothing
    is hashed.

    Attributes:
        manifests: JSON texts of the manifests.
    """

    def __init__(self, path: Path, digest: hashlib._Hash | None) -> None:
        self.manifests: list[str] = []
        self._path, self._digest = path, digest
        self._open_elements: list[str] = []
        self._texts: list[str] = []  # The texts since the last event that was hashed.

    def start_element(self, name: str, attributes: dict[str, str]) -> None:
        self._open_elements.append(name)
        if len(self._open_elements) > _MAX_DEPTH:
            raise ArtifactError(
                f"{self._path} is nested more than {_MAX_DEPTH} elements deep",
                "the file is damaged or hostile: export it again",
            )
        is_manifest = self._open_elements == [*_METADATA_PATH, "manifest"]
        if is_manifest:
            self.manifests.append(attributes.get("value", ""))
        self._hash_event(name, sorted(attributes.items()))

    def end_element(self, name: str) -> None:
        self._hash_event(name)
        self._open_elements.pop()

    def add_text(self, text: str) -> None:
        if self._digest and not self._is_in_metadata():
            self._texts.append(text)

    def check_declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        # The parser would decode other encodings with Python's codecs, of which many fail.
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            raise ArtifactError(
                f"{self._path} is in the encoding {encoding[:40]}, not in UTF-8",
                "the file is damaged or hostile: export it again",
            )

    def refuse_document_type(self, *_: object) -> None:
        raise ArtifactError(
            f"{self._path} declares a document type, which no OpenVINO model does",
            "the file is hostile: export it again",
        )

    def _is_in_metadata(self) -> bool:
        """Return whether the parser is inside the element that contains the manifest."""
        return self._open_elements[: len(_METADATA_PATH)] == _METADATA_PATH

    def _hash_event(self, *event: object) -> None:
        """Hash the text since the last event, then the event's name and attributes."""
        if self._digest and not self._is_in_metadata():
            text = "".join(self._texts).strip()
            self._digest.update(json.dumps([text, *event]).encode("ascii"))
            self._texts.clear()


def _parse_xml(path: Path, digest: hashlib._Hash | None = None) -> list[str]:
    """Read the manifests in an .xml file, and update a hash (if not None) with everything else."""
    from xml.parsers import expat

    handler, parser = _XmlHandler(path, digest), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = handler.start_element
    parser.EndElementHandler = handler.end_element
    parser.CharacterDataHandler = handler.add_text
    parser.StartDoctypeDeclHandler = handler.refuse_document_type
    parser.XmlDeclHandler = handler.check_declaration
    try:
        if path.stat().st_size > _MAX_XML_BYTES:
            raise ArtifactError(
                f"{path} is larger than {_MAX_XML_BYTES >> 20} MiB",
                "an OpenVINO model's .xml is small: export it again",
            )
        with path.open("rb") as file:
            parser.ParseFile(file)
    except expat.ExpatError as error:
        raise ArtifactError(
            f"{path} is damaged or incomplete ({error})", "export it again"
        ) from error
    return handler.manifests
