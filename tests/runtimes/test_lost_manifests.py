"""Files that tinyvit-export wrote and that lost their manifest are refused, not guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runtimes.conftest import ArtifactBuilder
from tinyvit.errors import ArtifactError
from tinyvit.runtimes.artifact import content_sha256, read_artifact, read_manifest
from tinyvit.runtimes.classifier import Classifier
from tinyvit.runtimes.formats.trailer import MANIFEST_FILE, add_archive

HEADS = {".ort": b"\0\0\0\0ORTM", ".tflite": b"\0\0\0\0TFL3", ".pte": b"\0\0\0\0ET12"}
MARKER = b"\x0c\0\0\0tinyvit-edge\0"
FOREIGN_BODY = bytes(range(256)) * 4
ARCHIVE_BYTES = 2 * (30 + 46) + 2 * len("labels.txt") + 2 * len("tinyvit.json") + 22 + 8 + 2


def write_file(path: Path, *, marked: bool) -> bytes:
    """Write a file with an archive of a manifest and labels, and return its bytes."""
    body = HEADS[path.suffix] + FOREIGN_BODY + (MARKER if marked else b"")
    data = add_archive(body, {MANIFEST_FILE: '{"a": 1}', "labels.txt": "a\n"})
    assert len(data) - len(body) == ARCHIVE_BYTES
    path.write_bytes(data)
    return data


@pytest.mark.parametrize("suffix", HEADS)
def test_every_cut_through_the_archive_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    data = write_file(path, marked=True)
    for removed in range(1, ARCHIVE_BYTES + 1):
        path.write_bytes(data[:-removed])
        with pytest.raises(ArtifactError, match="its manifest is missing or incomplete"):
            read_manifest(path)


@pytest.mark.parametrize("suffix", HEADS)
def test_the_remains_of_an_archive_are_enough(tmp_path: Path, suffix: str) -> None:
    """An older file has no marker in the model."""
    path = tmp_path / f"a{suffix}"
    data = write_file(path, marked=False)
    for removed in (1, 22, 100):
        path.write_bytes(data[:-removed])
        with pytest.raises(ArtifactError, match="copy the whole file again"):
            read_manifest(path)
    path.write_bytes(data.replace(b"PK\5\6", b"XX\5\6"))
    with pytest.raises(ArtifactError, match="missing or incomplete"):
        read_manifest(path)


@pytest.mark.parametrize("suffix", HEADS)
def test_many_appended_bytes_hide_no_manifest(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    data = write_file(path, marked=True)
    path.write_bytes(data + bytes(70_000))  # ZIP readers look at the last 65,557 bytes.
    with pytest.raises(ArtifactError, match="missing or incomplete"):
        read_manifest(path)


@pytest.mark.parametrize("suffix", HEADS)
def test_a_file_of_others_has_no_manifest(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for extra in (b"", b"tinyvit.json", b"tinyvit-edge", b"PK\3\4", b"PK\5\6" + bytes(9)):
        path.write_bytes(HEADS[suffix] + FOREIGN_BODY + extra)
        assert read_manifest(path) is None


@pytest.mark.parametrize("suffix", HEADS)
@pytest.mark.parametrize("appended", [b"\0", bytes(1024), b"PK\3\4" + bytes(100)])
def test_appended_bytes_change_the_hash(tmp_path: Path, suffix: str, appended: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    data = write_file(path, marked=True)
    before = content_sha256(path)
    path.write_bytes(data + appended)
    assert content_sha256(path) != before


def test_every_byte_of_an_archive_is_hashed_or_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    data = write_file(path, marked=True)
    before = content_sha256(path)
    unnoticed = []
    for position in range(len(data) - ARCHIVE_BYTES, len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        path.write_bytes(changed)
        try:
            read_manifest_text = path.read_bytes().count(b'{"a": 1}')
            if content_sha256(path) == before and read_manifest_text:
                unnoticed.append(position)
        except ArtifactError:
            continue
    assert unnoticed == []


def test_an_onnx_file_without_its_last_field_is_refused(
    build_artifact: ArtifactBuilder, tmp_path: Path
) -> None:
    onnx: Any = pytest.importorskip("onnx")
    model = onnx.load(build_artifact(manifest=False))
    for producer, is_refused in (("pytorch", False), ("tinyvit-edge", True)):
        model.producer_name = producer
        path = tmp_path / f"{producer}.onnx"
        onnx.save(model, path)
        if is_refused:
            with pytest.raises(ArtifactError, match="its manifest is missing"):
                Classifier(path)
        else:
            with pytest.warns(UserWarning, match="has no manifest"):
                Classifier(path).close()


def test_an_ir_without_its_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.with_suffix(".bin").write_bytes(b"")
    info = "<rt_info><model_info><labels value='a' /></model_info></rt_info>"
    path.write_text(f'<net name="tinyvit">{info}</net>')
    with pytest.raises(ArtifactError, match="its manifest is missing"):
        read_artifact(path)
    for text in (f'<net name="other">{info}</net>', '<net name="tinyvit" />'):
        path.write_text(text)
        assert read_artifact(path).manifest is None


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_bytes_in_or_after_the_metadata_change_the_hash(
    copy_artifact: ArtifactBuilder, suffix: str
) -> None:
    path = copy_artifact(suffix)
    before, data = content_sha256(path), path.read_bytes()
    entry = b"\n\x05other\x12\x7f" + b"x" * 127
    appended = {
        ".onnx": (b"r" + bytes([len(entry) & 0x7F | 0x80, 1]) + entry, b"\xf8\x01\0"),
        ".xml": (b" " * 1024, b"<!-- comment -->", b"\n"),
    }[suffix]
    for extra in appended:
        path.write_bytes(data + extra)
        assert content_sha256(path) != before
