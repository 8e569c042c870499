"""The files about an evaluation have the right numbers, for few and for many classes."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.hostile_text import HOSTILE_TEXT
from tinyvit.distill.training.reports.class_accuracy import (
    describe_worst_classes,
    format_class_accuracy,
)
from tinyvit.distill.training.reports.class_names import make_drawable_names, make_unique_names
from tinyvit.distill.training.reports.confusion_chart import draw_confusion_matrix
from tinyvit.distill.training.reports.confusion_matrix import (
    count_confusions,
    format_confusion_matrix,
)
from tinyvit.distill.training.reports.evaluation_files import write_evaluation
from tinyvit.distill.training.reports.mistakes import find_mistakes
from tinyvit.distill.training.validation.evaluate import ImagePredictions
from tinyvit.labels import Label, numbered_labels

LABELS = (Label("cat"), Label("=dog"), Label("fox, red"), Label("owl"))


def make_predictions(
    pairs: list[tuple[int, int]], confidences: list[float] | None = None
) -> ImagePredictions:
    """Make predictions from pairs of a correct and a predicted class."""
    classes = np.array(pairs, np.int64)
    return ImagePredictions(
        files=tuple(Path(f"{index}.png") for index in range(len(pairs))),
        classes=classes[:, 0],
        ranked_classes=classes[:, 1:],
        confidences=np.array(confidences or [0.5] * len(pairs), np.float32),
    )


PREDICTIONS = make_predictions(
    [(0, 0), (0, 0), (0, 0), (0, 2), (1, 1), (1, 0), (2, 0), (2, 1)],
    [0.9, 0.8, 0.7, 0.6, 0.5, 0.95, 0.6, 0.3],
)


def read_image(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def test_accuracy_by_class_has_the_counts_and_wilson_intervals() -> None:
    # Intervals for 3 of 4, 1 of 2 and 0 of 2, from statsmodels' proportion_confint.
    assert format_class_accuracy(PREDICTIONS, LABELS) == (
        "class,images,correct,accuracy (%),95% low (%),95% high (%)\n"
        "cat,4,3,75.00,30.06,95.44\n"
        "'=dog,2,1,50.00,9.45,90.55\n"
        '"fox, red",2,0,0.00,0.00,65.76\n'
    )


def test_the_worst_classes_are_named_first() -> None:
    assert describe_worst_classes(PREDICTIONS, LABELS) == (
        "the classes with the lowest accuracy: fox, red 0.0% (0 of 2), =dog 50.0% (1 of 2), "
        "cat 75.0% (3 of 4)"
    )
    pairs = [(index, index if repeat < index else 9) for index in range(7) for repeat in range(8)]
    message = describe_worst_classes(make_predictions(pairs), numbered_labels(10))
    assert message == (
        "the classes with the lowest accuracy: class 0 0.0% (0 of 8), class 1 12.5% (1 of 8), "
        "class 2 25.0% (2 of 8), class 3 37.5% (3 of 8), class 4 50.0% (4 of 8)"
    )
    perfect = make_predictions([(0, 0), (1, 1)])
    assert describe_worst_classes(perfect, LABELS) == "every class has an accuracy of 100%"


def test_the_confusion_matrix_counts_pairs() -> None:
    # No image is an owl, and no image is taken for one.
    assert format_confusion_matrix(count_confusions(PREDICTIONS), LABELS) == (
        'correct class \\ predicted class,cat,\'=dog,"fox, red"\n'
        "cat,3,0,1\n"
        "'=dog,1,1,0\n"
        '"fox, red",1,1,0\n'
    )


def test_a_large_matrix_has_the_most_confused_classes() -> None:
    # 70 classes of three images: 60 is taken for 5 three times, 7 for 61 twice.
    pairs = [(index, index) for index in range(70) for _ in range(3) if index not in (60, 7)]
    pairs += [(60, 5)] * 3 + [(7, 61)] * 2 + [(7, 7), (8, 60)]
    table = count_confusions(make_predictions(pairs)).make_table(max_classes=4)
    assert table.classes.tolist() == [5, 7, 60, 61]
    assert table.class_count == 70
    assert table.counts.tolist() == [
        [3, 0, 0, 0, 0],
        [0, 1, 0, 2, 0],
        [3, 0, 0, 0, 0],
        [0, 0, 0, 3, 0],
        [0, 0, 1, 0, 66 * 3],
    ]
    # Without further confusions, the first classes follow.
    table = count_confusions(make_predictions(pairs)).make_table(max_classes=7)
    assert table.classes.tolist() == [0, 1, 5, 7, 8, 60, 61]


def test_a_matrix_of_thousands_of_classes_is_limited() -> None:
    count = 21_841
    pairs = [(index, index) for index in range(count)]
    text = format_confusion_matrix(
        count_confusions(make_predictions(pairs)), numbered_labels(count)
    )
    rows = list(csv.reader(io.StringIO(text)))
    assert (len(rows), len(rows[0])) == (1002, 1002)
    assert rows[0][-1] == rows[-1][0] == "other classes"
    assert rows[-1][-1] == "20841"


@pytest.mark.parametrize("class_count", [1, 2, 31, 60, 61, 1000])
def test_the_chart_is_large_enough_for_its_names_and_no_larger(class_count: int) -> None:
    pairs = [(index, (index * 7) % class_count) for index in range(class_count)]
    matrix = count_confusions(make_predictions(pairs))
    image = read_image(draw_confusion_matrix(matrix, numbered_labels(class_count)))
    rows = class_count if class_count <= 60 else 31
    assert image.height > 14 * rows
    assert max(image.size) < 2200


@pytest.mark.filterwarnings("error")
def test_any_label_can_be_drawn(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "green").save(tmp_path / "0.png")
    labels = [Label(name) for name in (HOSTILE_TEXT, "猫", "$\\frac{$", "x" * 10_000, "", "é Ж λ")]
    pairs = [(index, (index + 1) % 6) for index in range(6)]
    predictions = make_predictions(pairs)
    files = (tmp_path / "0.png", *(tmp_path / f"missing{index}.png" for index in range(5)))
    predictions = ImagePredictions(
        files, predictions.classes, predictions.ranked_classes, predictions.confidences
    )
    written = write_evaluation(predictions, labels, tmp_path / "out")
    for path in written.paths:
        if path.suffix == ".png":
            image = read_image(path.read_bytes())
            image.load()
            assert max(image.size) < 1500
        else:
            rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
            assert len(rows) == 7
            assert len({len(row) for row in rows}) == 1
    image = read_image((tmp_path / "out" / "mistakes.png").read_bytes())
    # The green image is enlarged to 168 x 126, and the missing one is gray.
    assert image.getpixel((92, 92)) == (0, 128, 0)
    assert image.getpixel((92 + 176, 92)) == (224, 224, 224)


def test_names_are_unique_short_and_drawable() -> None:
    labels = (Label("crane", "n1"), Label("crane", "n2"), Label("abcdefghijklmnop"), Label("猫"))
    assert make_unique_names(labels, 10) == ["crane #0", "crane #1", "abcd...nop", "猫"]
    assert make_unique_names(labels)[2] == "abcdefghijklmnop"
    assert make_drawable_names(labels)[3] == "class #3"


def test_mistakes_are_sorted_by_confidence() -> None:
    assert find_mistakes(PREDICTIONS) == [5, 3, 6, 7]


def test_only_the_twenty_most_confident_mistakes_are_drawn(tmp_path: Path) -> None:
    red, blue = tmp_path / "red.png", tmp_path / "blue.png"
    Image.new("RGB", (20, 20), "red").save(red)
    Image.new("RGB", (20, 20), "blue").save(blue)
    confidences = [0.2] * 10 + [0.9] * 20
    predictions = ImagePredictions(
        (blue,) * 10 + (red,) * 20,
        np.zeros(30, np.int64),
        np.ones((30, 1), np.int64),
        np.array(confidences, np.float32),
    )
    written = write_evaluation(predictions, LABELS, tmp_path / "out")
    assert written.describe() == (
        f"wrote to {tmp_path / 'out'}: class_accuracy.csv, confusion_matrix.csv, "
        "confusion_matrix.png, mistakes.png, which shows the 20 most confident of 30 mistakes"
    )
    sheet = read_image((tmp_path / "out" / "mistakes.png").read_bytes())
    # Four rows of five cells of 176 x 240 pixels.
    assert sheet.size == (5 * 176 + 8, 4 * 240 + 8)
    pixels = np.asarray(sheet)
    assert (pixels[92::240, 92::176][:4] == (255, 0, 0)).all()
    assert not (pixels == (0, 0, 255)).all(axis=2).any()


def test_without_mistakes_an_old_sheet_is_removed(tmp_path: Path) -> None:
    (tmp_path / "mistakes.png").write_bytes(b"old")
    written = write_evaluation(make_predictions([(0, 0), (1, 1)]), LABELS, tmp_path)
    assert written.describe() == (
        f"wrote to {tmp_path}: class_accuracy.csv, confusion_matrix.csv, confusion_matrix.png; "
        "no image is misclassified"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "class_accuracy.csv",
        "confusion_matrix.csv",
        "confusion_matrix.png",
    ]
