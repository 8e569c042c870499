"""Manifests behind a file and beside it: for formats that need no reader of their own."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from tinyvit.errors import ArtifactError
from tinyvit.runtimes.formats import Format
from tinyvit.runtimes.formats.sidecar import SidecarFormat, manifest_path
from tinyvit.runtimes.formats.trailer import MANIFEST, TrailerFormat, append

BODY = b"\0\0\0\0TFL3" + bytes(range(256)) * 20
TRAILED = TrailerFormat("litert", ".tflite", b"TFL3", at=4)
BESIDE = SidecarFormat("tensorrt", ".engine", (b"ptrt", b"ftrt"))


def digest(format: Format, path: Path) -> str:
    made = hashlib.sha256()
    format.update_hash(path, made)
    return made.hexdigest()


@pytest.fixture
def trailed(tmp_path: Path) -> Path:
    path = tmp_path / "a.tflite"
    path.write_bytes(append(BODY, {MANIFEST: '{"a": 1}', "labels.txt": "cat\ndog\n"}))
    return path


def test_a_manifest_behind_the_file(trailed: Path) -> None:
    assert trailed.read_bytes().startswith(BODY)
    assert TRAILED.recognizes(trailed, BODY)
    assert not TRAILED.recognizes(trailed, b"PK" + BODY)
    assert TRAILED.manifests(trailed) == ['{"a": 1}']
    assert zipfile.ZipFile(trailed).read("labels.txt") == b"cat\ndog\n"


def test_the_same_files_give_the_same_bytes_and_nothing_is_appended_twice() -> None:
    once = append(BODY, {"b": "2", "a": "1"})
    assert once == append(BODY, {"a": "1", "b": "2"})
    with pytest.raises(ValueError, match="already"):
        append(once, {"c": "3"})


def test_the_content_is_all_but_the_manifest(trailed: Path) -> None:
    before = digest(TRAILED, trailed)
    for files, same in (
        ({MANIFEST: "{}", "labels.txt": "cat\ndog\n"}, True),
        ({MANIFEST: "{}", "labels.txt": "cat\ncow\n"}, False),
    ):
        trailed.write_bytes(append(BODY, files))
        assert (digest(TRAILED, trailed) == before) is same
    trailed.write_bytes(
        append(BODY[:-1] + b"x", {MANIFEST: '{"a": 1}', "labels.txt": "cat\ndog\n"})
    )
    assert digest(TRAILED, trailed) != before


def test_without_an_archive_there_is_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(BODY)
    assert TRAILED.manifests(path) == []
    assert digest(TRAILED, path) == hashlib.sha256(BODY).hexdigest()


def test_damaged_and_hostile_archives(trailed: Path) -> None:
    whole = trailed.read_bytes()
    at = whole.index(b'{"a": 1}')
    trailed.write_bytes(whole[:at] + b"X" + whole[at + 1 :])
    with pytest.raises(ArtifactError, match="damaged"):
        TRAILED.manifests(trailed)
    trailed.write_bytes(BODY)
    with zipfile.ZipFile(trailed, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, "x" * 10_000_000)
    with pytest.raises(ArtifactError, match="compressed"):
        TRAILED.manifests(trailed)
    trailed.write_bytes(append(BODY, {str(i): "" for i in range(100)}))
    with pytest.raises(ArtifactError, match="has 100 files"):
        TRAILED.manifests(trailed)


def test_a_manifest_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.int8.engine"
    path.write_bytes(b"ptrt" + BODY)
    assert BESIDE.recognizes(path, path.read_bytes())
    assert not BESIDE.recognizes(path, BODY)
    assert BESIDE.manifests(path) == []
    before = digest(BESIDE, path)
    manifest_path(path).write_text('{"a": 1}')
    assert manifest_path(path).name == "a.int8.engine.json"
    assert BESIDE.manifests(path) == ['{"a": 1}']
    assert digest(BESIDE, path) == before == hashlib.sha256(path.read_bytes()).hexdigest()
    manifest_path(path).write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ArtifactError, match="cannot be read"):
        BESIDE.manifests(path)
