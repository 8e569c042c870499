"""ImageNet's validation images give the same classes, however they are stored."""

from __future__ import annotations

import pickle
import shutil
import tarfile
from pathlib import Path

import pytest

from tinyvit.data.dataset import Dataset, DatasetLocation, Sample, open_dataset
from tinyvit.data.dataset_matching import match_dataset
from tinyvit.errors import RequestError, TinyViTError
from tinyvit.images.decoding import open_image
from tinyvit.labels import Label, imagenet_labels

IMAGENET = imagenet_labels(1000) or ()


def classes(location: DatasetLocation) -> list[tuple[str, ...]]:
    return [sample.classes for sample in open_dataset(location).samples]


def test_class_folders_give_the_classes(class_folders: Path, image_classes: list[str]) -> None:
    location = DatasetLocation(str(class_folders))
    dataset = open_dataset(location)
    assert sorted(sample.classes[0] for sample in dataset.samples) == sorted(image_classes)
    names = [sample.name for sample in dataset.samples]
    assert names == sorted(names)
    assert dataset.location == location
    assert dataset.description == "12 images in class folders of val"
    # A folder above that is named as a split does not matter.
    assert classes(DatasetLocation(str(class_folders.parent))) == classes(location)


def test_a_file_of_a_folder_is_read_as_its_path(class_folders: Path) -> None:
    dataset = open_dataset(DatasetLocation(str(class_folders)))
    assert [sample.get_source() for sample in dataset.samples] == [
        class_folders / sample.name for sample in dataset.samples
    ]
    assert pickle.loads(pickle.dumps(dataset)).sha256 == dataset.sha256


def test_a_list_gives_the_classes_of_its_images(class_folders: Path, tmp_path: Path) -> None:
    loose = open_dataset(DatasetLocation(str(class_folders)))
    lines = [f"{class_folders.name}/{sample.name}\t{sample.classes[0]}" for sample in loose.samples]
    path = class_folders.parent / "validation_images.txt"
    path.write_text("\n".join(reversed(lines)))
    listed = open_dataset(DatasetLocation(str(path)))
    assert listed.description == "12 images in validation_images.txt"
    assert [sample.classes for sample in listed.samples] == [
        sample.classes for sample in loose.samples
    ]
    for a, b in zip(listed.samples, loose.samples):
        assert open_image(a.get_source()) == open_image(b.get_source())
    assert len(open_dataset(DatasetLocation(str(path), limit=4)).samples) == 4
    with pytest.raises(RequestError, match="which states its own classes"):
        open_dataset(DatasetLocation(str(path), truth=tmp_path / "truth.csv"))
    path.write_text("val/a.png")
    with pytest.raises(RequestError, match=r"has a line without a class: val/a\.png"):
        open_dataset(DatasetLocation(str(path)))


def test_a_tar_is_read_where_it_lies(class_folders: Path, tmp_path: Path) -> None:
    (class_folders / "__MACOSX").mkdir()
    (class_folders / "__MACOSX" / "000.png").write_bytes(b"not an image")
    with tarfile.open(tmp_path / "val.tar", "w") as archive:
        archive.add(class_folders, ".")
    packed = open_dataset(DatasetLocation(str(tmp_path / "val.tar")))
    loose = open_dataset(DatasetLocation(str(class_folders)))
    assert (packed.sha256, len(packed.samples)) == (loose.sha256, 12)
    for a, b in zip(packed.samples, loose.samples):
        assert open_image(a.get_source()) == open_image(b.get_source())


def test_a_truth_file_gives_the_classes_of_a_flat_folder(
    flat_folder: Path, image_classes: list[str], tmp_path: Path
) -> None:
    names = [path.stem for path in sorted(flat_folder.iterdir())]
    truth = tmp_path / "wnid.csv"
    truth.write_text("".join(f"{n},{w}\n" for n, w in zip(names, image_classes)))
    location = DatasetLocation(str(flat_folder), truth)
    assert classes(location) == [(wnid,) for wnid in image_classes]
    assert open_dataset(location).description == "12 images of flat, classes by wnid.csv"


def test_images_without_a_class_are_left_out(flat_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text(f"[[], [3, 4], {', '.join(['[7]'] * 10)}]")
    dataset = open_dataset(DatasetLocation(str(flat_folder), tmp_path / "real.json"))
    assert [sample.classes for sample in dataset.samples] == [("#3", "#4"), *[("#7",)] * 10]
    assert "1 left out" in dataset.description


def test_a_limit_draws_evenly_and_reproducibly(class_folders: Path) -> None:
    whole = open_dataset(DatasetLocation(str(class_folders)))
    kinds = {sample.classes for sample in whole.samples}
    location = DatasetLocation(str(class_folders), limit=len(kinds))
    few = open_dataset(location)
    assert {sample.classes for sample in few.samples} == kinds
    assert len(few.samples) == len(kinds)
    assert few.sha256 == open_dataset(location).sha256 != whole.sha256
    assert few.location == location
    for limit in (0, -1):
        with pytest.raises(RequestError, match=f"--limit {limit} leaves no image"):
            open_dataset(DatasetLocation(str(class_folders), limit=limit))


def test_the_hash_of_names_and_classes_is_the_recorded_one() -> None:
    assert named_samples("a", "b").sha256 == (
        "076c37f9320e506e88face7705968d208f3c5b42b005730a33ed63139c6ddefd"
    )


def test_other_sources_are_opened_by_their_prefix(tmp_path: Path) -> None:
    openers = {"hf:": named_samples}
    dataset = open_dataset(DatasetLocation("hf:owner/name", limit=1), openers)
    assert dataset.samples[0].classes == ("owner/name",)
    assert dataset.location == DatasetLocation("hf:owner/name", limit=1)
    with pytest.raises(RequestError, match=r"--truth cannot be used with hf:owner/name"):
        open_dataset(DatasetLocation("hf:owner/name", tmp_path), openers)
    with pytest.raises(RequestError, match=r"does not exist.*or hf:NAME"):
        open_dataset(DatasetLocation(str(tmp_path / "none")), openers)
    with pytest.raises(RequestError, match="hf:owner/name does not exist"):
        open_dataset(DatasetLocation("hf:owner/name"))


def named_samples(*names: str) -> Dataset:
    return Dataset("", tuple(Sample(str(i), (name,), bytes) for i, name in enumerate(names)))


@pytest.mark.parametrize(
    ("labels", "name", "index"),
    [
        (IMAGENET, "n01443537", 1),
        (IMAGENET, "#1", 1),
        ((Label("pizza", "n07873807"), Label("gold fish", "n01443537")), "#1", 1),
        ((Label("Gold-Fish"), Label("cat")), "gold_fish", 0),
    ],
)
def test_classes_are_matched_to_the_labels_of_the_model(
    labels: tuple[Label, ...], name: str, index: int
) -> None:
    assert match_dataset(named_samples(name), labels).class_indices == ((index,),)


def test_an_image_may_have_several_correct_classes() -> None:
    dataset = Dataset("", (Sample("a", ("#7", "3", "#3"), bytes),))
    assert match_dataset(dataset, IMAGENET).class_indices == ((3, 7),)


def test_classes_that_do_not_match_are_refused_or_left_out() -> None:
    labels = (Label("cat"), Label("dog"))
    with pytest.raises(
        RequestError, match=r"1 of the 2 classes in the data do not match .*\(horse\).*as cat"
    ):
        match_dataset(named_samples("cat", "horse"), labels)
    matched = match_dataset(named_samples("cat", "horse"), labels, only_known=True)
    assert (len(matched.samples), matched.class_indices) == (1, ((0,),))
    assert matched.notes == (
        "left out 1 image of 1 class that the model does not have",
        "the images show 1 of the model's 2 classes",
    )
    with pytest.raises(RequestError, match="no image in the data"):
        match_dataset(named_samples("horse"), labels, only_known=True)
    with pytest.raises(RequestError, match="do not match exactly one class"):
        match_dataset(named_samples("cat"), (Label("cat"), Label("cat")))


def test_images_in_no_class_folder_are_refused(flat_folder: Path) -> None:
    with pytest.raises(RequestError, match=r"12 of the 12 images in flat are in no class folder"):
        open_dataset(DatasetLocation(str(flat_folder)))


def test_a_class_folder_without_images_is_refused(class_folders: Path) -> None:
    (class_folders / ".cache").mkdir()
    open_dataset(DatasetLocation(str(class_folders)))
    (class_folders / "n00000000").mkdir()
    with pytest.raises(RequestError, match="the class folder n00000000 of val has no images"):
        open_dataset(DatasetLocation(str(class_folders)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "has no images"),
        ("missing", "does not exist"),
        ("bad.tar", "no images|cannot be read"),
    ],
)
def test_what_is_not_a_dataset_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.tar").write_bytes(b"\0" * 700 + b"bad")
    with pytest.raises(TinyViTError, match=message):
        open_dataset(DatasetLocation(str(tmp_path / name)))


@pytest.mark.parametrize("is_tar", [False, True])
def test_only_one_split_is_measured(class_folders: Path, tmp_path: Path, is_tar: bool) -> None:
    root = tmp_path / "data"
    shutil.copytree(class_folders, root / "val")
    shutil.copytree(class_folders, root / "train")
    data, name = root, "data"
    if is_tar:
        data, name = tmp_path / "data.tar", "data.tar"
        with tarfile.open(data, "w") as archive:
            archive.add(root, ".")
    dataset = open_dataset(DatasetLocation(str(data)))
    assert dataset.description == f"12 images in class folders of {name}/val; train not used"
    assert {sample.name.partition("/")[0] for sample in dataset.samples} == {"val"}
    expected = open_dataset(DatasetLocation(str(class_folders)))
    assert [s.classes for s in dataset.samples] == [s.classes for s in expected.samples]


def test_the_description_counts_what_was_skipped(class_folders: Path, tmp_path: Path) -> None:
    (class_folders / ".ipynb_checkpoints").mkdir()
    (class_folders / ".ipynb_checkpoints" / "000.png").touch()
    first = next(path for path in class_folders.iterdir() if path.name.startswith("n"))
    first.rename(tmp_path / "elsewhere")
    first.symlink_to(tmp_path / "elsewhere")
    assert open_dataset(DatasetLocation(str(class_folders))).description == (
        "12 images in class folders of val; skipped 1 hidden or system entry; followed 1 linked"
        f" folder ({first.name})"
    )


def test_the_description_of_a_tar_counts_what_was_skipped(
    class_folders: Path, tmp_path: Path
) -> None:
    (class_folders / "__MACOSX").mkdir()
    for name in ("__MACOSX/000.png", "__MACOSX/001.png", ".DS_Store", "notes.txt"):
        (class_folders / name).touch()
    image = next(class_folders.glob("n*/*.png"))
    (image.parent / "link.png").symlink_to(image.name)
    with tarfile.open(tmp_path / "val.tar", "w") as archive:
        archive.add(class_folders, ".")
    skipped = "skipped 2 hidden or system entries and 1 file that is not an image; followed 1 link"
    location = DatasetLocation(str(tmp_path / "val.tar"))
    assert open_dataset(location).description == f"13 images in class folders of val.tar; {skipped}"
    truth = tmp_path / "truth.csv"
    names = [sample.name for sample in open_dataset(location).samples]
    truth.write_text("".join(f"{name},0\n" for name in names))
    assert open_dataset(DatasetLocation(location.data, truth)).description == (
        f"13 images of val.tar, classes by truth.csv; {skipped}"
    )


def test_entries_of_a_truth_file_without_images_are_counted(
    flat_folder: Path, tmp_path: Path
) -> None:
    names = [path.stem for path in sorted(flat_folder.iterdir())]
    truth = tmp_path / "truth.csv"
    truth.write_text("".join(f"{name},1\n" for name in [*names, "gone", "lost"]))
    assert open_dataset(DatasetLocation(str(flat_folder), truth)).description == (
        "12 images of flat, classes by truth.csv; 2 entries of truth.csv name no image in flat"
    )


@pytest.mark.parametrize("only_known", [False, True])
@pytest.mark.parametrize(
    ("labels", "names", "count"),
    [
        ((Label("cat"), Label("dog"), Label("bird")), ("#1", "#2", "#3"), 3),
        ((Label("cat"), Label("dog"), Label("bird")), ("2", "3"), 3),
        (IMAGENET, ("#1", "#7", "#1000"), 1000),
        (IMAGENET[:10], ("#1", "#1000"), 1000),
    ],
)
def test_class_numbers_that_count_from_1_are_refused(
    labels: tuple[Label, ...], names: tuple[str, ...], count: int, only_known: bool
) -> None:
    with pytest.raises(RequestError, match=rf"numbered up to {count}, .* count from 1"):
        match_dataset(named_samples(*names), labels, only_known)


def test_numbers_without_0_are_noted() -> None:
    labels = (Label("cat"), Label("dog"), Label("bird"))
    note = "the class numbers in the data, of which none is 0, were read as counted from 0"
    for names in (("#1", "#2"), ("1", "2")):
        assert match_dataset(named_samples(*names), labels).notes == (
            "the images show 2 of the model's 3 classes",
            note,
        )
    assert note not in match_dataset(named_samples("#0", "#1"), labels).notes


def test_it_is_known_whether_classes_are_numbers() -> None:
    labels = (Label("cat"), Label("dog"), Label("2"))
    assert match_dataset(named_samples("#0", "1"), labels).class_numbers == (0, 1, 2)
    assert match_dataset(named_samples("cat", "1"), labels).class_numbers is None
    assert match_dataset(named_samples("#0", "2"), labels).class_numbers is None
    few = (IMAGENET[7], IMAGENET[5], Label("other"))
    assert match_dataset(named_samples("#5"), few).class_numbers == (7, 5, -1)
