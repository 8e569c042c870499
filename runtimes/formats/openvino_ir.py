"""OpenVINO IR: an .xml, and its weights in a .bin beside it. The manifest is in net/rt_info.

The .xml goes through a streaming parser that refuses document types; its size and depth are bounded.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.files import update_hash
from tinyvit.manifest import MANIFEST_KEY, MAX_BYTES

_OURS = ["net", "rt_info", MANIFEST_KEY]
_ROOT = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*\?>)?\s*(<!--.*?-->\s*)*<net[\s>]", re.DOTALL)
_MAX_XML_BYTES, _MAX_DEPTH = 4 * MAX_BYTES, 256


class OpenVinoIr:
    """See `Format`."""

    name = "openvino-ir"
    suffix = ".xml"

    def recognizes(self, path: Path, head: bytes) -> bool:
        """See `Format`."""
        if path.suffix.lower() == ".bin" and path.with_suffix(".xml").is_file():
            raise ArtifactError(
                f"{path} holds only the weights of an OpenVINO model",
                f"open {path.with_suffix('.xml').name} beside it",
            )
        return _ROOT.match(head) is not None

    def manifests(self, path: Path) -> list[str]:
        """See `Format`."""
        return _read(path)

    def companions(self, path: Path) -> tuple[Path, ...]:
        """See `Format`: the weights."""
        return (weights(path),)

    def digest(self, path: Path, into: hashlib._Hash) -> None:
        """See `Format`: the elements, attributes and text of the .xml but net/rt_info/tinyvit, then the .bin."""
        _read(path, into)
        update_hash(weights(path), into)


OPENVINO_IR = OpenVinoIr()


def weights(path: Path) -> Path:
    """The .bin that belongs to an IR's .xml; raises ArtifactError where it is missing."""
    beside = path.with_suffix(".bin")
    if not beside.is_file():
        raise ArtifactError(
            f"{path} has no {beside.name} beside it",
            "an OpenVINO model is two files: keep them together",
        )
    return beside


class _Ir:
    """What the XML parser meets in an IR, in the order of the file.

    texts: the values of net/rt_info/tinyvit/manifest, where OpenVINO's set_rt_info(text, ["tinyvit", "manifest"]) leaves it.
    digest, where there is one, gets all but net/rt_info/tinyvit; white space around text is only indentation, and does not count.
    """

    def __init__(self, path: Path, digest: hashlib._Hash | None) -> None:
        self.texts: list[str] = []
        self._path, self._digest = path, digest
        self._above: list[str] = []
        self._text: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._above.append(name)
        if len(self._above) > _MAX_DEPTH:
            raise ArtifactError(
                f"{self._path} is nested too deeply",
                "the file is damaged or hostile: export it again",
            )
        if self._above == [*_OURS, "manifest"]:
            self.texts.append(attributes.get("value", ""))
        self._count(name, sorted(attributes.items()))

    def end(self, name: str) -> None:
        self._count(name)
        self._above.pop()

    def text(self, text: str) -> None:
        if self._digest and not self._ours():
            self._text.append(text)

    def refuse(self, *_: object) -> None:
        cause = f"{self._path} declares a document type, which no OpenVINO model does"
        raise ArtifactError(cause, "the file is hostile: export it again")

    def _ours(self) -> bool:
        return self._above[: len(_OURS)] == _OURS

    def _count(self, *event: object) -> None:
        if self._digest and not self._ours():
            self._digest.update(json.dumps(["".join(self._text).strip(), *event]).encode("ascii"))
            self._text.clear()


def _read(path: Path, digest: hashlib._Hash | None = None) -> list[str]:
    """The manifests of an IR's .xml, all else into `digest`; raises ArtifactError where it is damaged, hostile or too large."""
    from xml.parsers import expat

    met, parser = _Ir(path, digest), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = (
        met.start,
        met.end,
        met.text,
    )
    parser.StartDoctypeDeclHandler = met.refuse
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
    return met.texts
