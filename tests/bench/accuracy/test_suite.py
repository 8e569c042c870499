"""The accuracy is correct for known predictions, and bad data is counted or refused."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.small_classifiers import build_classifier
from tinyvit.bench import cli
from tinyvit.bench.accuracy import options as options_module
from tinyvit.bench.accuracy import suite
from tinyvit.bench.accuracy.evaluate import evaluate
from tinyvit.bench.accuracy.hub import open_labeled_images
from tinyvit.bench.accuracy.options import EvaluationOptions, PreprocessChoice
from tinyvit.bench.accuracy.results import make_accuracy_result
from tinyvit.bench.accuracy.suite import SuiteConfig, evaluate_all
from tinyvit.bench.record import Record
from tinyvit.data.dataset import Dataset, DatasetLocation
from tinyvit.errors import RequestError
from tinyvit.runtimes.classifier import Classifier

OPTIONS = EvaluationOptions(threads=1)
CONFIG = SuiteConfig(OPTIONS, keep_predictions=True)


def open_folder(folder: Path) -> Dataset:
    return open_labeled_images(DatasetLocation(str(folder)))


def mislabel_images(class_folders: Path, count: int) -> None:
    """Move `count` images of the largest class into the folder of the smallest."""
    folders = sorted(class_folders.iterdir(), key=lambda folder: len(list(folder.iterdir())))
    for path in sorted(folders[-1].iterdir())[:count]:
        path.rename(folders[0] / path.name)


def test_correct_predictions_are_counted(small_classifier: Path, class_folders: Path) -> None:
    mislabel_images(class_folders, 4)
    record = evaluate_all([str(small_classifier)], open_folder(class_folders), CONFIG).record
    (result,) = record.accuracy
    assert (result.classified_count, result.total_count, result.unreadable_count, result.top1) == (
        40,
        40,
        0,
        90.0,
    )
    assert result.top1 <= result.top5 <= 100
    assert result.top1_interval == pytest.approx((76.95, 96.04), abs=0.01)
    assert (result.reference, len(result.predictions)) == (None, 40)
    assert sum(row.image_count for row in result.classes) == 40
    assert min(row.top1 for row in result.classes) == result.classes[0].top1


def test_streams_change_no_prediction(small_classifier: Path, class_folders: Path) -> None:
    streamed = replace(CONFIG, evaluation=replace(OPTIONS, streams=2))
    predictions = [
        evaluate_all([str(small_classifier)], open_folder(class_folders), config)
        .record.accuracy[0]
        .predictions
        for config in (CONFIG, streamed)
    ]
    assert predictions[0] == predictions[1]


def test_the_second_artifact_is_compared_with_the_first(
    small_classifier: Path, small_openvino_classifier: Path, class_folders: Path
) -> None:
    pytest.importorskip("openvino")
    paths = [str(small_classifier), str(small_openvino_classifier)]
    first, second = evaluate_all(paths, open_folder(class_folders), CONFIG).record.accuracy
    assert first.reference is None
    assert second.reference is not None
    comparison = second.reference
    assert (comparison.path, comparison.agreement, comparison.p_value) == (paths[0], 100, 1)


def test_classes_of_every_artifact_are_checked_before_the_first_is_evaluated(
    small_classifier: Path, class_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = build_classifier(tmp_path, ".onnx", "host", batch="batch", with_manifest=False)
    monkeypatch.setattr(suite, "evaluate", None)  # a call would raise TypeError
    dataset = open_folder(class_folders)
    message = rf"{re.escape(str(other))}: none of the 7 classes in the data matches exactly one"
    with pytest.raises(RequestError, match=message):
        evaluate_all([str(small_classifier), str(other)], dataset, CONFIG)
    config = SuiteConfig(OPTIONS, reference=str(other))
    with pytest.raises(RequestError, match=message):
        evaluate_all([str(small_classifier)], dataset, config)


@pytest.mark.parametrize("preprocess", ["artifact", "timm"])
def test_every_artifact_is_opened_once(
    preprocess: PreprocessChoice,
    small_classifier: Path,
    class_folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = tmp_path / "copy.onnx"
    shutil.copy(small_classifier, copy)
    opened: list[str] = []

    class CountedClassifier(Classifier):
        def __init__(self, path: str, *arguments: Any, **options: Any) -> None:
            opened.append(path)
            super().__init__(path, *arguments, **options)

    monkeypatch.setattr(options_module, "Classifier", CountedClassifier)
    paths = [str(small_classifier), str(copy)]
    config = SuiteConfig(EvaluationOptions(threads=1, preprocess=preprocess))
    evaluate_all(paths, open_folder(class_folders), config)
    assert opened == paths


def test_other_preprocessing_loses_images(small_classifier: Path, class_folders: Path) -> None:
    dataset = open_folder(class_folders)
    own = evaluate(str(small_classifier), dataset, OPTIONS)
    timm_options = EvaluationOptions(threads=1, preprocess="timm")
    timm = evaluate(str(small_classifier), dataset, timm_options)
    result = make_accuracy_result(timm, own)
    assert make_accuracy_result(own).top1 == 100
    assert result.top1 < 100
    assert result.reference is not None
    assert result.reference.better == 0
    assert result.reference.worse == round((100 - result.top1) * 40 / 100)
    assert "resize 33" in result.preprocess


@pytest.mark.filterwarnings("ignore::UserWarning")  # there is no manifest
def test_class_numbers_with_an_offset_give_a_warning(class_folders: Path, tmp_path: Path) -> None:
    artifact = build_classifier(tmp_path, ".onnx", "host", batch="batch", with_manifest=False)
    images = sorted(class_folders.rglob("*.png"))
    with Classifier(artifact, threads=1) as classifier:
        predicted = [best_first[0].index for best_first in classifier.predict(images)]
    lines = []
    for path, index in zip(images, predicted):
        if index == 9:  # class 10 would be refused before the images are classified
            path.unlink()
        else:
            lines.append(f"{path.name},{index + 1}\n")
    (tmp_path / "truth.csv").write_text("".join(lines))
    dataset = open_labeled_images(DatasetLocation(str(class_folders), tmp_path / "truth.csv"))
    record = evaluate_all([str(artifact)], dataset, CONFIG).record
    assert any("100.00% with numbers that are 1 lower" in warning for warning in record.warnings)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (range(1, 11), "are numbered up to 10, and none is 0, so they seem to count from 1"),
        (range(10), "gives different classes for"),
    ],
    ids=["classes from 1", "two spellings"],
)
def test_the_command_refuses_wrong_truth_files(
    classes: range,
    message: str,
    class_folders: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    artifact = build_classifier(tmp_path, ".onnx", "host", batch="batch", with_manifest=False)
    images = sorted(class_folders.rglob("*.png"))
    lines = [f"{path.name},{classes[i % 10]}\n" for i, path in enumerate(images)]
    lines.append(f"val/{images[0].name},{classes[1 if classes[0] == 0 else 0]}\n")
    (tmp_path / "truth.csv").write_text("".join(lines))
    options = ["--data", str(class_folders), "--truth", str(tmp_path / "truth.csv")]
    assert cli.main(["accuracy", str(artifact), *options, "--threads", "1"]) == 1
    assert message in capsys.readouterr().err


@pytest.fixture
def class_folders_of_120(class_folders: Path) -> Path:
    """Class folders with three copies of each image, so that one of them may be unreadable."""
    paths = sorted(class_folders.rglob("*.png"))
    for path in paths:
        for copy in ("a", "b"):
            (path.parent / f"{path.stem}{copy}.png").write_bytes(path.read_bytes())
    return class_folders


def damage_images(class_folders: Path, count: int) -> list[Path]:
    paths = sorted(class_folders.rglob("*.png"))[:count]
    for path in paths:
        path.write_bytes(path.read_bytes()[:60])
    return paths


def test_an_unreadable_image_is_counted_and_named(
    small_classifier: Path, class_folders_of_120: Path
) -> None:
    (damaged,) = damage_images(class_folders_of_120, 1)
    evaluation = evaluate(str(small_classifier), open_folder(class_folders_of_120), OPTIONS)
    result = make_accuracy_result(evaluation)
    assert (result.classified_count, result.unreadable_count, result.total_count, result.top1) == (
        119,
        1,
        120,
        100,
    )
    assert damaged.name in evaluation.notes[-1]


def test_a_note_about_all_artifacts_is_stated_once(
    small_classifier: Path, class_folders_of_120: Path, tmp_path: Path
) -> None:
    (damaged,) = damage_images(class_folders_of_120, 1)
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(small_classifier.read_bytes())
    paths = [str(small_classifier), str(copy)]
    record = evaluate_all(paths, open_folder(class_folders_of_120), SuiteConfig(OPTIONS)).record
    (warning,) = [warning for warning in record.warnings if damaged.name in warning]
    assert warning.startswith("all artifacts: ")


def test_too_many_unreadable_images_are_refused(
    small_classifier: Path, class_folders_of_120: Path
) -> None:
    damage_images(class_folders_of_120, 2)
    with pytest.raises(RequestError, match="2 of the 120 images cannot be read"):
        evaluate(str(small_classifier), open_folder(class_folders_of_120), OPTIONS)


def test_the_command_prints_a_record_and_draws_a_contact_sheet(
    small_classifier: Path, class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mislabel_images(class_folders, 3)
    sheet = class_folders.parent / "sheet.png"
    command = ["accuracy", str(small_classifier), "--data", str(class_folders), "--threads", "1"]
    assert cli.main([*command, "--json", "--contact-sheet", str(sheet), "--progress"]) == 0
    output, errors = capsys.readouterr()
    result = json.loads(output)["results"][0]
    assert result["artifact"]["path"] == str(small_classifier)
    assert (result["top1"], result["classified_count"]) == (92.5, 40)
    assert Record.from_json(output, "stdout").dataset["images"] == 40
    assert "40/40" in errors
    assert "sheet.png shows 3 misclassified images" in errors
    assert sheet.stat().st_size > 1000


def test_the_contact_sheet_shows_the_artifact_that_is_not_the_reference(
    small_classifier: Path, class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mislabel_images(class_folders, 3)
    artifact = Path(shutil.copy2(small_classifier, class_folders.parent / "copy.onnx"))
    files = [str(small_classifier), str(artifact), "--reference", str(small_classifier)]
    sheet = class_folders.parent / "sheet.png"
    options = ["--data", str(class_folders), "--threads", "1", "--contact-sheet", str(sheet)]
    assert cli.main(["accuracy", *files, *options]) == 0
    output, errors = capsys.readouterr()
    assert "| copy.onnx | onnxruntime | 40 | 92.50% (80.1 to 97.4) |" in output
    # The reference misclassifies the same ones.
    assert "no image that the reference classifies correctly is misclassified" in errors
    assert not sheet.exists()
    files = [str(small_classifier), "--reference", str(small_classifier)]
    assert cli.main(["accuracy", *files, *options]) == 0
    assert "sheet.png shows 3 misclassified images" in capsys.readouterr().err


def test_json_output_shows_no_progress(
    small_classifier: Path, class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["accuracy", str(small_classifier), "--data", str(class_folders), "--threads", "1"]
    assert cli.main([*command, "--limit", "4", "--json"]) == 0
    assert capsys.readouterr().err == ""


def test_the_command_measures_the_other_artifacts_if_one_fails(
    small_classifier: Path, class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mislabel_images(class_folders, 3)
    damaged = class_folders.parent / "bad.onnx"
    damaged.write_bytes(b"bad")
    options = ["--data", str(class_folders), "--threads", "1"]
    assert cli.main(["accuracy", str(damaged), str(small_classifier), *options]) == 1
    output, errors = capsys.readouterr()
    assert "| test.onnx | onnxruntime | 40 | 92.50% (80.1 to 97.4) |" in output
    assert "error: " in errors


def test_another_reference_than_the_first_artifact_is_stated(
    small_classifier: Path, class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, copied = class_folders.parent / "bad.onnx", class_folders.parent / "copied.onnx"
    damaged.write_bytes(b"bad")
    copied.write_bytes(small_classifier.read_bytes())
    paths = [str(damaged), str(small_classifier), str(copied)]
    assert cli.main(["accuracy", *paths, "--data", str(class_folders), "--threads", "1"]) == 1
    assert (
        f"{damaged} cannot be evaluated, so the artifacts are compared with {small_classifier}"
        " instead" in capsys.readouterr().out
    )


def test_classes_of_another_model_are_refused_or_left_out(
    small_classifier: Path, class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(class_folders.rglob("*.png"))
    (class_folders / "n99999999").mkdir()
    path.rename(class_folders / "n99999999" / path.name)
    command = ["accuracy", str(small_classifier), "--data", str(class_folders), "--threads", "1"]
    assert cli.main(command) == 1
    assert "n99999999" in capsys.readouterr().err
    assert cli.main([*command, "--only-known-classes"]) == 0
    left_out = "left out 1 image of 1 class that the model does not have"
    assert left_out in capsys.readouterr().out


def test_no_images_are_left_out_if_that_would_be_all(
    small_classifier: Path, class_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(class_folders.rglob("*.png"))
    (tmp_path / "other" / "n99999999").mkdir(parents=True)
    path.rename(tmp_path / "other" / "n99999999" / path.name)
    assert cli.main(["accuracy", str(small_classifier), "--data", str(tmp_path / "other")]) == 1
    message = capsys.readouterr().err
    assert "n99999999" in message
    assert "--only-known-classes" not in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a.onnx", "b.onnx", "--preprocess-check"], "takes one artifact, but 2 are given"),
        (
            ["a.onnx", "--preprocess-check", "--preprocess", "paper"],
            "--preprocess-check cannot be used with --preprocess",
        ),
        (
            ["a.onnx", "--preprocess-check", "--predictions", "--ray"],
            "--preprocess-check cannot be used with --predictions and --ray",
        ),
        (
            ["a.onnx", "b.onnx", "c.onnx", "--contact-sheet", "s.png"],
            "--contact-sheet takes one artifact",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["accuracy", *options, "--data", "val"]) == 1
    assert message in capsys.readouterr().err
