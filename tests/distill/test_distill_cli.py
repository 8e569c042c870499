"""The subcommands of tinyvit-distill: results, errors of one line, and exit codes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers.distill_data import TEACHER, write_class_folders
from tests.helpers.install_commands import install_command
from tinyvit.distill.cli import main
from tinyvit.distill.commands import save_logits, train
from tinyvit.distill.logits.store import Store


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in argv])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_store_is_saved_and_a_student_is_trained_and_evaluated(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, folder, data = tmp_path / "store", tmp_path / "run", tmp_path / "data"
    write_class_folders(data / "train")
    write_class_folders(data / "val", seed=9, images_per_class=2)
    common = ["--data", data, "--epochs", "2"]
    code, out, err = run(
        capsys,
        "save-logits",
        *common,
        "--teacher",
        TEACHER,
        "--top-k",
        "5",
        "--img-size",
        "32",
        "-o",
        store,
    )
    assert code == 0, err
    assert out == f"{store}: 2 epochs of 12 views, 28 bytes per view (0.0 MB in all)\n"
    code, out, err = run(capsys, "check-logits", store, "--data", data, "--teacher", TEACHER)
    assert code == 0, err
    assert [line.partition(",")[0] for line in out.splitlines()] == [
        "All records are intact: 2 epochs of 12 views",
        f"The store was made from the 12 images in {data}",
        out.splitlines()[2],
    ]
    student = [
        "--student",
        "tiny_vit_5m_224",
        "--img-size",
        "32",
        "--batch",
        "4",
        "--set",
        "warmup_epochs=0",
        "--workers",
        "0",
    ]
    code, out, err = run(capsys, "train", *common, *student, "--logits", store, "-o", folder)
    assert code == 0, err
    assert out == f"{folder / 'best.safetensors'}\n"
    assert "epoch 2 of 2: loss" in err
    assert "top-1" in err
    result, _, files, export = err.splitlines()[-4:]
    assert "best.safetensors is the network after epoch " in result
    assert "which has the best top-1 accuracy on the validation images" in result
    assert files.startswith(f"  wrote to {folder}: class_accuracy.csv, confusion_matrix.csv, ")
    assert export == (
        f"  to export it in int8: tinyvit-export --checkpoint {folder / 'best.safetensors'} --int8 "
        f"--val-data {data / 'val'} -o {folder / (folder.name + '.int8.onnx')}"
    )
    code, out, err = run(capsys, "evaluate", folder / "best.safetensors", "--data", data, "--json")
    assert code == 0, err
    assert json.loads(out)["images"] == 6


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["save-logits", "--teacher", "x", "--epochs", "1"], "no teacher is called 'x'"),
        (
            ["save-logits", "--teacher", TEACHER, "--epochs", "1", "--set", "rotate=1"],
            "no setting is called 'augmentation.rotate'",
        ),
        (
            ["save-logits", "--teacher", TEACHER, "--epochs", "1", "--preset", "22k"],
            "no preset is called '22k'",
        ),
        (
            ["save-logits", "--teacher", TEACHER, "--epochs", "1", "--top-k", "2000"],
            "--top-k 2000 is not possible with 1000 classes",
        ),
        (
            ["save-logits", "--teacher", TEACHER, "--epochs", "1", "--set", 'rule="paper"'],
            'a store cannot be made with the augmentation rule "paper"',
        ),
        (["train", "--student", "vit"], "no variant is called 'vit'"),
        (["train", "--student", "tiny_vit_5m_224", "--preset", "x"], "no preset is called 'x'"),
        (
            ["train", "--student", "tiny_vit_5m_224", "--config", "x", "--preset", "transfer"],
            "--config and --preset were both given",
        ),
        (["train", "--init", "none.safetensors"], "none.safetensors cannot be read"),
    ],
)
def test_wrong_option_values_are_errors_of_one_line(
    image_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    message: str,
) -> None:
    code, out, err = run(capsys, *argv, "--data", image_folder, "-o", tmp_path / "output")
    assert code == 1
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("package", ["tomli_w", "tensorboard", "matplotlib", "safetensors"])
def test_a_missing_package_is_reported_before_any_other_mistake(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    package: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code, out, err = run(
        capsys, "train", "--preset", "x", "--data", "nowhere", "-o", tmp_path / "output"
    )
    assert (code, out) == (1, "")
    remedy = install_command("train")
    assert err == f"error: {package} is not installed: {remedy}\n"
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    "argv",
    [
        ["check-logits", "STORE", "--teacher", "x"],
        ["check-logits", "nowhere"],
        ["evaluate", "nowhere", "--data", "."],
    ],
)
def test_wrong_paths_are_errors_of_one_line(
    store: Store, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    code, _, err = run(
        capsys, *[str(store.folder) if argument == "STORE" else argument for argument in argv]
    )
    assert code == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("damage", ["images", "augmentation", "truncated", "record"])
def test_an_unusable_store_is_an_error_of_one_line(
    image_folder: Path,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    folder, data = Path(shutil.copytree(store.folder, tmp_path / "s")), image_folder
    first = folder / "epoch-0000.bin"
    if damage == "images":
        data = write_class_folders(tmp_path / "p", seed=3, images_per_class=3)
    elif damage == "augmentation":
        header = json.loads((folder / "store.json").read_text())
        (folder / "store.json").write_text(json.dumps({**header, "probe_sha256": "0" * 64}))
    elif damage == "truncated":
        first.write_bytes(first.read_bytes()[:-5])
    else:
        first.write_bytes(first.read_bytes()[:-1] + b"?")
    message = {
        "images": "other images",
        "augmentation": "other pixels",
        "truncated": "truncated",
        "record": "record 11 of",
    }[damage]
    student = ["--student", "tiny_vit_5m_224", "--img-size", "32", "--batch", "4", "--workers", "1"]
    code, out, err = run(
        capsys, "train", "--data", data, "--logits", folder, *student, "-o", tmp_path / "run"
    )
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("error: ")
    assert message in err.splitlines()[-1]


@pytest.mark.parametrize(
    "argv",
    [
        ["save-logits", "--teacher", TEACHER],
        ["train", "--student", "tiny_vit_5m_224", "--batch", "4"],
        ["train", "--student", "tiny_vit_5m_224", "--batch", "4", "--overwrite"],
    ],
)
def test_an_interruption_says_how_to_resume(
    image_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
) -> None:
    def stopping(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tinyvit.distill.training.trainer.TrainingRun.step", stopping)
    monkeypatch.setattr(
        "tinyvit.distill.logits.teacher_predictions.average_probabilities", stopping
    )
    code, _, err = run(
        capsys,
        *argv,
        "--epochs",
        "1",
        "--img-size",
        "32",
        "--data",
        image_folder,
        "-o",
        tmp_path / "output",
    )
    assert code == 1
    output = tmp_path / "output"
    messages = {
        "save-logits": f"run the same command again to resume {output}",
        "train": f"no step was saved in {output} yet, so the same command starts again at step 0"
        " (the progress is saved after every epoch, and every 10 minutes)",
    }
    assert err.splitlines()[-1] == f"interrupted: {messages[argv[0]]}"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_saved_state_is_resumed_without_overwrite(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "state.pt").touch()
    condition = " without --overwrite" if overwrite else ""
    assert train._explain_continuation(tmp_path, overwrite) == (
        f"run the same command again{condition} to resume {tmp_path}"
    )


def test_a_store_that_is_not_begun_is_not_resumed(tmp_path: Path) -> None:
    assert save_logits._explain_continuation(tmp_path) == (
        f"nothing was saved in {tmp_path} yet, so the same command starts from the beginning"
    )


@pytest.mark.parametrize("argv", [[], ["--epochs", "0"], ["--epochs", "x"]])
def test_a_wrong_command_line_exits_with_2(argv: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["save-logits", "--data", ".", "--teacher", "x", "-o", str(tmp_path), *argv])
    assert stopped.value.code == 2
