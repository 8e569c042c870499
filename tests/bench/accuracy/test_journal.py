"""An interrupted run continues from its journal to the same predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.recorded_progress import InterruptingProgress
from tinyvit.bench.accuracy import journal as journal_module
from tinyvit.bench.accuracy.evaluate import evaluate
from tinyvit.bench.accuracy.hub import open_labeled_images
from tinyvit.bench.accuracy.journal import PredictionLimits, open_journal
from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.bench.accuracy.predictions import ImagePrediction
from tinyvit.bench.accuracy.results import make_accuracy_result
from tinyvit.data.dataset import Dataset, DatasetLocation
from tinyvit.errors import RequestError

OPTIONS = EvaluationOptions(threads=1)
SETTINGS = {"artifact": "a", "data": "b"}
LIMITS = PredictionLimits(image_count=10, class_count=11)
PREDICTIONS = [ImagePrediction((i, i + 1), 0.5 + i / 1000, "") for i in range(10)]


@pytest.fixture
def dataset(class_folders: Path) -> Dataset:
    """The images of `class_folders`."""
    return open_labeled_images(DatasetLocation(str(class_folders)))


@pytest.mark.parametrize("images", [1, 9, 40])
def test_an_interrupted_run_continues(
    images: int,
    small_classifier: Path,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complete = evaluate(str(small_classifier), dataset, OPTIONS)
    monkeypatch.setattr(journal_module, "_PREDICTIONS_PER_LINE", 4)
    options = replace(OPTIONS, journal_path=tmp_path / "journal")
    with pytest.raises(KeyboardInterrupt) as interrupt:
        evaluate(str(small_classifier), dataset, options, InterruptingProgress(images))
    (message,) = interrupt.value.args
    assert f"test.onnx classified {images} of 40 images (top-1 of these: 100.00%)" in message
    assert f"repeat the command to continue from {tmp_path / 'journal'}" in message
    blocks = (tmp_path / "journal").read_bytes().count(b"\n[")
    assert blocks <= images // 4 + 1
    continued = evaluate(str(small_classifier), dataset, options)
    assert continued.predictions == complete.predictions
    # Only the images of this run count for the throughput.
    assert continued.journal_count == images
    result = make_accuracy_result(continued)
    assert result.images_per_s == pytest.approx((40 - images) / continued.seconds)


def test_without_a_journal_the_message_names_the_option(
    small_classifier: Path, dataset: Dataset
) -> None:
    with pytest.raises(KeyboardInterrupt, match="use --resume FILE"):
        evaluate(str(small_classifier), dataset, OPTIONS, InterruptingProgress(1))


def test_a_journal_that_was_cut_off_keeps_its_complete_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_PREDICTIONS_PER_LINE", 3)
    path = tmp_path / "journal"
    with open_journal(path, SETTINGS, LIMITS) as journal:
        for prediction in PREDICTIONS:
            journal.add(prediction)
    data = path.read_bytes()
    header = data.index(b"\n") + 1
    known_by_lines = {0: 0, 1: 3, 2: 6, 3: 9, 4: 10}
    for length in range(header, len(data) + 1):
        path.write_bytes(data[:length])
        with open_journal(path, SETTINGS, LIMITS) as journal:
            known = len(journal.initial_predictions)
            assert journal.initial_predictions == PREDICTIONS[:known]
            assert known == known_by_lines[data[header:length].count(b"\n")]
            for prediction in PREDICTIONS[known:]:
                journal.add(prediction)
        with open_journal(path, SETTINGS, LIMITS) as journal:
            assert journal.initial_predictions == PREDICTIONS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"artifact": "x", "data": "b"}\n', "belongs to a run that differs in artifact"),
        ("hello\n", "not a journal"),
        ('["a"]\n', "not a journal"),
        ('{"artifact": "a", "data": "b"}\n[[1]]\n', "damaged"),
        ('{"artifact": "a", "data": "b"}\n[[["x"], 0.5, ""]]\n', "damaged"),
        ('{"artifact": "a", "data": "b"}\n7\n', "damaged"),
    ],
)
def test_other_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text(text)
    with (
        pytest.raises(RequestError, match=message),
        open_journal(tmp_path / "journal", SETTINGS, LIMITS),
    ):
        pass


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ('[[[11], 0.5, ""]]', "a line contains an impossible prediction"),
        ('[[[-1], 0.5, ""]]', "a line contains an impossible prediction"),
        (f'[[[{10**400}], 0.5, ""]]', "a line contains an impossible prediction"),
        ('[[[1, 1], 0.5, ""]]', "a line contains an impossible prediction"),
        ('[[[0, 1, 2, 3, 4, 5], 0.5, ""]]', "a line contains an impossible prediction"),
        ('[[[1], NaN, ""]]', "a line contains an impossible prediction"),
        ('[[[1], 1.01, ""]]', "a line contains an impossible prediction"),
        ('[[[1], -1e308, ""]]', "a line contains an impossible prediction"),
        ('[[[], 0.0, ""]]', "a line contains an impossible prediction"),
        ('[[[1], 0.5, "unreadable"]]', "a line contains an impossible prediction"),
        (str([[[1], 0.5, ""]] * 11).replace("'", '"'), "it has more predictions than 10 images"),
        ("[]", "a line contains no list of predictions"),
        ("{}", "a line contains no list of predictions"),
        ("", "Expecting value"),
        ("[" + " " * 2**21 + "]", "Expecting value"),
    ],
)
def test_impossible_predictions_are_refused(lines: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    text = f'{{"artifact": "a", "data": "b"}}\n{lines}\n'
    path.write_text(text)
    with (
        pytest.raises(RequestError, match=f"the journal .* is damaged .{reason}"),
        open_journal(path, SETTINGS, LIMITS),
    ):
        pass
    assert path.read_text() == text


def test_a_carriage_return_in_a_line_does_not_end_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b'{"artifact": "a", "data": "b"}\n[[[1],\r0.5, ""]]\n[[[2], 0.5, ""]]\n')
    with open_journal(path, SETTINGS, LIMITS) as journal:
        assert [prediction.classes for prediction in journal.initial_predictions] == [(1,), (2,)]


def test_a_first_line_without_an_end_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text('{"artifact": "a", "data": "b"}')
    with (
        pytest.raises(RequestError, match="is not a journal"),
        open_journal(path, SETTINGS, LIMITS),
    ):
        pass
    assert path.read_text() == '{"artifact": "a", "data": "b"}'


def test_a_file_that_takes_the_place_of_the_journal_is_neither_read_nor_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "journal", tmp_path / "other"
    with open_journal(path, SETTINGS, LIMITS) as journal:
        for prediction in PREDICTIONS:
            journal.add(prediction)
    other.write_text("a file of somebody else\n")
    open_file = journal_module.open_regular_file_for_update

    def open_and_replace(opened_path: Path) -> object:
        file = open_file(opened_path)
        other.replace(opened_path)
        return file

    monkeypatch.setattr(journal_module, "open_regular_file_for_update", open_and_replace)
    with open_journal(path, SETTINGS, LIMITS) as journal:
        assert journal.initial_predictions == PREDICTIONS
        journal.add(PREDICTIONS[0])
    assert path.read_text() == "a file of somebody else\n"


def test_a_first_line_above_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_MAX_LINE_BYTES", 100)
    path = tmp_path / "journal"
    path.write_bytes(b" " * 101)
    message = "is not a journal"
    with pytest.raises(RequestError, match=message), open_journal(path, SETTINGS, LIMITS):
        pass
    assert path.read_bytes() == b" " * 101
