"""Manifests are stored in an archive at the end of a file, or in a file next to it."""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
from pathlib import Path

import pytest

from tinyvit.errors import ArtifactError
from tinyvit.runtimes.artifact import read_manifest
from tinyvit.runtimes.formats import Format
from tinyvit.runtimes.formats.sidecar import SidecarFormat, manifest_path
from tinyvit.runtimes.formats.trailer import MANIFEST_FILE, TrailerFormat, add_archive

BODY = b"\0\0\0\0TFL3" + bytes(range(256)) * 20
TRAILER = TrailerFormat("litert", ".tflite", b"TFL3", magic_offset=4)
SIDECAR = SidecarFormat("tensorrt", ".engine", (b"ptrt", b"ftrt"))


def compute_hash(format: Format, path: Path) -> str:
    digest = hashlib.sha256()
    format.update_hash(path, digest)
    return digest.hexdigest()


@pytest.fixture
def file_with_archive(tmp_path: Path) -> Path:
    """A file that ends with an archive of a manifest and labels."""
    path = tmp_path / "a.tflite"
    path.write_bytes(add_archive(BODY, {MANIFEST_FILE: '{"a": 1}', "labels.txt": "cat\ndog\n"}))
    return path


def test_a_manifest_is_read_from_an_archive(file_with_archive: Path) -> None:
    assert file_with_archive.read_bytes().startswith(BODY)
    assert TRAILER.recognizes(file_with_archive, BODY)
    assert not TRAILER.recognizes(file_with_archive, b"PK" + BODY)
    assert TRAILER.read_manifests(file_with_archive) == ['{"a": 1}']
    assert zipfile.ZipFile(file_with_archive).read("labels.txt") == b"cat\ndog\n"


def test_equal_files_give_equal_bytes() -> None:
    assert add_archive(BODY, {"b": "2", "a": "1"}) == add_archive(BODY, {"a": "1", "b": "2"})


def test_a_second_archive_is_refused() -> None:
    with pytest.raises(ValueError, match="already"):
        add_archive(add_archive(BODY, {"a": "1"}), {"c": "3"})


@pytest.mark.parametrize(
    ("body", "manifest", "labels", "same"),
    [
        (BODY, "{}", "cat\ndog\n", True),
        (BODY, "{}", "cat\ncow\n", False),
        (BODY[:-1] + b"x", '{"a": 1}', "cat\ndog\n", False),
    ],
)
def test_the_content_is_everything_but_the_manifest(
    file_with_archive: Path, body: bytes, manifest: str, labels: str, same: bool
) -> None:
    before = compute_hash(TRAILER, file_with_archive)
    file_with_archive.write_bytes(
        add_archive(body, {MANIFEST_FILE: manifest, "labels.txt": labels})
    )
    assert (compute_hash(TRAILER, file_with_archive) == before) is same


def test_the_hash_does_not_cover_the_archive(file_with_archive: Path) -> None:
    expected = hashlib.sha256(BODY + b"labels.txt\0cat\ndog\n").hexdigest()
    assert compute_hash(TRAILER, file_with_archive) == expected


def test_without_an_archive_there_is_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(BODY)
    assert TRAILER.read_manifests(path) == []
    assert compute_hash(TRAILER, path) == hashlib.sha256(BODY).hexdigest()


def test_damaged_archives_are_refused(file_with_archive: Path) -> None:
    data = file_with_archive.read_bytes()
    position = data.index(b'{"a": 1}')
    file_with_archive.write_bytes(data[:position] + b"X" + data[position + 1 :])
    with pytest.raises(ArtifactError, match="damaged"):
        TRAILER.read_manifests(file_with_archive)


def test_hostile_archives_are_refused(file_with_archive: Path) -> None:
    file_with_archive.write_bytes(BODY)
    with zipfile.ZipFile(file_with_archive, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST_FILE, "x" * 10_000_000)
    with pytest.raises(ArtifactError, match="compressed"):
        TRAILER.read_manifests(file_with_archive)
    file_with_archive.write_bytes(add_archive(BODY, {str(i): "" for i in range(100)}))
    with pytest.raises(ArtifactError, match="has 100 files"):
        TRAILER.read_manifests(file_with_archive)


def test_a_manifest_is_read_from_a_side_car(tmp_path: Path) -> None:
    path = tmp_path / "a.int8.engine"
    path.write_bytes(b"ptrt" + BODY)
    assert SIDECAR.recognizes(path, path.read_bytes())
    assert not SIDECAR.recognizes(path, BODY)
    assert SIDECAR.read_manifests(path) == []
    assert SIDECAR.list_companions(path) == ()
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert compute_hash(SIDECAR, path) == expected
    manifest = tmp_path / "a.int8.engine.json"
    manifest.write_text('{"a": 1}')
    assert manifest_path(path) == manifest
    assert SIDECAR.read_manifests(path) == ['{"a": 1}']
    assert SIDECAR.list_companions(path) == (manifest,)
    assert compute_hash(SIDECAR, path) == expected
    manifest.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ArtifactError, match="cannot be read"):
        SIDECAR.read_manifests(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "/proc/kmsg", "missing", "folder"])
def test_a_special_file_beside_an_engine_file_is_refused(tmp_path: Path, kind: str) -> None:
    path, manifest = tmp_path / "a.engine", tmp_path / "a.engine.json"
    path.write_bytes(b"vtrt" + bytes(100))
    if kind == "pipe":
        os.mkfifo(manifest)
    elif kind == "folder":
        manifest.mkdir()
    else:
        manifest.symlink_to(kind)
    with pytest.raises(ArtifactError, match=r"a\.engine\.json cannot be read"):
        read_manifest(path)
    manifest.unlink() if kind != "folder" else manifest.rmdir()
    assert read_manifest(path) is None


def test_an_archive_with_a_large_table_of_contents_is_refused_before_it_is_read(
    tmp_path: Path,
) -> None:
    """The table has 100,000 entries of 47 bytes, 4.7 MB, of which 1 MiB may be read."""
    entry = b"PK\1\2" + bytes([20, 3, 20]) + bytes(21) + b"\1\0" + bytes(16) + b"a"
    end = b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 65535, 65535, 4_700_000, len(BODY), 0)
    path = tmp_path / "a.tflite"
    path.write_bytes(BODY + entry * 100_000 + end)
    with pytest.raises(ArtifactError, match=r"is damaged \(a header is too long\)"):
        TRAILER.read_manifests(path)


def test_an_archive_with_large_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(BODY)
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("a", "b", "c"):
            archive.writestr(name, b"\0" * (48 * 2**20))
    with pytest.raises(ArtifactError, match="has 144 MiB of files, more than 128"):
        TRAILER.read_manifests(path)
