"""Tar files and development kits of strangers are refused before they cost memory or time."""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.processes import run_limited
from tinyvit.data.archives import index_tar
from tinyvit.data.imagenet_devkit import read_devkit
from tinyvit.errors import RequestError

BLOCK = 512
END = bytes(2 * BLOCK)


def make_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return the header of a member in GNU's format, which can state any size."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def pad(content: bytes) -> bytes:
    """Return content that is filled up with zeros to whole blocks."""
    return content + bytes(-len(content) % BLOCK)


def make_extended(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """Return an extended header (pax) with these records."""
    return make_header("PaxHeader", len(records), kind) + pad(records)


def make_record(key: str, value: str) -> bytes:
    """Return a record of an extended header, which begins with its own length."""
    rest = f" {key}={value}\n"
    length = next(n for n in range(len(rest), len(rest) + 25) if n == len(str(n)) + len(rest))
    return f"{length}{rest}".encode()


IMAGE = make_header("cat/1.jpg", 3) + pad(b"abc")
OLD_SPARSE = bytearray(make_header("cat/2.jpg", 0, tarfile.GNUTYPE_SPARSE))
NEW_SPARSE = make_extended(
    make_record("GNU.sparse.major", "1")
    + make_record("GNU.sparse.minor", "0")
    + make_record("GNU.sparse.name", "cat/2.jpg")
    + make_record("GNU.sparse.realsize", "9")
)

HOSTILE = {
    "a long name of 9 GB": make_header("././@LongLink", 9 * 2**30, tarfile.GNUTYPE_LONGNAME),
    "a long link of 9 GB": make_header("././@LongLink", 9 * 2**30, tarfile.GNUTYPE_LONGLINK),
    "extended headers of 9 GB": make_header("PaxHeader", 9 * 2**30, tarfile.XHDTYPE),
    "global headers of 9 GB": make_header("PaxHeader", 9 * 2**30, tarfile.XGLTYPE),
    "a header of 2^40 bytes": make_header("PaxHeader", 2**40, tarfile.XHDTYPE),
    "a header of 2^80 bytes": make_header("PaxHeader", 2**80, tarfile.XHDTYPE),
    "a header of a negative size": make_header("PaxHeader", -1024, tarfile.XHDTYPE),
    "an extended size of 2^40": make_extended(make_record("size", str(2**40))) + IMAGE,
    "an extended size of 10^400": make_extended(make_record("size", str(10**400))) + IMAGE,
    "an extended size of -1024": make_extended(make_record("size", "-1024")) + IMAGE,
    "an image of 2^80 bytes": make_header("cat/2.jpg", 2**80),
    "an image of -1024 bytes": IMAGE + make_header("cat/2.jpg", -1024),
    "3,000 chained long links": b"".join(
        make_header("././@LongLink", 9, tarfile.GNUTYPE_LONGLINK) + pad(b"cat/1.jpg")
        for _ in range(3000)
    ),
    "3,000 chained empty long names": 3000
    * make_header("././@LongLink", 0, tarfile.GNUTYPE_LONGNAME),
    "3,000 chained extended headers": 3000 * make_extended(make_record("path", "cat/1.jpg")),
    "a number of 60,000 digits": make_extended(b"1" * 60_000) + IMAGE,
    "an endless map of holes": NEW_SPARSE + make_header("cat/2.jpg", 2**33) + bytes(2**20),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_headers_of_any_size_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(HOSTILE[name] + IMAGE + END)
    run_limited(
        f"""
        from pathlib import Path
        from tinyvit.data.archives import index_tar
        from tinyvit.errors import RequestError
        try:
            index_tar(Path({str(path)!r}))
        except RequestError as error:
            assert "cannot be read as an uncompressed .tar file" in str(error), error
        else:
            raise SystemExit("it was accepted")
        """
    )


def test_a_map_of_holes_in_ten_gigabytes_is_not_read(tmp_path: Path) -> None:
    """An old sparse member continues its map in the next block, for as many blocks as there are."""
    header = OLD_SPARSE
    header[482] = 1  # the map goes on in the next block
    checksum = sum(header[:148]) + sum(header[156:512]) + 8 * ord(" ")
    header[148:156] = b"%06o\0 " % checksum
    more = bytearray(BLOCK)
    more[504] = 1
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(header) + bytes(more) * 4096)
    with path.open("r+b") as file:
        file.truncate(10 * 2**30)
    with pytest.raises(RequestError, match="a header is too long"):
        index_tar(path)


def test_long_names_of_real_files_are_read(tmp_path: Path) -> None:
    """Linux allows paths of 4096 bytes; both formats of long names are read."""
    name = "/".join(["n" * 200] * 20) + "/1.jpg"
    for number, kind in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        path = tmp_path / f"{number}.tar"
        with tarfile.open(path, "w", format=kind) as archive:
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
        listing = index_tar(path)
        assert {key: read() for key, read in listing.getters.items()} == {name: b"abc"}


def write_devkit(path: Path, table: bytes, numbers: bytes = b"2\n1\n") -> Path:
    """Write a development kit with the given table of classes."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (
            ("meta.mat", table),
            ("ILSVRC2012_validation_ground_truth.txt", numbers),
        ):
            info = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/data/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def make_table(count: int = 2) -> bytes:
    """Return the file meta.mat of a development kit, as scipy writes it."""
    np = pytest.importorskip("numpy")
    savemat = pytest.importorskip("scipy.io").savemat
    rows = np.zeros(count, [("ILSVRC2012_ID", object), ("WNID", object)])
    for index in range(count):
        rows[index] = (index + 1, f"n{index:08d}")
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": rows})
    return buffer.getvalue()


def test_a_devkit_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    path = write_devkit(tmp_path / "devkit.tar.gz", make_table())
    assert read_devkit(path) == ["n00000001", "n00000000"]
    # Some browsers unpack a download, but keep its name.
    unpacked = tmp_path / "unpacked.tar.gz"
    unpacked.write_bytes(gzip.decompress(path.read_bytes()))
    assert read_devkit(unpacked) == ["n00000001", "n00000000"]


def make_bomb(unpacked_mib: int) -> bytes:
    """Return a table in MATLAB's format, of one compressed array that unpacks to zeros."""
    np = pytest.importorskip("numpy")
    savemat = pytest.importorskip("scipy.io").savemat
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": np.zeros((1, 2**20), np.uint8)})
    # All numbers that state the size are changed; the last 2**20 bytes are the elements.
    element = buffer.getvalue()[128 : -(2**20)]
    old, new = 2**20, unpacked_mib * 2**20
    fields = element.replace(old.to_bytes(4, "little"), new.to_bytes(4, "little"))
    length = int.from_bytes(element[4:8], "little") - old + new
    fields = fields[:4] + length.to_bytes(4, "little") + fields[8:]
    squeezer = zlib.compressobj()
    packed = squeezer.compress(fields) + squeezer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush, the compressed form of a MiB of zeros does not depend on what precedes it.
    packed += (squeezer.compress(bytes(2**20)) + squeezer.flush(zlib.Z_FULL_FLUSH)) * unpacked_mib
    tag = (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little")
    return buffer.getvalue()[:128] + tag + packed


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces the limit on memory")
def test_a_table_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = write_devkit(tmp_path / "devkit.tar.gz", make_bomb(3200))
    with pytest.raises(ValueError, match="MemoryError"):
        read_devkit(path)


def corrupt(position: int, value: int) -> bytes:
    """Return a table with another byte at a position."""
    table = bytearray(make_table())
    table[position] = value
    return bytes(table)


@pytest.mark.parametrize(
    "make",
    [
        lambda: corrupt(128, 200),
        lambda: make_table()[:150],
        lambda: make_table()[:100],
        lambda: b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM",
        lambda: make_table(1),  # has no number 2
    ],
    ids=["type", "truncated", "no header", "HDF5", "missing number"],
)
def test_damaged_tables_are_refused(tmp_path: Path, make: Callable[[], bytes]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_devkit(write_devkit(tmp_path / "devkit.tar.gz", make()))


def test_a_devkit_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "devkit.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(make_header("././@LongLink", 9 * 2**30, tarfile.GNUTYPE_LONGNAME))
        for _ in range(80):
            file.write(bytes(2**20))
    with pytest.raises(ValueError, match="it unpacks to more than 64 MiB"):
        read_devkit(path)
