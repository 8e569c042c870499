"""ImageNet's validation as people have it: every kind gives the same classes; what does not fit is refused by name."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from tinyvit.bench.accuracy.datasets import Dataset, Place, Sample, open_dataset
from tinyvit.bench.accuracy.datasets.hub import from_parquet
from tinyvit.bench.accuracy.datasets.matching import matched
from tinyvit.errors import RequestError, TinyViTError
from tinyvit.images import open_image
from tinyvit.labels import Label, imagenet_labels

THOUSAND = imagenet_labels(1000) or ()
NUMBER = {label.wnid: i for i, label in enumerate(THOUSAND)}


def classes(place: Place) -> list[tuple[str, ...]]:
    return [sample.classes for sample in open_dataset(place).samples]


def test_class_folders(folders: Path, answered: list[str]) -> None:
    dataset = open_dataset(Place(str(folders)))
    assert sorted(sample.classes[0] for sample in dataset.samples) == sorted(answered)
    assert [sample.name for sample in dataset.samples] == sorted(
        sample.name for sample in dataset.samples
    )
    assert classes(Place(str(folders.parent))) == classes(
        Place(str(folders))
    )  # a split's folder above does not matter


def test_a_tar_is_read_where_it_lies(folders: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "val.tar", "w") as archive:
        archive.add(folders, ".")
    packed, loose = (
        open_dataset(Place(str(tmp_path / "val.tar"))),
        open_dataset(Place(str(folders))),
    )
    assert (packed.sha256, len(packed.samples)) == (loose.sha256, 40)
    for a, b in zip(packed.samples, loose.samples):
        assert open_image(a.picture()) == open_image(b.picture())


def test_a_table_of_files(flat: Path, answered: list[str], tmp_path: Path) -> None:
    names = [path.stem for path in sorted(flat.iterdir())]
    tables = {
        "kaggle.csv": "ImageId,PredictionString\n"
        + "".join(f"{n},{w} 1 2 3 4 {w} 5 6 7 8\n" for n, w in zip(names, answered)),
        "wnid.csv": "".join(f"{n}.png,{w}\n" for n, w in zip(names, answered)),
        "index.csv": "file,label\n"
        + "".join(f"{n},{NUMBER[w]}\n" for n, w in zip(names, answered)),
    }
    for name, text in tables.items():
        (tmp_path / name).write_text(text)
    expected = [(wnid,) for wnid in answered]
    assert classes(Place(str(flat), tmp_path / "kaggle.csv")) == expected
    assert classes(Place(str(flat), tmp_path / "wnid.csv")) == expected
    assert classes(Place(str(flat), tmp_path / "index.csv")) == [
        (f"#{NUMBER[wnid]}",) for wnid in answered
    ]


def test_the_devkit_as_downloaded(flat: Path, answered: list[str], tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    savemat = pytest.importorskip("scipy.io").savemat
    wnids = sorted(set(answered), reverse=True)  # its numbers are not in the order of WordNet ids
    rows = np.array(
        [(i + 1, wnid) for i, wnid in enumerate(wnids)],
        dtype=[("ILSVRC2012_ID", object), ("WNID", object)],
    )
    savemat(tmp_path / "meta.mat", {"synsets": rows})
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text(
        "".join(f"{wnids.index(w) + 1}\n" for w in answered)
    )
    with tarfile.open(tmp_path / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
        for name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt"):
            archive.add(tmp_path / name, f"ILSVRC2012_devkit_t12/data/{name}")
    assert classes(Place(str(flat), tmp_path / "ILSVRC2012_devkit_t12.tar.gz")) == [
        (wnid,) for wnid in answered
    ]


def test_real_labels_leave_out_what_shows_nothing(flat: Path, tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text(json.dumps([[], [3, 4], *[[7]] * 38]))
    dataset = open_dataset(Place(str(flat), tmp_path / "real.json"))
    assert [sample.classes for sample in dataset.samples] == [("#3", "#4"), *[("#7",)] * 38]
    assert "1 left out" in dataset.source


def test_the_hubs_parquet(pictures: list[Image.Image], tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = []
    for picture in pictures:
        data = io.BytesIO()
        picture.save(data, "PNG")
        rows.append({"bytes": data.getvalue(), "path": None})
    table = arrow.table({"image": rows, "label": list(range(40))})
    parquet.write_table(table, tmp_path / "validation-0.parquet", row_group_size=16)
    dataset = from_parquet([tmp_path / "validation-0.parquet"], "here")
    assert [sample.classes for sample in dataset.samples] == [(f"#{i}",) for i in range(40)]
    assert all(
        open_image(sample.picture()) == picture
        for sample, picture in zip(dataset.samples, pictures)
    )


def test_a_limit_takes_evenly_and_the_same_again(folders: Path) -> None:
    whole = open_dataset(Place(str(folders)))
    kinds = {sample.classes for sample in whole.samples}
    few = open_dataset(Place(str(folders), limit=len(kinds)))
    assert {sample.classes for sample in few.samples} == kinds
    assert len(few.samples) == len(kinds)
    assert few.sha256 == open_dataset(Place(str(folders), limit=len(kinds))).sha256 != whole.sha256


def samples(*names: str) -> Dataset:
    return Dataset("", tuple(Sample(str(i), (name,), lambda: b"") for i, name in enumerate(names)))


@pytest.mark.parametrize(
    ("labels", "name", "index"),
    [
        (THOUSAND, "n01443537", 1),
        (THOUSAND, "goldfish", 1),
        (THOUSAND, "#1", 1),
        (THOUSAND, "1", 1),
        (
            (Label("pizza", "n07873807"), Label("gold fish", "n01443537")),
            "#1",
            1,
        ),  # of a renamed model, ImageNet's number one
        ((Label("Gold-Fish"), Label("cat")), "gold_fish", 0),
        ((Label("1"), Label("0")), "0", 1),  # a label that is a number is a name first
    ],
)
def test_classes_are_matched(labels: tuple[Label, ...], name: str, index: int) -> None:
    _, truths, _ = matched(samples(name), labels)
    assert truths == [(index,)]


def test_classes_that_do_not_match_are_refused_or_left_out() -> None:
    labels = (Label("cat"), Label("dog"))
    with pytest.raises(
        RequestError, match=r"1 of the 2 classes in the data are none of the model's \(horse\)"
    ):
        matched(samples("cat", "horse"), labels)
    kept, truths, notes = matched(samples("cat", "horse"), labels, only_known=True)
    assert (len(kept), truths) == (1, [(0,)])
    assert notes == [
        "1 pictures of 1 classes that the model does not have were left out",
        "the pictures show 1 of the model's 2 classes",
    ]
    with pytest.raises(RequestError, match="no picture in the data"):
        matched(samples("horse"), labels, only_known=True)
    with pytest.raises(RequestError, match="none of the model's"):
        matched(samples("cat"), (Label("cat"), Label("cat")))  # either would be a guess


def broken(what: str, folders: Path, flat: Path, tmp_path: Path) -> Place:
    (tmp_path / "empty").mkdir()
    truth = tmp_path / f"truth{'.json' if what == 'json' else '.csv'}"
    truth.write_text({"short": "a,b\n", "wide": "a,b,c\n", "json": "{}"}.get(what, ""))
    if what == "class":
        (folders / "n00000000").mkdir()
    (tmp_path / "bad.tar").write_bytes(b"\0" * 700 + b"bad")
    place = {
        "folder": tmp_path / "empty",
        "missing": tmp_path / "none",
        "tar": tmp_path / "bad.tar",
        "class": folders,
    }.get(what, flat)
    return Place(
        str(place),
        truth
        if what in ("short", "wide", "json")
        else tmp_path / "none.csv"
        if what == "truth"
        else None,
    )


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("folder", "no pictures"),
        ("missing", "does not exist"),
        ("tar", "no pictures|no readable"),
        ("class", "n00000000 of val has no pictures"),
        ("loose", "in no class folder"),
        ("truth", "does not exist"),
        ("short", "does not name 40 of the 40"),
        ("wide", "more or less than a file and a class"),
        ("json", "not as ImageNet-Real's"),
    ],
)
def test_what_is_wrong_is_named(
    what: str, why: str, folders: Path, flat: Path, tmp_path: Path
) -> None:
    with pytest.raises(TinyViTError, match=why):
        open_dataset(broken(what, folders, flat, tmp_path))
