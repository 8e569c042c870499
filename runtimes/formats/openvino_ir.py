"""The format OpenVINO IR: an .xml file with the graph, and a .bin file with the weights next to it.

The manifest is the element net/rt_info/tinyvit/manifest of the .xml file, which OpenVINO's
`Model.set_rt_info(text, ["tinyvit", "manifest"])` writes.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.files.file_io import update_hash
from tinyvit.files.regular_files import check_regular_file
from tinyvit.manifest import MANIFEST_KEY
from tinyvit.runtimes.formats import MAX_FILE_BYTES
from tinyvit.runtimes.formats.file_errors import unreadable_error
from tinyvit.runtimes.formats.network_graph import NetworkGraph
from tinyvit.runtimes.formats.openvino_layers import name_if_foreign
from tinyvit.runtimes.formats.openvino_network import read_network
from tinyvit.runtimes.formats.openvino_xml import XmlVisitor, parse_xml, parser_errors
from tinyvit.runtimes.formats.stated_operators import StatedNetwork

_MANIFEST_PATH = ["net", "rt_info", MANIFEST_KEY, "manifest"]
"""Names of the nested elements that lead to the manifest."""

_NETWORK_NAME = "tinyvit"
"""Name of the network in every .xml file that tinyvit-export writes."""

_MODEL_INFO_PATH = ["net", "rt_info", "model_info"]
"""The element with the description for OpenVINO's Model API, which tinyvit-export writes."""

_MAX_FOREIGN_LAYERS = 100
"""Number of types of layers that are remembered for a message."""


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
        return _find_root(head) == "net"

    def read_manifests(self, path: Path) -> list[str]:
        """Read the values of all elements net/rt_info/tinyvit/manifest."""
        return _parse_xml(path).manifests

    def list_companions(self, path: Path) -> tuple[Path, ...]:
        """Return the .bin file."""
        return (weights_path(path),)

    def names_exporter(self, path: Path) -> bool:
        """Return whether the network has the name and the description from tinyvit-export."""
        description = _parse_xml(path)
        return description.network_name == _NETWORK_NAME and description.has_model_info

    def read_graph(self, path: Path) -> NetworkGraph:
        """Read which types of layers no image classifier needs.

        The engine computes the cost from the sizes that OpenVINO states, so the others are left
        out.
        """
        return NetworkGraph(foreign_operators=set(_parse_xml(path).foreign_layers))

    def read_stated_network(self, path: Path) -> StatedNetwork:
        """Read the operators of a file; see `StatesOperators`."""
        return read_network(path)

    def update_hash(self, path: Path, digest: hashlib._Hash) -> None:
        """Update a hash with all bytes of the .xml except the manifest, then with the .bin."""
        description, data = _parse_xml(path), path.read_bytes()
        position = 0
        for manifest, start in zip(description.manifests, description.manifest_starts):
            beginning, text = b'<manifest value="', _escape_attribute(manifest)
            # A manifest that is not written as OpenVINO writes it could hide other bytes.
            if data.startswith(beginning + text + b'"', start):
                digest.update(data[position : start + len(beginning)])
                position = start + len(beginning) + len(text)
        digest.update(data[position:])
        update_hash(weights_path(path), digest)


OPENVINO_IR = OpenVinoIrFormat()


def weights_path(path: Path) -> Path:
    """Return the path of a model's weights.

    Args:
        path: Path of the .xml file.

    Returns:
        Path of the .bin file.

    Raises:
        ArtifactError: If there is no such file, if it is no regular file, or if it is larger than
            2 GiB.
    """
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ArtifactError(
            f"{path} has no {weights.name} next to it",
            "an OpenVINO model is two files: keep them together",
        )
    try:
        size_bytes = check_regular_file(weights).st_size
    except OSError as error:
        raise unreadable_error(weights, error) from error
    if size_bytes > MAX_FILE_BYTES:
        raise ArtifactError(f"{weights} is larger than 2 GiB", "give an exported file")
    return weights


def _escape_attribute(text: str) -> bytes:
    """Return an attribute's value as OpenVINO writes it between double quotes."""
    for character, reference in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(character, reference)
    return text.encode("utf-8")


def _find_root(head: bytes) -> str:
    """Return the name of the first element of an XML file; "" if there is none.

    Args:
        head: The first bytes of a file of any format.
    """
    from xml.parsers import expat

    names: list[str] = []
    # The second parser ignores the encoding in the file, which may be unknown. `_parse_xml` then
    # refuses the model because of its encoding.
    for parser in (expat.ParserCreate(), expat.ParserCreate("utf-8")):
        parser.StartElementHandler = lambda name, _attributes: names.append(name)
        with suppress(*parser_errors()):
            parser.Parse(head, False)
        if names:
            return names[0]
    return ""


class _XmlDescription(XmlVisitor):
    """Collects what this module needs to know about a file.

    Attributes:
        manifests: JSON texts of the manifests.
        manifest_starts: For each manifest, the position in the file where its element begins.
        network_name: Name of the network.
        has_model_info: Whether there is an element `_MODEL_INFO_PATH`.
        foreign_layers: Types of layers that are not allowed, at most `_MAX_FOREIGN_LAYERS`.
    """

    def __init__(self) -> None:
        """Begin without any elements."""
        super().__init__()
        self.manifests: list[str] = []
        self.manifest_starts: list[int] = []
        self.network_name = ""
        self.has_model_info = False
        self.foreign_layers: set[str] = set()

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Collect what an element states; see `XmlVisitor.start`."""
        if name == "layer" and len(self.foreign_layers) < _MAX_FOREIGN_LAYERS:
            foreign_layer = name_if_foreign(attributes.get("type", ""))
            if foreign_layer:
                self.foreign_layers.add(foreign_layer)
        if self.open_elements == ["net"]:
            self.network_name = attributes.get("name", "")
        elif self.open_elements == _MODEL_INFO_PATH:
            self.has_model_info = True
        elif self.open_elements == _MANIFEST_PATH:
            self.manifests.append(attributes.get("value", ""))
            self.manifest_starts.append(self.position)


def _parse_xml(path: Path) -> _XmlDescription:
    """Read what this module needs to know about an .xml file.

    The last result is kept, because opening an artifact asks for it several times.
    """
    try:
        status = check_regular_file(path)
    except OSError as error:
        raise unreadable_error(path, error) from error
    return _parse_xml_version(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1)
def _parse_xml_version(path: Path, _size_bytes: int, _modified_ns: int) -> _XmlDescription:
    """Read an .xml file that has a size and a time of its last change."""
    description = _XmlDescription()
    parse_xml(path, description)
    return description
