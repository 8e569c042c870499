"""Hostile ZIP archives at the end of a model file: of the manifest and the labels."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.helpers.fake_tensorrt import make_manifest
from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.hostile_files import HostileFile
from tinyvit.manifest import Manifest
from tinyvit.runtimes.formats.trailer import LABELS_FILE, MANIFEST_FILE

_VALUES: tuple[Any, ...] = (None, True, -1, 2**63, 10**400, 1e308, float("nan"), "", HOSTILE_TEXT)
_VALUES += ("\ud800", [], {}, [[]] * 1000, {"": {}}, "x" * 2000, [HOSTILE_TEXT] * 10)


def craft_trailers(
    name: str, make_model: Callable[[], bytes], generator: random.Random
) -> Iterator[HostileFile]:
    """Yield files that begin with a valid model.

    Args:
        name: Name of the files.
        make_model: Makes the model without an archive.
        generator: Chooses values.
    """

    def file(description: str, archive: Callable[[int], bytes]) -> HostileFile:
        def write(folder: Path) -> Path:
            path, model = folder / name, make_model()
            path.write_bytes(model + archive(len(model)))
            return path

        return HostileFile(description, write)

    text = make_manifest().to_json()
    for description, members in _list_archives(text):
        yield file(description, lambda start, members=members: _make_zip(start, members))
    for description, make_text in list_manifests(text):
        yield file(
            description,
            lambda start, make_text=make_text: _make_zip(start, [(MANIFEST_FILE, make_text())]),
        )
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        members = [(MANIFEST_FILE, text)]
        yield file(
            f"the compression {method}",
            lambda start, method=method, members=members: _make_zip(start, members, method),
        )
    for offset in range(0, 22, 2):
        for value in (b"\xff\xff", b"\0\0", b"\xff\xff\xff\xff"):
            yield file(
                f"{value!r} at {offset} of the end record",
                lambda start, offset=offset, value=value: _patch(
                    _make_zip(start, [(MANIFEST_FILE, text)]), offset - 22, value
                ),
            )
    for key in json.loads(text):
        value = generator.choice(_VALUES)
        changed = json.dumps({**json.loads(text), key: value})
        yield file(
            f"the field {key} of the manifest",
            lambda start, changed=changed: _make_zip(start, [(MANIFEST_FILE, changed)]),
        )
    yield HostileFile("a link to a device", lambda folder: _link(folder / name))


def _list_archives(text: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield a description and the members of archives."""
    yield "no members", []
    yield "two manifests", [(MANIFEST_FILE, text), (MANIFEST_FILE, text)]
    yield "65 members", [(MANIFEST_FILE, text), *[(f"{i}", "") for i in range(64)]]
    yield "60,000 members", [(f"{i}", "") for i in range(60_000)]
    yield "a folder", [(f"{MANIFEST_FILE}/", "")]
    yield "names that leave the folder", [("../../CANARY", "x"), (MANIFEST_FILE, text)]
    yield "a hostile name", [(HOSTILE_TEXT[:4], "x"), (MANIFEST_FILE, text)]
    yield "60 MiB of labels", [(MANIFEST_FILE, text), (LABELS_FILE, "a\n" * (30 * 2**20))]


def list_manifests(text: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield a description and a function that makes the text, for each hostile manifest.

    Args:
        text: A valid manifest.
    """
    yield "70 MiB of spaces", lambda: " " * (70 * 2**20)
    yield "brackets", lambda: "[" * 1_000_000
    yield "many keys", lambda: "{" + '"a":1,' * 10**6 + '"b":1}'
    yield "a long number", lambda: '{"format":' + "9" * 10**6 + "}"
    yield "no UTF-8", lambda: "\udcff{}"
    manifest = json.loads(text)
    yield "a million labels", lambda: _change(manifest, labels=_labels(10**6))
    yield "two million labels", lambda: _change(manifest, labels=_labels(2 * 10**6))
    hostile = {"names": [HOSTILE_TEXT] * 10, "wnids": ["\ud800"] * 10}
    yield "hostile labels", partial(_change, manifest, labels=hostile)
    yield "hostile texts", partial(_change_texts, manifest)
    golden = {"formula": "chirp", "patterns": list(range(64)), "height": 4096, "width": 4096}
    golden |= {"outputs": [[0.0] * 10] * 64, "tolerances": [1.0]}
    yield "64 large golden inputs", partial(_change, manifest, golden=golden)
    for shape in ([1, 8, 8, 3], [-1, 0, 2**31, 2**31], [2**62] * 4, ["\x1b[2J"] * 4, []):
        tensor = {**manifest["input"], "shape": shape}
        yield f"the input shape {shape!a}", partial(_change, manifest, input=tensor)
    for size in (0, -1, 1, 9, 4096, 2**31, 10**30):
        preprocess = {**manifest["preprocess"], "size": size, "resize": size}
        yield f"the size {size}", partial(_change, manifest, preprocess=preprocess)


def _labels(count: int) -> dict[str, list[str]]:
    return {"names": ["a"] * count, "wnids": [""] * count}


def _change(manifest: dict[str, Any], **changes: Any) -> str:
    """Return the JSON of a manifest with other fields, with the right digest if it is valid."""
    text = json.dumps({**manifest, **changes})
    try:
        return Manifest.from_json(text).to_json()
    except Exception:
        return text


def _change_texts(manifest: dict[str, Any]) -> str:
    """Put hostile text into every field that is a text which no list of values restricts."""
    free = ("model", "variant", "license", "preprocess_source", "labels_source", "target")
    texts = dict.fromkeys(free, HOSTILE_TEXT)
    return _change(manifest, **texts, tools={HOSTILE_TEXT: HOSTILE_TEXT})


def _make_zip(
    start: int, members: list[tuple[str, str]], method: int = zipfile.ZIP_STORED
) -> bytes:
    """Make an archive for the position `start` of a file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            data = content.encode("utf-8", "surrogateescape")
            archive.writestr(
                zipfile.ZipInfo(name.encode("utf-8", "replace").decode()), data, method
            )
    return buffer.getvalue()


def _patch(data: bytes, position: int, value: bytes) -> bytes:
    """Overwrite bytes, counted from the end if the position is negative."""
    start = len(data) + position
    return data[:start] + value + data[start + len(value) :]


def _link(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path
