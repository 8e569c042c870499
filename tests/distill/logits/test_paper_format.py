"""Stores of logits in the paper's format are read, checked, written and converted."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.distill_data import write_class_folders
from tests.helpers.paper_logits import RECORD, K, write_rank
from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.distill.logits import record_files
from tinyvit.distill.logits.check import check_store
from tinyvit.distill.logits.convert import convert_store
from tinyvit.distill.logits.header import HEADER_NAME
from tinyvit.distill.logits.paper_format import open_paper_logits
from tinyvit.distill.logits.store import Store, open_store
from tinyvit.errors import RequestError


@pytest.fixture
def released_files(tmp_path: Path) -> Path:
    """A folder with two epochs of two ranks, as the paper's authors released theirs."""
    for epoch in range(2):
        for rank in range(2):
            write_rank(
                tmp_path / f"logits_top{K}_epoch{epoch}",
                rank,
                [f"n0/{rank}-{i}" for i in range(4)],
                seed=epoch,
            )
    return tmp_path


def test_released_files_are_read(released_files: Path) -> None:
    assert (released_files / "logits_top3_epoch0" / "rank0-values.bin").stat().st_size == 4 * (
        4 + 4 * K
    )
    logits = open_paper_logits(released_files)
    assert (logits.top_k, sorted(logits.epoch_folders)) == (K, [0, 1])
    ranks = list(logits.read_ranks(1))
    assert [keys for keys, _ in ranks] == [
        [f"n0/{rank}-{i}" for i in range(4)] for rank in range(2)
    ]
    expected = write_rank(released_files / "again", 1, [f"n0/1-{i}" for i in range(4)], seed=1)
    assert ranks[1].records[:].tobytes() == expected.tobytes()
    with pytest.raises(RequestError, match="whose images and teachers cannot be checked"):
        list(check_store(released_files, released_files, ()))
    assert list(check_store(released_files, None, ())) == [
        f"Epoch {epoch}: all records are valid (8 records in the paper's format, top 3)."
        for epoch in range(2)
    ]


def test_training_from_released_files_needs_a_conversion(released_files: Path) -> None:
    with pytest.raises(
        RequestError,
        match="is in the format of the paper's released logits, and not a store: make a store of "
        "it with tinyvit-distill convert-logits --format store",
    ):
        open_store(released_files)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "rank0-values.bin").write_bytes(b"1234"), "truncated"),
        (lambda f: (f / "rank1-keys.txt").unlink(), "cannot be read"),
        (lambda f: (f / "rank1-keys.txt").write_text("one\n"), "names 1 record of"),
        (lambda f: [path.unlink() for path in f.glob("rank*")], "contains no file rank"),
        (lambda f: _change(f, "probabilities", [0.2, 0.5, 0.1]), "is not a valid prediction"),
        (
            lambda f: _change(f, "probabilities", [np.nan, 0.1, 0.1]),
            "is not a valid prediction",
        ),
        (lambda f: _change(f, "classes", [4, 4, 1]), "is not a valid prediction"),
        (lambda f: _change(f, "classes", [-4, 4, 1]), "is not a valid prediction"),
    ],
)
def test_damaged_files_are_refused(
    released_files: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(released_files / "logits_top3_epoch0")
    with pytest.raises(RequestError, match=message):
        list(check_store(released_files, None, ()))


def _change(folder: Path, field: str, value: list[float]) -> None:
    path = folder / "rank0-values.bin"
    records = np.fromfile(path, RECORD)
    records[field][2] = value
    records.tofile(path)


@pytest.mark.parametrize(
    "names", [[], ["logits_top3_epoch0", "logits_top4_epoch0"], ["logits_top0_epoch0"]]
)
def test_folders_without_usable_epochs_are_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).mkdir()
    with pytest.raises(RequestError, match="contains"):
        open_paper_logits(tmp_path)


def test_converting_to_the_paper_format_and_back_keeps_the_values(
    store: Store, image_folder: Path, tmp_path: Path
) -> None:
    folders = convert_store(store.folder, image_folder, "paper", tmp_path / "released")
    assert [path.name for path in folders] == ["logits_top5_epoch0", "logits_top5_epoch1"]
    assert (folders[0] / "rank0-values.bin").stat().st_size == 12 * (4 + 4 * 5)
    logits = open_paper_logits(tmp_path / "released")
    ((keys, records),) = logits.read_ranks(0)
    assert keys[0] == "n01443537/0.png"
    assert records.read_field("seed").tolist() == store.read_epoch(0).read_field("seed").tolist()
    back = convert_store(tmp_path / "released", image_folder, "store", tmp_path / "back")
    assert [path.read_bytes() for path in back] == [
        store.epoch_path(epoch).read_bytes() for epoch in range(2)
    ]
    assert (tmp_path / "back" / HEADER_NAME).read_bytes() == (
        store.folder / HEADER_NAME
    ).read_bytes()


def test_checks_and_conversions_show_progress(
    store: Store, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 8 records; the store has 2 epochs of 12 records."""
    monkeypatch.setattr(record_files, "BLOCK_BYTES", 8 * store.header.dtype.itemsize)
    checking, writing, reading = RecordedProgress(), RecordedProgress(), RecordedProgress()
    list(check_store(store.folder, image_folder, (), checking))
    assert checking.steps == [
        *(("checking records", done, 24) for done in (8, 12, 20, 24)),
        *(("checking the views, epochs", done, 2) for done in (1, 2)),
    ]
    released = tmp_path / "released"
    convert_store(store.folder, image_folder, "paper", released, progress=writing)
    assert writing.steps == [("converting records", done, 24) for done in (8, 12, 20, 24)]
    convert_store(released, image_folder, "store", tmp_path / "back", progress=reading)
    assert reading.steps == [
        ("reading epoch 0, files", 1, 1),
        ("converting records", 12, 24),
        ("reading epoch 1, files", 1, 1),
        ("converting records", 24, 24),
    ]
    checking_released = RecordedProgress()
    list(check_store(released, None, (), checking_released))
    assert checking_released.steps == [("checking records, files", done, 2) for done in (1, 2)]


def test_records_are_written_and_read_on_systems_without_pread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows has neither os.pread nor os.pwrite."""
    monkeypatch.delattr(os, "pread")
    monkeypatch.delattr(os, "pwrite")
    (tmp_path / "file").write_bytes(bytes(10))
    with (tmp_path / "file").open("r+b") as file:
        record_files.write_at(file.fileno(), b"abc", 4)
        record_files.write_at(file.fileno(), b"x", 0)
    assert (tmp_path / "file").read_bytes() == b"x\0\0\0abc\0\0\0"
    records = record_files.RecordFile(tmp_path / "file", np.dtype([("value", "<u2")]), 5)
    assert records.read_range(2, 4)["value"].tolist() == [0x6261, 0x63]


def test_only_line_feeds_separate_keys(tmp_path: Path) -> None:
    keys = ["n0/a\u2028b", "n0/c\x85d", "n0/e\x1cf"]
    write_rank(tmp_path / f"logits_top{K}_epoch0", 0, keys)
    ((read_keys, _),) = open_paper_logits(tmp_path).read_ranks(0)
    assert read_keys == keys


def test_keys_without_records_are_counted_and_not_listed(tmp_path: Path) -> None:
    folder = tmp_path / f"logits_top{K}_epoch0"
    write_rank(folder, 0, ["n0/a"])
    (folder / "rank0-keys.txt").write_bytes(b"\n" * (2**24 + 1))
    with pytest.raises(RequestError, match="names 16777217 records, more than 16777216"):
        list(check_store(tmp_path, None, ()))
    (folder / "rank0-keys.txt").write_bytes(b"\n" * 2**24)
    with pytest.raises(RequestError, match=r"has 16 bytes, but rank0-keys\.txt names 16777216"):
        list(check_store(tmp_path, None, ()))


def test_an_invalid_record_behind_the_first_block_is_named(tmp_path: Path) -> None:
    folder = tmp_path / f"logits_top{K}_epoch0"
    write_rank(folder, 0, [f"n0/{i}" for i in range(20_000)])
    with open(folder / "rank0-values.bin", "r+b") as file:
        file.seek(17_000 * 16)
        file.write(b"\xff\xff\xff\xff")  # the seed -1
    with pytest.raises(RequestError, match=r"record 17000 of .* is not a valid prediction"):
        list(check_store(tmp_path, None, ()))


def test_images_that_do_not_match_are_reported_with_the_folder_of_the_source(
    store: Store, image_folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "released"
    convert_store(store.folder, image_folder, "paper", source)
    images = write_class_folders(tmp_path / "images", seed=1, images_per_class=3)
    with pytest.raises(RequestError, match=f"^{re.escape(str(source))} was made from other images"):
        convert_store(source, images, "store", tmp_path / "back")
    assert not (tmp_path / "back").exists()
