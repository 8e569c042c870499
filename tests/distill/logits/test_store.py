"""A store of logits holds what the teacher predicts, survives interruptions, and detects damage."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.distill_data import CLASSES, TEACHER, name_teacher, write_class_folders
from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.data.class_folders import read_image_folder
from tinyvit.distill.augmentation.views import ViewSource, make_view
from tinyvit.distill.logits import ray_workers, save, teacher_predictions
from tinyvit.distill.logits import store as store_module
from tinyvit.distill.logits.check import check_store
from tinyvit.distill.logits.header import HEADER_NAME, StoreHeader
from tinyvit.distill.logits.records import TeacherPredictions, compute_checksums, pack_records
from tinyvit.distill.logits.save import save_logits
from tinyvit.distill.logits.store import Store, open_store, require_matching_images
from tinyvit.distill.logits.teacher_predictions import ImagesAndTeachers, LogitsRequest
from tinyvit.distill.logits.teachers import average_probabilities, open_teachers
from tinyvit.distill.training.device import select_device
from tinyvit.errors import RequestError


def make_request(image_folder: Path, output: Path) -> LogitsRequest:
    return LogitsRequest(
        image_folder, (TEACHER,), 2, output, top_k=5, size=32, batch=5, precision="float32"
    )


def epoch_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("epoch-*"))}


@pytest.fixture
def store_copy(store: Store, tmp_path: Path) -> Store:
    """A copy of the store that a test may damage."""
    return Store(Path(shutil.copytree(store.folder, tmp_path / "copy")), store.header)


def test_records_hold_the_teachers_top_classes_of_each_view(
    store: Store, image_folder: Path
) -> None:
    images = read_image_folder(image_folder)
    (teacher,) = open_teachers((TEACHER,), 32, select_device("float32"))
    source = ViewSource(images.open, 12, 32, store.header.augmentation)
    for epoch in range(2):
        records = store.read_epoch(epoch)[:]
        for index in range(len(images)):
            view = make_view(source, index, int(records["seed"][index]))
            expected = average_probabilities([teacher], view.pixels[None])[0]
            best = np.argsort(-expected)[:5]
            assert records["classes"][index].tolist() == best.tolist()
            np.testing.assert_allclose(
                records["probabilities"][index], expected[best], rtol=1e-3, atol=1e-6
            )
    seeds = [store.read_epoch(epoch).read_field("seed").tolist() for epoch in range(2)]
    assert len({*seeds[0], *seeds[1]}) == 24


def test_a_record_has_four_bytes_per_class_and_eight_more(store: Store) -> None:
    assert store.header.dtype.itemsize == 8 + 4 * 5
    assert store.epoch_path(0).stat().st_size == 12 * 28


@pytest.mark.parametrize("stop", range(1, 6))
def test_an_interrupted_store_resumes_to_the_same_bytes(
    store: Store, image_folder: Path, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, real, finished = [0], os.pwrite, [0]

    def failing(descriptor: int, data: bytes, offset: int) -> int:
        writes[0] += 1
        if writes[0] == stop:
            real(descriptor, data[: len(data) // 2], offset)  # half a batch reaches the disk
            raise KeyboardInterrupt
        finished[0] += len(data) // store.header.dtype.itemsize
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", failing)
    with pytest.raises(KeyboardInterrupt):
        save_logits(make_request(image_folder, tmp_path / "s"))
    monkeypatch.setattr(os, "pwrite", real)
    progress = RecordedProgress()
    save_logits(make_request(image_folder, tmp_path / "s"), progress)
    assert epoch_bytes(tmp_path / "s") == epoch_bytes(store.folder)
    assert len(progress.steps) <= 6 - finished[0] // 5, "a finished record was computed again"


def test_partial_writes_of_the_system_are_completed(
    store: Store, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda descriptor, data, offset: real(descriptor, data[:11], offset)
    )
    save_logits(make_request(image_folder, tmp_path / "s"))
    assert epoch_bytes(tmp_path / "s") == epoch_bytes(store.folder)


def test_more_epochs_are_added_without_rewriting_others(
    store: Store, image_folder: Path, store_copy: Store
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in store_copy.folder.glob("epoch-*")}
    more = save_logits(replace(make_request(image_folder, store_copy.folder), epochs=3))
    assert more.epochs == 3
    assert {name: (store_copy.folder / name).stat().st_mtime_ns for name in before} == before


@pytest.mark.parametrize(
    "changed", [{"top_k": 6}, {"seed": 1}, {"batch": 4}, {"views_per_image": 2}, {"size": 64}]
)
def test_another_request_does_not_change_an_existing_store(
    image_folder: Path, store_copy: Store, changed: dict[str, int]
) -> None:
    request = make_request(image_folder, store_copy.folder)
    request = replace(request, **changed)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=f"made from another request, .* {next(iter(changed))}"):
        save_logits(request)


def test_every_view_has_its_own_record(image_folder: Path, tmp_path: Path) -> None:
    store = save_logits(
        replace(make_request(image_folder, tmp_path / "s"), views_per_image=2, epochs=1)
    )
    assert len(store.read_epoch(0)) == 24
    assert len(set(store.read_epoch(0).read_field("seed").tolist())) == 24


@pytest.mark.parametrize("damage", ["bit", "truncate", "swap"])
def test_damaged_records_are_found(store_copy: Store, damage: str) -> None:
    path, size = store_copy.epoch_path(1), store_copy.header.dtype.itemsize
    data = bytearray(path.read_bytes())
    if damage == "bit":
        data[3 * size + 10] ^= 1
    elif damage == "truncate":
        del data[-5:]
    else:  # two whole records in each other's place
        data[:size], data[size : 2 * size] = data[size : 2 * size], data[:size]
    path.write_bytes(data)
    with pytest.raises(RequestError, match="truncated" if damage == "truncate" else "is damaged"):
        store_copy.verify_records(1, 0, store_copy.read_epoch(1))


@pytest.mark.parametrize(
    ("field", "value"), [("classes", 1000), ("probabilities", np.nan), ("probabilities", -0.5)]
)
def test_values_are_checked_even_with_a_valid_checksum(
    store_copy: Store, field: str, value: float
) -> None:
    records = store_copy.read_epoch(0)[:].copy()
    records[field][4, 1] = value
    records["crc"] = compute_checksums(records, 0)
    store_copy.epoch_path(0).write_bytes(records.tobytes())
    with pytest.raises(RequestError, match=r"record 4 of .* is damaged"):
        store_copy.verify_records(0, 0, store_copy.read_epoch(0))


def test_a_missing_epoch_is_refused(store: Store) -> None:
    with pytest.raises(RequestError, match="2 finished epochs"):
        store.read_epoch(2)


def test_other_images_are_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="made from other images"):
        require_matching_images(
            store.header,
            store.folder,
            read_image_folder(write_class_folders(tmp_path / "p", seed=1, images_per_class=3)),
        )


def test_other_pixels_are_refused_and_versions_named(
    store_copy: Store, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = json.loads((store_copy.folder / HEADER_NAME).read_text())
    header["versions"]["pillow"] = "1.0"
    (store_copy.folder / HEADER_NAME).write_text(json.dumps(header))
    store, images = open_store(store_copy.folder), read_image_folder(image_folder)
    require_matching_images(store.header, store.folder, images)  # other versions, the same pixels
    monkeypatch.setattr(store_module, "hash_probe_views", lambda *_: "other pixels")
    with pytest.raises(
        RequestError, match=r"other pixels here than where .* was made \(pillow 1\.0, here"
    ):
        require_matching_images(store.header, store.folder, images)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "[" * 100_000])
def test_a_damaged_header_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / HEADER_NAME).write_text(text)
    with pytest.raises(RequestError, match="damaged or of another version"):
        open_store(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [{"size": 10**6}, {"size": 0}, {"labels": [{"name": "cat"}]}, {"views": 0}, {"classes": 2**17}],
)
def test_a_header_with_impossible_values_is_refused(
    store_copy: Store, changed: dict[str, object]
) -> None:
    header = json.loads((store_copy.folder / HEADER_NAME).read_text())
    (store_copy.folder / HEADER_NAME).write_text(json.dumps({**header, **changed}))
    with pytest.raises(RequestError):
        open_store(store_copy.folder)


def test_an_unfinished_epoch_is_reported(store_copy: Store) -> None:
    store_copy.epoch_path(1).rename(store_copy.epoch_path(1).with_suffix(".part"))
    assert "epoch-0001 is not finished" in " ".join(check_store(store_copy.folder, None, ()))


def test_a_folder_that_is_not_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is not a logits store"):
        open_store(tmp_path)


def test_a_top_k_above_the_number_of_classes_is_refused(image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--top-k 1001 is not possible with 1000 classes"):
        save_logits(replace(make_request(image_folder, tmp_path / "s"), top_k=1001))
    assert not (tmp_path / "s").exists()


def test_a_teacher_that_returns_nan_loses_nothing(
    image_folder: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(
        make_request(image_folder, tmp_path / "none"), teachers=(name_teacher("nan_output"),)
    )
    with pytest.raises(RequestError, match="NaN"):
        save_logits(broken)
    real, batches = teacher_predictions.average_probabilities, [0]

    def fail_in_batch_five(teachers: object, pixels: object) -> object:
        batches[0] += 1
        return real(teachers, pixels) * (np.nan if batches[0] == 5 else 1)  # type: ignore[arg-type]

    monkeypatch.setattr(teacher_predictions, "average_probabilities", fail_in_batch_five)
    request = make_request(image_folder, tmp_path / "s")
    with pytest.raises(RequestError, match="NaN"):
        save_logits(request)
    first_epoch = "epoch-0000.bin"
    assert epoch_bytes(request.output)[first_epoch] == epoch_bytes(store.folder)[first_epoch]
    save_logits(request)
    assert batches[0] == 5 + 2, "a batch that was finished was computed again"
    assert epoch_bytes(request.output) == epoch_bytes(store.folder)


def test_a_record_is_never_written_with_nan(store: Store) -> None:
    outputs = TeacherPredictions(
        0, np.zeros(1, np.uint32), np.zeros((1, 5), np.int64), np.full((1, 5), np.nan)
    )
    with pytest.raises(RequestError, match="NaN"):
        pack_records(outputs, store.header.top_k)


def test_a_folder_with_other_files_is_left_alone(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RequestError, match="is not empty and is not a store"):
        save_logits(make_request(image_folder, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_batches_in_any_order_give_the_same_store(
    store: Store, image_folder: Path, tmp_path: Path
) -> None:
    """The workers of a cluster finish in any order."""
    real = save.compute_predictions

    def compute_shuffled(
        header: StoreHeader, sources: ImagesAndTeachers, epoch: int, record_ranges: list[range]
    ) -> Iterator[TeacherPredictions]:
        for record_range in record_ranges[1::2] + record_ranges[::2]:
            yield from real(header, sources, epoch, [record_range])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(save, "compute_predictions", compute_shuffled)
        save_logits(make_request(image_folder, tmp_path / "s"))
    assert epoch_bytes(tmp_path / "s") == epoch_bytes(store.folder)


def test_a_worker_with_other_images_is_refused(
    store: Store, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # so that the folder that the worker enters is left at the end
    answer = ray_workers.compute_batch_in_worker(
        make_request(image_folder, store.folder), store.header, 0, range(5), str(tmp_path)
    )
    assert answer.seeds.tolist() == store.read_epoch(0).read_field("seed")[:5].tolist()
    with pytest.raises(RequestError, match="made from other images"):
        ray_workers.compute_batch_in_worker(
            make_request(
                write_class_folders(tmp_path / "p", seed=1, images_per_class=3), store.folder
            ),
            store.header,
            0,
            range(5),
            str(tmp_path),
        )


def test_images_need_no_class_folders(tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in write_class_folders(tmp_path / "p").rglob("*.png"):
        shutil.copy(path, flat / f"{path.parent.name}-{path.name}")
    images = read_image_folder(flat)
    assert images.labels is None
    assert save_logits(replace(make_request(flat, tmp_path / "s"), epochs=1)).epochs == 1


def test_only_the_training_split_is_read(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "train")
    write_class_folders(tmp_path / "val", images_per_class=1)
    images = read_image_folder(tmp_path)
    assert len(images) == 12
    assert [label.wnid for label in images.labels or ()] == list(CLASSES)
    assert (
        images.find_class_indices(tuple(reversed(images.labels or ()))).tolist()
        == [2] * 4 + [1] * 4 + [0] * 4
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views_per_image": 257}, "--views is 257 and --batch is .*at most 256 views"),
        ({"views_per_image": 2**62}, "--views is 4611686018427387904"),
        ({"image_count": 0}, "the store has 0 images"),
        ({"image_count": 2**28 + 1}, "the store has 268435457 images"),
        ({"image_count": -1}, "the store has -1 images"),
    ],
)
def test_impossible_counts_are_refused(
    store_copy: Store, changes: dict[str, int], message: str
) -> None:
    path = store_copy.folder / HEADER_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(RequestError, match=message):
        open_store(store_copy.folder)


def test_a_large_file_of_zeros_is_refused_at_its_first_zero_record(store_copy: Store) -> None:
    path = store_copy.folder / HEADER_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_count": 2**28}))
    os.truncate(store_copy.epoch_path(0), 2**28 * 28)
    os.truncate(store_copy.epoch_path(1), 2**28 * 28)
    with pytest.raises(RequestError, match=r"record 12 of .*epoch-0000\.bin is damaged"):
        list(check_store(store_copy.folder, None, ()))


def test_a_file_that_becomes_shorter_while_it_is_read_is_refused(store_copy: Store) -> None:
    """A memory map of the file would end the process with SIGBUS."""
    records = store_copy.read_epoch(1)
    assert store_copy.read_record(1, records, 11).seed == records.read_field("seed")[11]
    with store_copy.epoch_path(1).open("r+b") as file:
        file.truncate(11 * 28)
    assert len(records[10:11]) == 1
    with pytest.raises(RequestError, match=r"epoch-0001\.bin has become shorter while it was read"):
        store_copy.read_record(1, records, 11)
    with pytest.raises(RequestError, match="has become shorter"):
        store_copy.verify_records(1, 0, records)


def test_another_process_opens_the_file_itself(store: Store) -> None:
    records = pickle.loads(pickle.dumps(store.read_epoch(1)))
    assert records[3:5].tobytes() == store.read_epoch(1)[3:5].tobytes()
