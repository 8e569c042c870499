"""Tests of `tinyvit.distill.logits.record_files`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyvit.distill.logits.paper_format import open_paper_logits
from tinyvit.distill.logits.record_files import RecordFile, divide_into_blocks
from tinyvit.errors import RequestError

DTYPE = np.dtype([("seed", "<i4"), ("padding", "V", 2**21 - 4)])
"""A record of 2 MiB."""


def test_blocks_have_at_most_4_mib() -> None:
    blocks = [(block.start, block.stop) for block in divide_into_blocks(5, 2**21)]
    assert blocks == [(0, 2), (2, 4), (4, 5)]
    assert [block.stop for block in divide_into_blocks(2, 2**23)] == [1, 2]
    assert list(divide_into_blocks(0, 48)) == []


def test_blocks_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "records.bin"
    records = np.zeros(5, DTYPE)
    records["seed"] = [7, 3, 9, 1, 4]
    path.write_bytes(records.tobytes())
    record_file = RecordFile(path, DTYPE, 5)
    blocks = [(start, block["seed"].tolist()) for start, block in record_file.read_blocks()]
    assert blocks == [(0, [7, 3]), (2, [9, 1]), (4, [4])]
    assert record_file.read_field("seed").tolist() == [7, 3, 9, 1, 4]


@pytest.mark.skipif(sys.platform == "win32", reason="files have no holes there by default")
def test_large_files_of_the_paper_are_validated_in_parts(tmp_path: Path) -> None:
    """The values have 128 GiB, nearly all of which are a hole in the file."""
    folder = tmp_path / "logits_top32768_epoch0"
    folder.mkdir()
    (folder / "rank0-keys.txt").write_bytes(b"\n" * 2**20)
    with (folder / "rank0-values.bin").open("wb") as file:
        os.truncate(file.fileno(), 2**20 * (4 + 4 * 32768))
    with pytest.raises(RequestError, match=r"record 0 of .* is not a valid prediction"):
        list(open_paper_logits(tmp_path).read_ranks(0))
