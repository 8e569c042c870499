"""Numbers in the data are labels or class numbers, or are refused if they can be both."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyvit.data.dataset import Dataset, DatasetLocation, Sample, open_dataset
from tinyvit.data.dataset_matching import match_dataset
from tinyvit.errors import RequestError
from tinyvit.labels import Label

SORTED_AS_TEXT = tuple(map(Label, ("0", "1", "10", "11", *"23456789")))
FROM_1 = tuple(Label(str(number)) for number in range(1, 11))
PADDED = tuple(Label(f"{number:03}") for number in range(1, 11))


def make_dataset(*names: str) -> Dataset:
    """Make a dataset with one image of each class."""
    samples = tuple(Sample(f"{name}.jpg", (name,), Path) for name in names)
    return Dataset("images", samples)


def find_indices(labels: tuple[Label, ...], *names: str) -> list[int]:
    """Return the index of the class of each name."""
    matched = match_dataset(make_dataset(*names), labels)
    return [indices[0] for indices in matched.class_indices]


@pytest.mark.parametrize(
    ("labels", "names", "indices"),
    [
        # Numbers of which one is no class number are labels.
        (FROM_1, ("#1", "#2", "#10"), [0, 1, 9]),
        (PADDED, ("#1", "#2", "#10"), [0, 1, 9]),
        (PADDED, ("#001", "#002", "#010"), [0, 1, 9]),
        (PADDED, ("1", "10"), [0, 9]),
        # Numbers of which one is no label are class numbers.
        (FROM_1, ("#0", "#1", "#9"), [0, 1, 9]),
        # Both readings are the same.
        (tuple(map(Label, "0123456789")), ("#0", "#1", "#9"), [0, 1, 9]),
        (SORTED_AS_TEXT, ("#0", "#1"), [0, 1]),
        # A folder, and a class below the title class_name, is named by its label.
        (SORTED_AS_TEXT, ("0", "1", "2", "10"), [0, 1, 4, 2]),
    ],
)
def test_numbers_with_one_reading(
    labels: tuple[Label, ...], names: tuple[str, ...], indices: list[int]
) -> None:
    assert find_indices(labels, *names) == indices


def test_a_reading_that_is_not_obvious_is_noted() -> None:
    assert match_dataset(make_dataset("#1", "#10"), FROM_1).notes[0] == (
        "the numbers in the data were read as labels of the model, not as class numbers: 1 is the"
        " label of class 0"
    )
    matched = match_dataset(make_dataset("#0", "#3"), FROM_1)
    assert matched.notes[0] == (
        "the numbers in the data were read as class numbers, not as labels of the model: 3 is class"
        " 3, whose label is 4"
    )
    assert matched.class_numbers == tuple(range(10))
    assert match_dataset(make_dataset("#1", "#10"), FROM_1).class_numbers is None


@pytest.mark.parametrize("only_known", [False, True])
@pytest.mark.parametrize(
    ("labels", "names", "reason"),
    [
        (SORTED_AS_TEXT, ("#0", "#2"), "2 can be the label 2 of class 4, or class 2, .* is 10"),
        (FROM_1, ("#1", "#9"), "1 can be the label 1 of class 0, or class 1, whose label is 2"),
        (PADDED, ("1", "9"), "1 can be the label 1 of class 0, or class 1, whose label is 002"),
        (FROM_1, ("#0", "#10"), "10 can be the label 10 of class 9, or no class"),
        (FROM_1, ("0", "1"), r"are labels of the model \(1\), and others are not \(0\)"),
    ],
)
def test_numbers_with_two_readings_are_refused(
    labels: tuple[Label, ...], names: tuple[str, ...], reason: str, only_known: bool
) -> None:
    with pytest.raises(RequestError, match=reason):
        match_dataset(make_dataset(*names), labels, only_known)


@pytest.mark.parametrize("title", ["class_name", "Label Name"])
def test_the_title_class_name_shows_that_numbers_are_labels(
    flat_folder: Path, tmp_path: Path, title: str
) -> None:
    rows = "".join(f"{path.name},2\n" for path in flat_folder.iterdir())
    truth = tmp_path / "truth.csv"
    truth.write_text(f"file,{title}\n{rows}")
    matched = match_dataset(open_dataset(DatasetLocation(str(flat_folder), truth)), SORTED_AS_TEXT)
    assert set(matched.class_indices) == {(4,)}
    truth.write_text(f"file,label\n{rows}")
    with pytest.raises(RequestError, match="do so below the title class_name"):
        match_dataset(open_dataset(DatasetLocation(str(flat_folder), truth)), SORTED_AS_TEXT)
