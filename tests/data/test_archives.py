"""Images are read from an uncompressed tar file where they lie."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tinyvit.data import archives, tar_members
from tinyvit.data.archives import index_tar
from tinyvit.errors import RequestError


def write_tar(path: Path, mode: str, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_members_are_read_by_name(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "a.tar", "w", ("./b/2.jpg", b"two"), ("a/1.png", b"one"), ("notes.txt", b"no")
    )
    readers = index_tar(path).getters
    assert {name: read() for name, read in readers.items()} == {
        "a/1.png": b"one",
        "b/2.jpg": b"two",
    }
    assert list(readers) == ["a/1.png", "b/2.jpg"]


def test_hidden_and_system_members_are_skipped(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "a.tar",
        "w",
        ("cat/1.jpg", b"1"),
        ("cat/._1.jpg", b"2"),
        ("__MACOSX/cat/1.jpg", b"3"),
        (".cache/1.jpg", b"4"),
        ("cat/@eaDir/1.jpg", b"5"),
    )
    listing = index_tar(path)
    assert list(listing.getters) == ["cat/1.jpg"]
    assert listing.notes == ("skipped 4 hidden or system entries",)


def add_link(path: Path, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> None:
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo(name)
        link.type, link.linkname = kind, target
        archive.addfile(link)


def test_links_to_images_in_the_tar_file_are_followed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", "w", ("all/1.jpg", b"1"), ("cat/0.jpg", b"0"))
    add_link(path, "cat/1.jpg", "../all/1.jpg")
    add_link(path, "cat/2.jpg", "1.jpg")  # a link to a link
    add_link(path, "cat/3.jpg", "./cat/0.jpg", tarfile.LNKTYPE)
    add_link(path, "cat/.hidden.jpg", "/etc/passwd")
    add_link(path, "notes.txt", "/etc/passwd")
    images = {name: read() for name, read in index_tar(path).getters.items()}
    assert index_tar(path).notes == (
        "skipped 1 hidden or system entry and 1 file that is not an image",
        "followed 3 links",
    )
    assert images == {
        "all/1.jpg": b"1",
        "cat/0.jpg": b"0",
        "cat/1.jpg": b"1",
        "cat/2.jpg": b"1",
        "cat/3.jpg": b"0",
    }


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("cat/link.jpg", "/etc/passwd"),
        ("cat/link.jpg", "../../elsewhere/1.jpg"),
        ("cat/link.jpg", "link.jpg"),
        ("dog", "cat"),
        ("dog", "../elsewhere/dog"),
    ],
)
def test_links_that_lead_elsewhere_are_refused(tmp_path: Path, name: str, target: str) -> None:
    path = write_tar(tmp_path / "a.tar", "w", ("cat/1.jpg", b"1"))
    add_link(path, name, target)
    with pytest.raises(RequestError, match=rf"contains the link {name}, .* --dereference"):
        index_tar(path)


def test_a_member_that_is_too_large_or_gone_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "a.tar", "w", ("1.jpg", b"1234"), ("2.jpg", b"12"))
    monkeypatch.setattr(archives, "MAX_IMAGE_BYTES", 3)
    readers = index_tar(path).getters
    assert [read() for read in readers.values()] == [b"", b"12"]
    path.unlink()
    assert readers["2.jpg"]() == b""


def test_what_is_not_an_uncompressed_tar_of_images_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compressed = write_tar(tmp_path / "a.tar.gz", "w:gz", ("1.jpg", b"1"))
    (tmp_path / "bad.tar").write_bytes(b"\0" * 700 + b"bad")
    for path in (compressed, tmp_path / "missing.tar"):
        with pytest.raises(RequestError, match="cannot be read as an uncompressed"):
            index_tar(path)
    with pytest.raises(RequestError, match=r"no images|cannot be read"):
        index_tar(tmp_path / "bad.tar")
    with pytest.raises(RequestError, match="has no images"):
        index_tar(write_tar(tmp_path / "text.tar", "w", ("a.txt", b"1")))
    with pytest.raises(RequestError, match=r"contains 1\.jpg twice"):
        index_tar(write_tar(tmp_path / "twice.tar", "w", ("1.jpg", b"1"), ("./1.jpg", b"2")))
    monkeypatch.setattr(tar_members, "MAX_MEMBERS", 1)
    with pytest.raises(RequestError, match="more than 1 members"):
        index_tar(write_tar(tmp_path / "many.tar", "w", ("1.jpg", b"1"), ("2.jpg", b"2")))
