"""Hostile stores of logits: check-logits, convert-logits and training, and folders of runs."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.distill_data import write_class_folders
from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.commands import run_command
from tests.hostile.crafting import EXTREME_VALUES, change_field, craft_json_texts
from tests.hostile.hostile_files import GIB, HostileFile, Loader
from tests.hostile.special_files import make_special
from tinyvit.data.class_folders import ImageFolder, read_image_folder
from tinyvit.distill import cli
from tinyvit.distill.augmentation.probe import get_library_versions, hash_probe_views
from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.augmentation.views import ViewSource
from tinyvit.distill.logits.header import HEADER_NAME, StoreHeader, TeacherInfo
from tinyvit.distill.logits.records import compute_checksums, make_record_dtype
from tinyvit.errors import TinyViTError

_STORE, _EPOCH = "store", "epoch-0000.bin"
_PAPER_EPOCH = "logits_top3_epoch0"
_TOP_K, _CLASSES = 3, 10

Change = Callable[[Path], None]
"""A function that damages a store in a folder."""


def _make_store(folder: Path, images: ImageFolder) -> Path:
    """Make a store of one epoch, with random predictions."""
    augmentation = Augmentation()
    source = ViewSource(images.open, len(images), 8, augmentation)
    header = StoreHeader(
        teachers=(TeacherInfo("teacher", "0" * 64),),
        num_classes=_CLASSES,
        top_k=_TOP_K,
        size=8,
        batch=5,
        seed=0,
        views_per_image=2,
        augmentation=augmentation,
        image_count=len(images),
        images_sha256=images.sha256,
        probe_sha256=hash_probe_views(source, images.keys, 0),
        versions=get_library_versions(),
    )
    folder.mkdir(parents=True)
    header.save(folder / HEADER_NAME)
    _write_records(folder / _EPOCH, header.records_per_epoch)
    return folder


def _write_records(path: Path, count: int, **fields: Any) -> None:
    """Write records with correct checksums; `fields` replace those of the third record."""
    records = np.zeros(count, make_record_dtype(_TOP_K))
    records["seed"] = range(count)
    records["classes"] = [1, 2, 3]
    records["probabilities"] = [0.5, 0.25, 0.125]
    for name, value in fields.items():
        records[name][2] = value
    records["crc"] = compute_checksums(records, 0)
    path.write_bytes(records.tobytes())


def _write_images() -> Path:
    return write_class_folders(Path("images"), images_per_class=2)


def make_stores(folder: Path) -> Sequence[Path]:
    """Make a store, and its conversion to the paper's format."""
    pytest.importorskip("torch", reason="distillation needs it")
    images = write_class_folders(folder / "images", images_per_class=2)
    store = _make_store(folder / "own" / _STORE, read_image_folder(images))
    paper = folder / "paper" / _STORE
    with redirect_stdout(None):
        run_command(
            cli.main, ["convert-logits", store, "--data", images, "--format", "paper", "-o", paper]
        )
    return [store, paper]


def use_store(path: Path) -> None:
    """Check a store, with and without its images, and convert it to the other format."""
    images = _write_images()
    errors: list[TinyViTError] = []
    for arguments in (
        ["check-logits", path],
        ["check-logits", path, "--data", images],
        ["convert-logits", path, "--data", images, "--format", "paper", "-o", "paper"],
        ["convert-logits", path, "--data", images, "--format", "store", "-o", "store"],
    ):
        try:
            run_command(cli.main, arguments)
        except TinyViTError as error:
            errors.append(error)
    if len(errors) > 2:  # each kind of store passes two of these commands
        raise errors[0]


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield stores with extreme headers, records, names and files."""
    yield from (_damage(text, change) for text, change in _list_changes())
    for number in range(70):
        yield _damage(f"a changed header {number}", partial(_change_header, generator.random()))
    header_names = [field.name for field in dataclasses.fields(StoreHeader)]
    header_names += [f"augmentation.{field.name}" for field in dataclasses.fields(Augmentation)]
    for name in header_names:
        for value in generator.sample(EXTREME_VALUES, 3):
            yield _damage(f"{name} is {value!a:.40}", partial(_set_field, name, value))
    for file in craft_json_texts(HEADER_NAME, {"format": 2, "top_k": 3}):
        yield _damage(f"{HEADER_NAME} is {file.description}", partial(_write_over, file))


def _damage(description: str, change: Change) -> HostileFile:
    """Make a store of both kinds of files in one folder, then damage it."""

    def write(folder: Path) -> Path:
        images = write_class_folders(folder / "images", images_per_class=2)
        store = _make_store(folder / _STORE, read_image_folder(images))
        shutil.rmtree(images)
        change(store)
        return store

    return HostileFile(description, write)


def _write_over(file: HostileFile, store: Path) -> None:
    (store / HEADER_NAME).unlink()
    file.write(store)


def _change_header(seed: float, store: Path) -> None:
    path = store / HEADER_NAME
    _, changed = change_field(json.loads(path.read_text()), random.Random(seed))
    path.write_text(json.dumps(changed))


def _set_field(name: str, value: Any, store: Path) -> None:
    path = store / HEADER_NAME
    header = json.loads(path.read_text())
    table, _, key = name.rpartition(".")
    (header[table] if table else header)[key] = value
    path.write_text(json.dumps(header))


def _set_fields(changes: dict[str, Any], epoch_bytes: int, store: Path) -> None:
    """Change fields of the header, and make the file of the epoch as large as they require."""
    for name, value in changes.items():
        _set_field(name, value, store)
    with open(store / _EPOCH, "r+b") as file:
        file.truncate(epoch_bytes)


def _list_changes() -> Iterator[tuple[str, Change]]:
    """List what can be wrong with the files of a store."""
    for name, values in {
        "classes": ([_CLASSES, 1, 2], [65535, 0, 1], [1, 1, 1]),
        "probabilities": ([np.nan, 0, 0], [np.inf, 0, 0], [-1, 0, 0], [0, 0.5, 1], [60000, 0, 0]),
        "seed": (2**31, 2**32 - 1),
    }.items():
        for value in values:
            yield (
                f"{name} are {value}",
                lambda store, field={name: value}: _write_records(store / _EPOCH, 12, **field),
            )
    for views in (2**20, 2**31, 2**40, 2**62):
        changes = {"views_per_image": views}
        yield f"{views} views", partial(_set_fields, changes, min(6 * views * 20, 2**42))
    for count in (0, 2**24, 2**31, 2**40):
        changes = {"image_count": count}
        yield f"{count} images", partial(_set_fields, changes, min(2 * count * 20, 2**42))
    changes = {"top_k": 65536, "num_classes": 65536}
    yield "65536 classes", partial(_set_fields, changes, 12 * (8 + 4 * 65536))
    for size in (4096, 4097):
        yield f"views of {size} pixels", partial(_set_field, "size", size)
    for name in (_EPOCH, HEADER_NAME):
        for kind in ("pipe", "folder", "loop", "/dev/zero", "missing", "/proc/kmsg", ".."):
            make = partial(make_special, kind=kind)
            yield f"{name} is {kind}", partial(_replace, name, make)
        yield f"{name} has 2^40 zeros", partial(_replace, name, partial(_write_zeros, 2**40))
    for name in ("epoch-0001.part", f"epoch-{HOSTILE_TEXT[:20].replace(chr(0), '')}.part"):
        yield f"a file {name!a}", partial(_touch, name)
    yield from _list_paper_changes()


def _list_paper_changes() -> Iterator[tuple[str, Change]]:
    """List folders in the paper's format with extreme names and files."""
    names = ("logits_top0_epoch0", "logits_top32768_epoch0", "logits_top32767_epoch0")
    names += (f"logits_top3_epoch{'9' * 200}", f"logits_top{'9' * 200}_epoch1", "logits_top_epoch")
    names += (
        "logits_top٣_epoch٣",
        "logits_top3_epoch\x1b[2J",
        "logits_top3_epoch00",
        "logits_top1_epoch0",
    )
    for name in names:
        yield f"the folder {name!a:.50}", partial(_write_paper, name, b"a\n", 16)
    for keys, size in (
        (b"\n" * 2**22, 16 * 2**22),
        (b"\n" * 2**22, 2**40),
        (b"\x1b]0;t\x07\xff\n" * 3, 48),
        ("a\u2028b\x85c\n".encode() * 3, 48),
        (b"a\0b\n" * 12, 192),
        (b"\xff\xfe" * 6, 16),
        (b"", 0),
        (b"", 2**40),
        (b"a" * 10**6, 16),
    ):
        yield (
            f"keys {keys[:10]!a} of {len(keys)} bytes",
            partial(_write_paper, _PAPER_EPOCH, keys, size),
        )
    wide = "logits_top32768_epoch0"
    yield "wide records", partial(_write_paper, wide, b"\n" * 2**20, 2**20 * (4 + 4 * 32768))
    for name in ("rank0-keys.txt", "rank0-values.bin"):
        for kind in ("pipe", "loop", "/dev/zero", "missing"):
            make = partial(make_special, kind=kind)
            yield f"{name} is {kind}", partial(_replace_in_paper, name, make)
        zeros = partial(_write_zeros, 2**31)
        yield f"{name} has 2^31 zeros", partial(_replace_in_paper, name, zeros)


def _replace(name: str, make: Callable[[Path], None], store: Path) -> None:
    (store / name).unlink()
    make(store / name)


def _touch(name: str, store: Path) -> None:
    (store / name).touch()


def _write_zeros(size_bytes: int, path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(size_bytes)


def _write_paper(name: str, keys: bytes, values_bytes: int, store: Path) -> None:
    (store / name).mkdir()
    (store / name / "rank0-keys.txt").write_bytes(keys)
    _write_zeros(values_bytes, store / name / "rank0-values.bin")


def _replace_in_paper(name: str, make: Callable[[Path], None], store: Path) -> None:
    _write_paper(_PAPER_EPOCH, b"a\n", 16, store)
    _replace(f"{_PAPER_EPOCH}/{name}", make, store)


LOADERS = (
    Loader("logits stores: check and convert", use_store, make_stores, craft, memory_bytes=2 * GIB),
)
