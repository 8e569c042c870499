"""Crafted archives of torch: hostile lists of entries, files of old versions, and special files."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from functools import partial
from typing import Any

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.checkpoint_crafting import MAGIC_NUMBER
from tests.hostile.hostile_files import GIB, HostileFile, make_file, make_lazy_file
from tests.hostile.small_checkpoints import make_records, make_storage
from tests.hostile.special_files import make_sparse_writer, yield_special_files
from tests.hostile.torch_records import (
    EXTREME_VALUES,
    write_archive,
    write_old_format,
    write_pickle,
)

_make_lazy_file = partial(make_lazy_file, "a.pth")
"""Makes a hostile file from a description and a function that makes its bytes."""


def craft_damaged_archives() -> Iterator[HostileFile]:
    """Yield archives with hostile lists of entries, and files of old versions of torch."""
    pickled, storage = write_pickle(make_records()), {"0": make_storage()}
    names = ("a/data.pkl", "b/data.pkl", "/data.pkl", "../data.pkl", "a/code/x", HOSTILE_TEXT[:9])
    for name in names:
        more = {name: b"\x80\x02."}
        yield _make_lazy_file(
            f"an entry {name!r}", partial(write_archive, pickled, storage, more=more)
        )
    for order in (b"big", b"\xff" * 1000, b""):
        more = {"a/byteorder": order}
        yield _make_lazy_file(f"{order[:9]!r}", partial(write_archive, pickled, storage, more=more))
    many = {f"{number}": b"" for number in range(60_000)}
    yield _make_lazy_file("60,000 entries", partial(write_archive, pickled, storage, more=many))
    zeros = {"0": bytes(240 * 2**20)}
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        yield _make_lazy_file(f"zeros {method}", partial(write_archive, pickled, zeros, method))
    yield _make_lazy_file("no storage", partial(write_archive, pickled, {}))
    yield _make_lazy_file("a short storage", partial(write_archive, pickled, {"0": b"12"}))
    data = write_archive(pickled, storage)
    center = data.index(b"PK\1\2")
    for offset, width in ((6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (42, 4)):
        for value in (0, 1, 2 ** (8 * width) - 1):
            position = center + offset
            changed = data[:position] + value.to_bytes(width, "little") + data[position + width :]
            yield make_file("a.pth", f"{value} at {offset} of an entry", changed)
    end = data.index(b"PK\5\6")
    for offset, width in ((8, 2), (10, 2), (12, 4), (16, 4), (20, 2)):
        position = end + offset
        changed = data[:position] + b"\xff" * width + data[position + width :]
        yield make_file("a.pth", f"the largest number at {offset} of the end", changed)
    yield from _craft_old_files()
    yield from yield_special_files("a.pth")
    for start in (b"PK\3\4", b"\x80\x02", b"\x80\x04\x8e" + bytes(7) + b"\x10", bytes(8) + b"{"):
        writer = make_sparse_writer("a.pth", 4 * GIB, start)
        yield HostileFile(f"4 GiB that begin with {start!r}", writer)
    for name in ("a.\x1b[2J", "a\n.pth", "\udcff.pth", "-.pth"):
        yield make_file(name, f"the file name {name!r}", b"a" * 100)


def _craft_old_files() -> Iterator[HostileFile]:
    count = len(make_storage()) // 2
    storage = struct.pack("<q", count) + make_storage()
    for index, field in enumerate(("magic", "version", "machine", "content", "keys")):
        for value in EXTREME_VALUES[::2]:
            parts: list[Any] = [MAGIC_NUMBER, 1001, {"little_endian": True}, make_records(), ["0"]]
            parts[index] = value
            data = write_old_format(tuple(parts), {"0": storage})
            yield make_file("old.pth", f"the {field} {value!r:.40}", data)
    for stated in (0, -1, 2**62, 2**63 - 1):
        parts = [MAGIC_NUMBER, 1001, {}, make_records(), ["0"]]
        data = write_old_format(tuple(parts), {"0": struct.pack("<q", stated) + make_storage()})
        yield make_file("old.pth", f"a storage of {stated} elements", data)
