from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.distill.conftest import CLASSES, TEACHER, make_pictures
from tinyvit.distill.augmentation.pictures import read_training_images
from tinyvit.distill.logits import cluster, save
from tinyvit.distill.logits import store as stores
from tinyvit.distill.logits.check import check_store
from tinyvit.distill.logits.save import LogitsRequest, save_logits
from tinyvit.distill.logits.store import (
    HEADER,
    Store,
    open_store,
    pack_records,
    require_matching_images,
)
from tinyvit.distill.logits.teachers import average_probabilities, open_teachers
from tinyvit.distill.training.device import select_device
from tinyvit.errors import RequestError


def asked(photos: Path, output: Path) -> LogitsRequest:
    return LogitsRequest(
        photos, (TEACHER,), 2, output, top_k=5, size=32, batch=5, precision="float32"
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("epoch-*"))}


@pytest.fixture
def copy(store: Store, tmp_path: Path) -> Store:
    return Store(Path(shutil.copytree(store.folder, tmp_path / "copy")), store.header)


def test_records_are_the_teachers_answers_to_the_views(store: Store, photos: Path) -> None:
    pictures, (teacher,) = (
        read_training_images(photos),
        open_teachers((TEACHER,), 32, select_device("float32")),
    )
    for epoch in range(2):
        records = store.records(epoch)
        for index in range(len(pictures)):
            seen = save.view(
                pictures.open, 12, index, int(records["seed"][index]), 32, store.header.augmentation
            )
            wanted = average_probabilities([teacher], seen.pixels[None])[0]
            best = np.argsort(-wanted)[:5]
            assert records["classes"][index].tolist() == best.tolist()
            np.testing.assert_allclose(
                records["probabilities"][index], wanted[best], rtol=1e-3, atol=1e-6
            )
    assert len({*store.records(0)["seed"].tolist(), *store.records(1)["seed"].tolist()}) == 24


def test_a_record_has_four_bytes_a_class_and_eight_more(store: Store) -> None:
    assert store.header.record.itemsize == 8 + 4 * 5
    assert store.path(0).stat().st_size == 12 * 28


@pytest.mark.parametrize("stop", range(1, 6))
def test_stopped_at_any_write_it_goes_on_to_the_same_bytes(
    store: Store, photos: Path, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, real, finished = [0], os.pwrite, [0]

    def failing(descriptor: int, data: bytes, offset: int) -> int:
        writes[0] += 1
        if writes[0] == stop:
            real(descriptor, data[: len(data) // 2], offset)  # half a batch reaches the disk
            raise KeyboardInterrupt
        finished[0] += len(data) // store.header.record.itemsize
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", failing)
    with pytest.raises(KeyboardInterrupt):
        save_logits(asked(photos, tmp_path / "s"))
    monkeypatch.setattr(os, "pwrite", real)
    again: list[int] = []
    save_logits(asked(photos, tmp_path / "s"), lambda _, done, of: again.append(done))
    assert contents(tmp_path / "s") == contents(store.folder)
    assert len(again) <= 6 - finished[0] // 5, "a finished record was computed again"


def test_what_the_system_takes_in_pieces_is_whole(
    store: Store, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda descriptor, data, offset: real(descriptor, data[:11], offset)
    )
    save_logits(asked(photos, tmp_path / "s"))
    assert contents(tmp_path / "s") == contents(store.folder)


def test_more_epochs_are_added_and_none_is_made_again(
    store: Store, photos: Path, copy: Store
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in copy.folder.glob("epoch-*")}
    more = save_logits(replace(asked(photos, copy.folder), epochs=3))
    assert more.epochs == 3
    assert {name: (copy.folder / name).stat().st_mtime_ns for name in before} == before


@pytest.mark.parametrize(
    "changed", [{"top_k": 6}, {"seed": 1}, {"batch": 4}, {"views": 2}, {"size": 64}]
)
def test_another_request_does_not_mix_with_what_is_there(
    photos: Path, copy: Store, changed: dict[str, int]
) -> None:
    with pytest.raises(RequestError, match=f"made of something else .*{next(iter(changed))}"):
        save_logits(replace(asked(photos, copy.folder), **changed))  # type: ignore[arg-type]


def test_views_of_a_picture_lie_together(photos: Path, tmp_path: Path) -> None:
    made = save_logits(replace(asked(photos, tmp_path / "s"), views=2, epochs=1))
    assert len(made.records(0)) == 24
    assert len(set(made.records(0)["seed"].tolist())) == 24


@pytest.mark.parametrize("spoil", ["bit", "truncate", "swap"])
def test_damage_is_found(copy: Store, spoil: str) -> None:
    path, size = copy.path(1), copy.header.record.itemsize
    data = bytearray(path.read_bytes())
    if spoil == "bit":
        data[3 * size + 10] ^= 1
    elif spoil == "truncate":
        del data[-5:]
    else:  # two whole records in each other's place
        data[:size], data[size : 2 * size] = data[size : 2 * size], data[:size]
    path.write_bytes(data)
    with pytest.raises(RequestError, match="truncated" if spoil == "truncate" else "is damaged"):
        copy.check(1, 0, copy.records(1))


@pytest.mark.parametrize(
    ("field", "value"), [("classes", 1000), ("probabilities", np.nan), ("probabilities", -0.5)]
)
def test_a_record_with_a_right_checksum_is_not_trusted(
    copy: Store, field: str, value: float
) -> None:
    records = np.array(copy.records(0))
    records[field][4, 1] = value
    records["crc"] = stores._checksums(records, 0)
    copy.path(0).write_bytes(records.tobytes())
    with pytest.raises(RequestError, match=r"record 4 of .* is damaged"):
        copy.check(0, 0, copy.records(0))


def test_an_epoch_that_is_not_there(store: Store) -> None:
    with pytest.raises(RequestError, match="2 finished epochs"):
        store.records(2)


def test_other_pictures(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="made for other pictures"):
        require_matching_images(
            store, read_training_images(make_pictures(tmp_path / "p", seed=1, each=3))
        )


def test_another_augmentation_is_refused_with_the_versions(
    copy: Store, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = json.loads((copy.folder / HEADER).read_text())
    said["versions"]["pillow"] = "1.0"
    (copy.folder / HEADER).write_text(json.dumps(said))
    require_matching_images(
        open_store(copy.folder), read_training_images(photos)
    )  # other versions, the same pixels
    monkeypatch.setattr(stores, "probe", lambda *_: "other pixels")
    with pytest.raises(
        RequestError, match=r"other pixels here than where .* was made \(pillow 1\.0, here"
    ):
        require_matching_images(open_store(copy.folder), read_training_images(photos))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "[" * 100_000])
def test_a_header_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / HEADER).write_text(text)
    with pytest.raises(RequestError, match="damaged or of another version"):
        open_store(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [{"size": 10**6}, {"size": 0}, {"labels": [{"name": "cat"}]}, {"views": 0}, {"classes": 2**17}],
)
def test_a_header_that_asks_for_too_much(copy: Store, changed: dict[str, object]) -> None:
    said = json.loads((copy.folder / HEADER).read_text())
    (copy.folder / HEADER).write_text(json.dumps({**said, **changed}))
    with pytest.raises(RequestError):
        open_store(copy.folder)


def test_an_epoch_in_the_making_is_told(copy: Store) -> None:
    copy.path(1).rename(copy.path(1).with_suffix(".part"))
    assert "epoch-0001 is unfinished" in " ".join(check_store(copy.folder, None, ()))


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no store of logits"):
        open_store(tmp_path)


def test_more_than_there_is(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--top-k 1001 is not possible with 1000 classes"):
        save_logits(replace(asked(photos, tmp_path / "s"), top_k=1001))
    assert not (tmp_path / "s").exists()


def test_a_teacher_that_answers_nan_loses_nothing(
    photos: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match="NaN"):
        save_logits(
            replace(
                asked(photos, tmp_path / "none"), teachers=(TEACHER.replace("small", "broken"),)
            )
        )
    real, batches = save.averaged, [0]

    def at_last(teachers: object, pixels: object) -> object:
        batches[0] += 1
        return real(teachers, pixels) * (np.nan if batches[0] == 5 else 1)  # type: ignore[arg-type]

    monkeypatch.setattr(save, "averaged", at_last)
    with pytest.raises(RequestError, match="NaN"):
        save_logits(asked(photos, tmp_path / "s"))
    assert contents(tmp_path / "s")["epoch-0000.bin"] == contents(store.folder)["epoch-0000.bin"]
    save_logits(asked(photos, tmp_path / "s"))
    assert batches[0] == 5 + 2, "a batch that was finished was computed again"
    assert contents(tmp_path / "s") == contents(store.folder)
    with pytest.raises(RequestError, match="NaN"):
        pack_records(
            store.header,
            0,
            np.zeros(1, np.uint32),
            np.zeros((1, 5), np.int64),
            np.full((1, 5), np.nan),
        )


def test_a_folder_of_other_things_stays_as_it_is(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RequestError, match="holds other files"):
        save_logits(asked(photos, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_two_workers_write_what_one_does(store: Store, photos: Path, tmp_path: Path) -> None:
    """In any order, as a cluster's answers come."""

    def shuffled(
        header: object, pictures: object, teachers: object, epoch: int, spans: list[tuple[int, int]]
    ) -> Iterator[save.TeacherOutputs]:
        for span in spans[1::2] + spans[::2]:
            yield from real(header, pictures, teachers, epoch, [span])  # type: ignore[arg-type]

    real = save.answers
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(save, "answers", shuffled)
        save_logits(asked(photos, tmp_path / "s"))
    assert contents(tmp_path / "s") == contents(store.folder)


def test_a_worker_with_other_pictures_answers_nothing(
    store: Store, photos: Path, tmp_path: Path
) -> None:
    answer = cluster.batch(asked(photos, store.folder), store.header, 0, (0, 5))
    assert answer.seeds.tolist() == store.records(0)["seed"][:5].tolist()
    with pytest.raises(RequestError, match="made for other pictures"):
        cluster.batch(
            asked(make_pictures(tmp_path / "p", seed=1, each=3), store.folder),
            store.header,
            0,
            (0, 5),
        )


def test_pictures_without_classes(tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in make_pictures(tmp_path / "p").rglob("*.png"):
        shutil.copy(path, flat / f"{path.parent.name}-{path.name}")
    pictures = read_training_images(flat)
    assert pictures.labels is None
    assert save_logits(replace(asked(flat, tmp_path / "s"), epochs=1)).epochs == 1


def test_class_folders_of_a_split(tmp_path: Path) -> None:
    make_pictures(tmp_path / "train")
    make_pictures(tmp_path / "val", each=1)
    pictures = read_training_images(tmp_path)
    assert len(pictures) == 12
    assert [label.wnid for label in pictures.labels or ()] == list(CLASSES)
    assert (
        pictures.known_as(tuple(reversed(pictures.labels or ()))).tolist()
        == [2] * 4 + [1] * 4 + [0] * 4
    )
