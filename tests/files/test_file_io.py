"""Files are written completely or not at all, and outputs replace only what they may replace."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest

from tinyvit.errors import RequestError
from tinyvit.files.file_io import (
    explain_os_error,
    listing_sha256,
    publish_files,
    read_text,
    refuse_existing,
    sha256,
    size_bytes,
    write_atomically,
)
from tinyvit.files.staging import staging_folder


def test_a_file_is_written_with_its_parent_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "text.txt"
    assert write_atomically(path, "señor\udcff") == path
    assert path.read_bytes() == b"se\xc3\xb1or\xff"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in path.parent.iterdir()] == ["text.txt"]


def test_text_is_read_as_editors_write_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfse\xc3\xb1or\r\nb\rc\n")
    assert read_text(path, 15) == "señor\nb\nc\n"
    with pytest.raises(ValueError, match="it is larger than 14 bytes"):
        read_text(path, 14)
    path.write_text("a", encoding="utf-16")
    with pytest.raises(ValueError, match="it is in UTF-16, not in utf-8"):
        read_text(path, 13)
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        read_text(path, 13)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "missing.txt", 13)


def test_a_failure_leaves_neither_files_nor_new_folders(tmp_path: Path) -> None:
    def fail_while_writing() -> None:
        with staging_folder(tmp_path / "new" / "deep" / "out.onnx") as folder:
            (folder / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_while_writing()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_artifact_replaces_another(tmp_path: Path) -> None:
    for parent, text in ((tmp_path / "staged", "new"), (tmp_path, "old")):
        (parent / "model.mlpackage").mkdir(parents=True)
        (parent / "model.mlpackage" / "Manifest.json").write_text(text)
    published = publish_files([tmp_path / "staged" / "model.mlpackage"], tmp_path)
    assert published == [tmp_path / "model.mlpackage"]
    assert (tmp_path / "model.mlpackage" / "Manifest.json").read_text() == "new"


def test_existing_outputs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    (tmp_path / "artifact" / "inside").mkdir(parents=True)
    refuse_existing(tmp_path / "missing.onnx", overwrite=False)
    refuse_existing(tmp_path / "model.onnx", overwrite=True)
    with pytest.raises(RequestError, match=r"model\.onnx exists: .*--overwrite"):
        refuse_existing(tmp_path / "model.onnx", overwrite=False)
    with pytest.raises(RequestError, match="is a folder"):
        refuse_existing(tmp_path / "artifact", overwrite=True)
    (tmp_path / "artifact" / "Manifest.json").touch()
    refuse_existing(tmp_path / "artifact", overwrite=True)


def test_sizes_and_hashes_are_those_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.bin").write_bytes(b"defg")
    assert (size_bytes(tmp_path / "a.bin"), size_bytes(tmp_path)) == (3, 7)
    assert sha256(tmp_path / "a.bin") == hashlib.sha256(b"abc").hexdigest()
    listing = listing_sha256([("a", tmp_path / "a.bin"), ("b", tmp_path / "sub" / "b.bin")])
    assert listing == hashlib.sha256(b"a\x003\nb\x004\n").hexdigest()


@pytest.mark.parametrize(
    ("number", "reason", "remedy"),
    [
        (errno.ENOSPC, "the disk is full", "free space there"),
        (errno.EROFS, "strerror", "check its permissions"),
        (errno.ENOTDIR, "strerror", "a part of this path is a file, not a folder"),
        (errno.ENAMETOOLONG, "strerror", "give a shorter name"),
        (errno.EIO, "strerror", "check the path"),
    ],
)
def test_os_errors_are_explained(number: int, reason: str, remedy: str) -> None:
    found_reason, found_remedy = explain_os_error(OSError(number, "strerror", "x"))
    assert found_reason == reason
    assert found_remedy.startswith(remedy)
