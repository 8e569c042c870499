"""A training run leaves reports about its best network, and states the command that exports it."""

from __future__ import annotations

import csv
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.distill_data import write_class_folders
from tests.helpers.install_commands import install_command
from tests.helpers.random_images import save_random_images
from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.distill.cli import main
from tinyvit.distill.logits.save import save_logits
from tinyvit.distill.logits.teacher_predictions import LogitsRequest
from tinyvit.distill.training import train
from tinyvit.distill.training.network.student import save_checkpoint
from tinyvit.distill.training.presets import PRESETS
from tinyvit.distill.training.request import TrainingRequest
from tinyvit.distill.training.run.folder import load_state
from tinyvit.distill.training.train import train_student
from tinyvit.errors import RequestError
from tinyvit.export.cli import main as export_main
from tinyvit.nn.checkpoints.hub import load_released
from tinyvit.runtimes.classifier import Classifier

REPORT_FILES = (
    "class_accuracy.csv",
    "confusion_matrix.csv",
    "confusion_matrix.png",
    "mistakes.png",
)
CONFIG = replace(
    PRESETS["transfer"], epochs=2, batch=6, warmup_epochs=0.0, precision="float32", ema_decay=0.0
)


def make_request(data: Path, output: Path) -> TrainingRequest:
    return TrainingRequest(data, output, CONFIG, student="tiny_vit_5m_224", img_size=32, workers=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of three classes: 12 images in train/, and 9 other ones in val/."""
    folder = tmp_path_factory.mktemp("data") / "my data's $HOME"
    write_class_folders(folder / "train")
    write_class_folders(folder / "val", seed=9, images_per_class=3)
    return folder


@pytest.fixture(scope="module")
def run_messages(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of a finished run, and the messages that the run showed."""
    folder = tmp_path_factory.mktemp("finished") / "run 1"
    progress = RecordedProgress()
    train_student(make_request(data, folder), progress)
    return folder, progress.messages


def read_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in REPORT_FILES if (folder / name).exists()}


def test_the_reports_are_those_of_the_best_network(
    run_messages: tuple[Path, list[str]], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, messages = run_messages
    rows = list(csv.DictReader((folder / "class_accuracy.csv").read_text().splitlines()))
    assert [row["class"] for row in rows] == ["goldfish", "tabby", "school bus"]
    assert [row["images"] for row in rows] == ["3", "3", "3"]
    correct_count = sum(int(row["correct"]) for row in rows)
    best_top1 = load_state(folder, {}, "cpu", 2, 2).best_top1
    assert best_top1 == pytest.approx(100 * correct_count / 9)
    matrix = list(csv.reader((folder / "confusion_matrix.csv").read_text().splitlines()))
    assert sum(int(cell) for row in matrix[1:] for cell in row[1:]) == 9
    assert messages[-4].startswith("best.safetensors is the network after epoch ")
    assert messages[-3].startswith("the classes with the lowest accuracy: ")
    assert messages[-2].startswith(f"wrote to {folder}: class_accuracy.csv, ")
    assert main(["evaluate", str(folder / "best.safetensors"), "--data", str(data), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["top1"], record["files"]) == (pytest.approx(best_top1), [])


def test_a_finished_run_writes_the_same_reports_again(
    run_messages: tuple[Path, list[str]], data: Path
) -> None:
    folder, messages = run_messages
    files = read_files(folder)
    (folder / "confusion_matrix.csv").unlink()
    progress = RecordedProgress()
    train_student(make_request(data, folder), progress)
    assert read_files(folder) == files
    assert progress.messages[-4:] == messages[-4:]
    assert progress.messages[-5] == "evaluating the best checkpoint"
    assert progress.steps[-5:] == [
        ("measuring the accuracy, images", 9, 9),
        *(("drawing the evaluation, files", done, 4) for done in (1, 2, 3, 4)),
    ]


def test_a_run_that_ends_before_its_reports_writes_them_later(
    run_messages: tuple[Path, list[str]],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "report_run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_student(make_request(data, tmp_path / "run"))
    assert read_files(tmp_path / "run") == {}
    train_student(make_request(data, tmp_path / "run"))
    assert read_files(tmp_path / "run") == read_files(run_messages[0])


def test_a_new_run_does_not_keep_the_reports_of_another(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mistakes.png").write_bytes(b"old")
    with pytest.raises(RequestError, match=r"contains mistakes\.png, but no run\.toml"):
        train_student(make_request(data, tmp_path))
    without_validation = make_request(data / "train", tmp_path)
    progress = RecordedProgress()
    config = replace(CONFIG, val_split=0.0)
    train_student(replace(without_validation, config=config, overwrite=True), progress)
    assert read_files(tmp_path) == {}
    assert progress.messages[-2].startswith("there were no validation images")
    assert "--val-data" not in progress.messages[-1]


def test_the_last_message_is_the_export_command(
    run_messages: tuple[Path, list[str]], data: Path
) -> None:
    folder, messages = run_messages
    prefix, separator, command = messages[-1].partition(": ")
    assert (prefix, separator) == ("to export it in int8", ": ")
    # 12 images are too few to calibrate on.
    assert shlex.split(command) == [
        "tinyvit-export",
        "--checkpoint",
        str(folder / "best.safetensors"),
        "--int8",
        "--val-data",
        str(data / "val"),
        "-o",
        str(folder / f"{folder.name}.int8.onnx"),
    ]


@pytest.mark.slow
def test_the_export_command_works_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = Path("it's $HOME & more")
    write_class_folders(data / "train", images_per_class=40)
    write_class_folders(data / "val", seed=9, images_per_class=40)
    arguments = ["train", "--student", "tiny_vit_5m_224", "--img-size", "32", "--workers", "0"]
    # A value that begins with a hyphen needs "=".
    arguments += ["--epochs", "2", "--batch", "12", "--data", str(data), "--output=-run; ls"]
    assert main(arguments) == 0
    command = shlex.split(capsys.readouterr().err.splitlines()[-1].partition(": ")[2])
    assert command == [
        "tinyvit-export",
        "--checkpoint",
        "./-run; ls/best.safetensors",
        "--int8",
        "--calib-data",
        f"{data}/train",
        "--val-data",
        f"{data}/val",
        "-o",
        "./-run; ls/-run; ls.int8.onnx",
    ]
    assert export_main(command[1:]) == 0
    classifier = Classifier("./-run; ls/-run; ls.int8.onnx")
    assert [label.name for label in classifier.labels] == ["goldfish", "tabby", "school bus"]


def test_evaluate_writes_the_same_files_as_the_run(
    run_messages: tuple[Path, list[str]],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, messages = run_messages
    output = tmp_path / "new" / "evaluation"
    arguments = ["evaluate", str(folder / "best.safetensors"), "--data", str(data)]
    arguments += ["-o", str(output)]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [messages[-3], messages[-2].replace(str(folder), str(output))]
    assert read_files(output) == read_files(folder)
    assert main(arguments) == 1
    assert capsys.readouterr().err == (
        f"error: {output / 'class_accuracy.csv'} exists: give another -o, or --overwrite to "
        "replace it\n"
    )
    assert main([*arguments, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == [
        str(output / name) for name in read_files(folder)
    ]


def test_evaluate_needs_matplotlib_only_for_its_files(
    run_messages: tuple[Path, list[str]],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    arguments = ["evaluate", str(run_messages[0] / "best.safetensors"), "--data", str(data)]
    assert main([*arguments, "-o", str(tmp_path / "out")]) == 1
    assert capsys.readouterr() == (
        "",
        f"error: matplotlib is not installed: {install_command('train')}\n",
    )
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("best.safetensors: top-1 ")


@pytest.mark.slow
@pytest.mark.parametrize(("weight_bits", "cpu"), [(7, []), (8, ["--cpu", "vnni"])])
def test_the_reports_of_quantization_aware_training_are_those_of_the_quantized_network(
    weight_bits: int, cpu: list[str], tmp_path: Path
) -> None:
    source = load_released("demo").at_size(32, "scaled")
    init = tmp_path / "init.safetensors"
    assert source.labels is not None
    save_checkpoint(init, source.state_dict, source.labels, source.preprocess, "mit")
    images = tmp_path / "images"
    for number, label in enumerate(source.labels[:3]):
        save_random_images(images / label.name, range(40 * number, 40 * number + 40))
    store = save_logits(
        LogitsRequest(images, (str(init),), 1, tmp_path / "s", top_k=10, precision="float32")
    )
    request = TrainingRequest(
        images,
        tmp_path / "run",
        replace(PRESETS["qat"], epochs=1, batch=30, precision="float32"),
        init=init,
        val_data=images,
        logits=store.folder,
        classes="teacher",
        workers=0,
        qat="",
        weight_bits=weight_bits,
    )
    progress = RecordedProgress()
    best_checkpoint = train_student(request, progress)
    rows = list(csv.DictReader((tmp_path / "run" / "class_accuracy.csv").read_text().splitlines()))
    correct_count = sum(int(row["correct"]) for row in rows)
    best_top1 = load_state(tmp_path / "run", {}, "cpu", 4, 1).best_top1
    assert best_top1 == pytest.approx(100 * correct_count / 120)
    command = shlex.split(progress.messages[-1].partition(": ")[2])
    assert command[:4] == ["tinyvit-export", "--checkpoint", str(best_checkpoint), "--int8"]
    assert command[4:-2] == [
        "--recipe",
        str(tmp_path / "run" / "recipe.json"),
        *cpu,
        "--calib-data",
        str(images),
        "--val-data",
        str(images),
    ]
