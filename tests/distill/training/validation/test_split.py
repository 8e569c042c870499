"""A share of every class is held out for validation, and is never trained on."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.distill_data import CLASSES, TEACHER, write_class_folders
from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.data.class_folders import ImageFolder, read_image_folder
from tinyvit.distill.cli import main
from tinyvit.distill.logits.save import save_logits
from tinyvit.distill.logits.store import Store
from tinyvit.distill.logits.teacher_predictions import LogitsRequest
from tinyvit.distill.training.batches.data_loader import TrainingData, _EpochDataset
from tinyvit.distill.training.presets import PRESETS
from tinyvit.distill.training.request import TrainingRequest
from tinyvit.distill.training.run.toml_files import parse_toml
from tinyvit.distill.training.train import train_student
from tinyvit.distill.training.validation.split import split_images
from tinyvit.errors import RequestError
from tinyvit.labels import Label

CONFIG = replace(
    PRESETS["transfer"], epochs=1, batch=4, warmup_epochs=0, precision="float32", val_split=0.25
)


def make_image_folder(sizes: list[int]) -> ImageFolder:
    """Return class folders "0", "1", ... with these numbers of images, which do not exist."""
    keys = tuple(
        f"{name}/{number}.png" for name, size in enumerate(sizes) for number in range(size)
    )
    labels = tuple(Label(str(name)) for name in range(len(sizes)))
    classes = np.repeat(np.arange(len(sizes)), sizes)
    return ImageFolder(Path("images"), keys, labels, classes)


def make_request(data: Path, output: Path) -> TrainingRequest:
    return TrainingRequest(data, output, CONFIG, student="tiny_vit_5m_224", img_size=32, workers=0)


def find_held_out(keys: tuple[str, ...], seed: int, count: int = 1) -> list[str]:
    """Return the `count` keys of each class whose hashes are the smallest."""
    held_out = []
    for name in sorted({key.partition("/")[0] for key in keys}):
        members = [key for key in keys if key.startswith(f"{name}/")]
        members.sort(key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
        held_out += sorted(members[:count])
    return held_out


def read_split_lists(run: Path, image_folder: Path) -> tuple[list[str], list[str]]:
    """Return the keys in both lists of a run, and check that the classes are those of the keys."""
    training = (run / "training_images.txt").read_text().splitlines()
    rows = [line.split("\t") for line in (run / "validation_images.txt").read_text().splitlines()]
    root = image_folder.resolve()
    keys = [
        (run / path).resolve().relative_to(root).as_posix()
        for path in (*training, *(path for path, _ in rows))
    ]
    validation_keys = keys[len(training) :]
    assert [name for _, name in rows] == [key.partition("/")[0] for key in validation_keys]
    return keys[: len(training)], validation_keys


@pytest.mark.parametrize(
    ("share", "counts"),
    [(0.2, [1, 1, 2, 3]), (0.5, [1, 3, 5, 7]), (0.9, [1, 4, 9, 12]), (0.001, [1, 1, 1, 1])],
)
def test_the_share_of_each_class_is_rounded(share: float, counts: list[int]) -> None:
    images = make_image_folder([2, 5, 10, 13])
    split = split_images(images, share, seed=0)
    assert images.class_indices is not None
    assert np.bincount(images.class_indices[split.validation]).tolist() == counts
    assert sorted([*split.training, *split.validation]) == list(range(30))


def test_the_choice_depends_on_the_seed_and_the_keys() -> None:
    images = make_image_folder([10, 10])
    for seed in (0, 1):
        split = split_images(images, 0.3, seed)
        chosen = [images.keys[index] for index in split.validation]
        assert chosen == find_held_out(images.keys, seed, count=3)
    assert find_held_out(images.keys, 0, 3) != find_held_out(images.keys, 1, 3)


def test_a_class_with_one_image_cannot_be_split() -> None:
    with pytest.raises(
        RequestError,
        match=r"^the class folder 1 of images has only one image, which cannot be divided into "
        r"training and validation images: add images to it, use --val-data .* or use --val-split 0",
    ):
        split_images(make_image_folder([5, 1]), 0.2, seed=0)


def test_held_out_images_are_validated_and_not_trained_on(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: set[str] = set()
    real = ImageFolder.open

    def open_image(images: ImageFolder, index: int) -> Image.Image:
        opened.add(images.keys[index])
        return real(images, index)

    monkeypatch.setattr(ImageFolder, "open", open_image)
    progress = RecordedProgress()
    config = replace(CONFIG, epochs=3)
    request = replace(make_request(image_folder, tmp_path / "run"), config=config)
    train_student(request, progress)
    held_out = find_held_out(read_image_folder(image_folder).keys, seed=0)
    assert len(held_out) == 3
    trained = [key for key in read_image_folder(image_folder).keys if key not in held_out]
    assert not opened & set(held_out)
    assert len(opened) == 9  # an epoch leaves out one of nine images
    assert read_split_lists(tmp_path / "run", image_folder) == (trained, held_out)
    assert progress.messages[2:4] == [
        f"training images: 9 of the 12 images of 3 classes in {image_folder}",
        "validation images: 3 images of 3 classes, held out from the training images because of "
        "--val-split 0.25",
    ]
    assert any("which has the best top-1 accuracy" in message for message in progress.messages)
    rows = (tmp_path / "run" / "class_accuracy.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:2] for row in rows] == [
        ["goldfish", "1"],
        ["tabby", "1"],
        ["school bus", "1"],
    ]
    assert "tinyvit-export --checkpoint " in progress.messages[-1]
    command = shlex.split(progress.messages[-1].partition(": ")[2])
    # 9 images are too few to calibrate on.
    assert "--calib-data" not in command
    assert command[command.index("--val-data") + 1] == str(tmp_path / "run/validation_images.txt")
    settings = parse_toml((tmp_path / "run" / "run.toml").read_text())
    assert settings["training"]["val_split"] == 0.25
    other_share = replace(request, config=replace(config, val_split=0.5))
    with pytest.raises(RequestError, match=r"with another value of run\.validation_sha256 and of"):
        train_student(other_share)


def test_a_path_that_does_not_fit_on_a_line_is_not_listed(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "images")
    path = next(folder.rglob("*.png"))
    path.rename(path.with_name("two\nlines.png"))
    progress = RecordedProgress()
    train_student(make_request(folder, tmp_path / "run"), progress)
    assert not list((tmp_path / "run").glob("*_images.txt"))
    assert "--val-data" not in progress.messages[-1]


def test_samples_of_a_store_belong_to_the_images_that_are_left(
    image_folder: Path, store: Store
) -> None:
    """Record i of a store is that of image i, including the images that are held out."""
    images = read_image_folder(image_folder)
    whole = TrainingData(images, images.class_indices, store, CONFIG.augmentation, 0, 32)
    part = replace(whole, selected=np.array([1, 5, 11]))
    assert len(part) == 3
    whole_samples, part_samples = _EpochDataset(whole, 1), _EpochDataset(part, 1)
    for position, image_index in enumerate([1, 5, 11]):
        found, expected = part_samples[position], whole_samples[image_index]
        assert isinstance(found, dict)
        assert isinstance(expected, dict)
        assert np.array_equal(found["pixels"], expected["pixels"])
        assert np.array_equal(found["teacher"]["classes"], expected["teacher"]["classes"])
        assert found["labels"]["classes"] == image_index // 4


def test_a_run_from_a_store_holds_images_out(
    image_folder: Path, store: Store, tmp_path: Path
) -> None:
    progress = RecordedProgress()
    request = replace(make_request(image_folder, tmp_path / "run"), logits=store.folder)
    train_student(request, progress)
    assert progress.messages[2].startswith("training images: 9 of the 12 images of 3 classes in ")
    # With all classes of the teacher, the images have the teacher's class numbers.
    train_student(replace(request, output=tmp_path / "all", classes="teacher"))
    held_out = find_held_out(read_image_folder(image_folder).keys, seed=0)
    for name in ("run", "all"):
        assert read_split_lists(tmp_path / name, image_folder)[1] == held_out


def test_views_that_mix_images_cannot_be_split(image_folder: Path, tmp_path: Path) -> None:
    storing = LogitsRequest(
        image_folder,
        (TEACHER,),
        1,
        tmp_path / "s",
        top_k=5,
        size=32,
        precision="float32",
        augmentation=replace(CONFIG.augmentation, mixup=0.8),
    )
    request = make_request(image_folder, tmp_path / "run")
    with pytest.raises(RequestError, match="was made with Mixup or CutMix, so views of training"):
        train_student(replace(request, logits=save_logits(storing).folder))


def test_images_without_classes_are_not_split(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "images")
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        path.rename(folder / f"{number}.png")
    for name in CLASSES:
        (folder / name).rmdir()
    storing = LogitsRequest(
        folder, (TEACHER,), 1, tmp_path / "s", top_k=5, size=32, precision="float32"
    )
    request = replace(make_request(folder, tmp_path / "run"), logits=save_logits(storing).folder)
    with pytest.raises(
        RequestError, match=r"--val-split needs the class of every image, but .* has no class"
    ):
        train_student(replace(request, requires_split=True))
    with pytest.raises(
        RequestError, match="--patience 3 was given, but there are no validation images: use --val"
    ):
        train_student(replace(request, config=replace(CONFIG, patience=3)))
    with pytest.raises(
        RequestError, match=r"--balance needs the class of every image, but .* has no class"
    ):
        train_student(replace(request, config=replace(CONFIG, balance=True)))
    train_student(request)  # the preset's split does not apply
    assert not (tmp_path / "run" / "validation_images.txt").exists()


COMMAND = ["train", "--student", "tiny_vit_5m_224", "--preset", "transfer", "--img-size", "32"]
COMMAND += ["--workers", "0", "--epochs", "1"]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main([*COMMAND, *map(str, arguments)])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("1", "val_split must be at least 0 and below 1 (it is 1.0): use another value of"),
        ("20", "val_split must be at least 0 and below 1 (it is 20.0): use another value of"),
        ("-0.1", "val_split must be at least 0 and below 1 (it is -0.1): use another value of"),
        ("nan", "val_split must be at least 0 and below 1 (it is nan): use another value of"),
    ],
)
def test_an_impossible_share_is_refused(
    value: str, error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, message = run(
        capsys, f"--val-split={value}", "--data", tmp_path / "nowhere", "-o", tmp_path / "run"
    )
    assert code == 1
    assert error in message


def test_a_split_beside_other_validation_images_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write_class_folders(tmp_path / "data" / "train")
    val = write_class_folders(tmp_path / "data" / "val", seed=1)
    output = ["-o", tmp_path / "run"]
    code, message = run(capsys, "--data", train, "--val-data", val, "--val-split", 0.2, *output)
    assert (code, message) == (
        1,
        "error: --val-split 0.2 and --val-data were both given: give only one of them\n",
    )
    for option in (["--val-split", "0.2"], ["--set", "val_split=0.2"]):
        code, message = run(capsys, "--data", tmp_path / "data", *option, *output)
        assert (code, message) == (
            1,
            f"error: --val-split 0.2 was given, but {val} has validation images: leave out "
            f"--val-split, or use --data {train} to ignore them\n",
        )
    # The preset's share has no effect beside them.
    code, message = run(capsys, "--data", tmp_path / "data", *output)
    assert code == 0
    assert f"training images: 12 images of 3 classes in {train}\n" in message
    assert "validation images: 12 images of 3 classes\n" in message
    settings = parse_toml((tmp_path / "run" / "run.toml").read_text())
    assert settings["training"]["val_split"] == 0


def test_a_share_of_0_trains_on_all_images(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, message = run(capsys, "--data", image_folder, "--val-split", 0, "-o", tmp_path / "run")
    assert code == 0
    assert "training images: 12 images of 3 classes" in message
    assert "there were no validation images, so best.safetensors" in message
