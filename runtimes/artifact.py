"""What a file is and what it says of itself, read with no engine and no onnx package.

In: a path. Out: its format, its manifest, the hash of its content. An ONNX file is walked field by field at its top level
only (protobuf's wire format), an OpenVINO IR through a streaming XML parser that refuses document types; both are bounded.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.manifest import KEY, MAX_BYTES, Manifest

Format: TypeAlias = Literal["onnx", "openvino-ir"]
Buffer: TypeAlias = "mmap.mmap | bytes"

_IR_OURS = ["net", "rt_info", KEY]
_IR_ROOT = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*\?>)?\s*(<!--.*?-->\s*)*<net[\s>]", re.DOTALL)
_IR_MAX_BYTES, _IR_MAX_DEPTH = 4 * MAX_BYTES, 256

_IR_VERSION, _GRAPH, _METADATA = 1, 7, 14  # fields of onnx's ModelProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protobuf
_MAX_FIELDS = 100_000


@dataclass(frozen=True)
class Artifact:
    """An exported file. manifest is None for a file that tinyvit-export did not make."""

    path: Path
    manifest: Manifest | None

    @property
    def format(self) -> Format:
        """The file's format, by its content."""
        return detect_format(self.path)


class _Field(NamedTuple):
    number: int
    wire: int
    start: int
    payload: int
    end: int


def open_artifact(path: str | Path) -> Artifact:
    """The file at `path` with its manifest.

    Raises ArtifactError where it is missing, damaged, or of no known format, RequestError where `path` is no path.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise RequestError(f"an object of type {type(path).__name__} is not a path", "give the path of an exported file (.onnx, .xml)")
    path = Path(path)
    return Artifact(path, read_manifest(path))


def detect_format(path: str | Path) -> Format:
    """The format by the file's content, whatever its name; raises ArtifactError where it is neither."""
    path = Path(path)
    with _mapped(path) as data:
        if _IR_ROOT.match(data[:4096]):
            return "openvino-ir"
        if path.suffix.lower() == ".bin" and path.with_suffix(".xml").is_file():
            raise ArtifactError(f"{path} holds only the weights of an OpenVINO model", f"open {path.with_suffix('.xml').name} beside it")
        try:
            kinds = {(field.number, field.wire) for field in _fields(data)}
        except ValueError as error:
            known = path.suffix.lower() in (".onnx", ".xml")
            cause = f"{path} is damaged or incomplete ({error})" if known else f"{path} is neither ONNX nor an OpenVINO model"
            raise ArtifactError(cause, "give a .onnx or .xml file that tinyvit-export wrote, or export again") from error
    if not {(_IR_VERSION, _VARINT), (_GRAPH, _BYTES)} <= kinds:
        raise ArtifactError(f"{path} is neither ONNX nor an OpenVINO model", "give a .onnx or .xml file that tinyvit-export wrote")
    return "onnx"


def read_manifest(path: str | Path) -> Manifest | None:
    """The manifest inside the file, None where it has none; raises ArtifactError where it or the file is damaged."""
    path = Path(path)
    texts = _onnx_texts(path) if detect_format(path) == "onnx" else _read_ir(path)
    if len(texts) > 1:
        raise ArtifactError(f"{path} has {len(texts)} manifests", "the file was tampered with: export it again")
    return Manifest.from_json(texts[0]) if texts else None


def content_sha256(path: str | Path) -> str:
    """Hex digest of all but the manifest.

    Of an ONNX file: its top-level fields but metadata_props, in the file's order. Of an IR: the elements, attributes and text of
    its .xml but net/rt_info/tinyvit, then its .bin.
    """
    path, digest = Path(path), hashlib.sha256()
    if detect_format(path) == "onnx":
        with _mapped(path) as data, memoryview(data) as view:
            for field in _fields(data):
                if field.number != _METADATA:
                    digest.update(view[field.start : field.end])
    else:
        _read_ir(path, digest)
        with weights(path).open("rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()


def weights(path: Path) -> Path:
    """The .bin that belongs to an IR's .xml; raises ArtifactError where it is missing."""
    beside = path.with_suffix(".bin")
    if not beside.is_file():
        raise ArtifactError(f"{path} has no {beside.name} beside it", "an OpenVINO model is two files: keep them together")
    return beside


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    try:
        if path.is_dir():
            raise ArtifactError(f"{path} is a folder", "give the exported file itself")
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise ArtifactError(f"{path} is empty: 0 bytes", "export it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArtifactError(f"{path} cannot be read ({reason})", "check the path") from error


def _varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    """(value, position after it); raises ValueError past `end` or after protobuf's ten bytes."""
    value = 0
    for i in range(10):
        if at + i >= end:
            raise ValueError("it ends in the middle of a field")
        value |= (data[at + i] & 0x7F) << (7 * i)
        if data[at + i] < 0x80:
            return value, at + i + 1
    raise ValueError("a number of more than ten bytes")


def _fields(data: Buffer) -> Iterator[_Field]:
    """The fields of one protobuf message, not descending into them; raises ValueError where the bytes are none."""
    at, end = 0, len(data)
    for _ in range(_MAX_FIELDS):
        if at == end:
            return
        tag, payload = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        after = payload
        if wire == _VARINT:
            after = _varint(data, payload, end)[1]
        elif wire == _BYTES:
            size, payload = _varint(data, payload, end)
            after = payload + size
        elif wire in (_FIXED64, _FIXED32):
            after = payload + (8 if wire == _FIXED64 else 4)
        else:
            raise ValueError(f"no field starts at byte {at}")
        if number == 0 or after > end:
            raise ValueError("it ends in the middle of a field" if number else f"no field starts at byte {at}")
        yield _Field(number, wire, at, payload, after)
        at = after
    raise ValueError(f"more than {_MAX_FIELDS} fields")


def _onnx_texts(path: Path) -> list[str]:
    """The values of metadata_props whose key is ours."""
    texts = []
    with _mapped(path) as data:
        for field in _fields(data):
            if (field.number, field.wire) != (_METADATA, _BYTES):
                continue
            if field.end - field.payload > MAX_BYTES:
                raise ArtifactError(
                    f"the metadata of {path} are larger than {MAX_BYTES >> 20} MiB", "the file is damaged or hostile: export it again"
                )
            entry = data[field.payload : field.end]
            try:
                parts = {part.number: entry[part.payload : part.end] for part in _fields(entry)}
                if parts.get(1) == KEY.encode():
                    texts.append(parts.get(2, b"").decode("utf-8"))
            except ValueError as error:
                raise ArtifactError(f"the metadata of {path} are damaged ({error})", "export the file again") from error
    return texts


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
        if len(self._above) > _IR_MAX_DEPTH:
            raise ArtifactError(f"{self._path} is nested too deeply", "the file is damaged or hostile: export it again")
        if self._above == [*_IR_OURS, "manifest"]:
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
        return self._above[: len(_IR_OURS)] == _IR_OURS

    def _count(self, *event: object) -> None:
        if self._digest and not self._ours():
            self._digest.update(json.dumps(["".join(self._text).strip(), *event]).encode("ascii"))
            self._text.clear()


def _read_ir(path: Path, digest: hashlib._Hash | None = None) -> list[str]:
    """The manifests of an IR's .xml, all else into `digest`; raises ArtifactError where it is damaged, hostile or too large."""
    from xml.parsers import expat

    met, parser = _Ir(path, digest), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = met.start, met.end, met.text
    parser.StartDoctypeDeclHandler = met.refuse
    try:
        if path.stat().st_size > _IR_MAX_BYTES:
            raise ArtifactError(f"{path} is larger than {_IR_MAX_BYTES >> 20} MiB", "an OpenVINO model's .xml is small: export it again")
        with path.open("rb") as file:
            parser.ParseFile(file)
    except expat.ExpatError as error:
        raise ArtifactError(f"{path} is damaged or incomplete ({error})", "export it again") from error
    return met.texts
