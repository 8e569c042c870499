"""A training run ends with the same bytes even if it is interrupted, and replaces no other run."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from tests.helpers.distill_data import CLASSES, TEACHER, write_class_folders
from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.logits.save import save_logits
from tinyvit.distill.logits.store import Store
from tinyvit.distill.logits.teacher_predictions import LogitsRequest
from tinyvit.distill.training import trainer
from tinyvit.distill.training.batches import data_loader
from tinyvit.distill.training.batches.data_loader import TrainingBatch
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.network.student import make_student, save_checkpoint
from tinyvit.distill.training.presets import PRESETS
from tinyvit.distill.training.request import TrainingRequest
from tinyvit.distill.training.train import train_student
from tinyvit.errors import RequestError
from tinyvit.labels import Label, labels_by_wnid
from tinyvit.nn.checkpoints.hub import load_file_or_released
from tinyvit.nn.checkpoints.loading import load_checkpoint

LABELS = tuple(labels_by_wnid()[name] for name in CLASSES)
CONFIG = replace(
    PRESETS["transfer"],
    epochs=2,
    batch=4,
    drop_path=0.2,
    ema_decay=0.9,
    label_weight=0.5,
    precision="float32",
    warmup_epochs=1.0,
    val_split=0.0,
)


def make_request(
    image_folder: Path, output: Path, store: Store | None = None, config: TrainingConfig = CONFIG
) -> TrainingRequest:
    logits = store.folder if store else None
    return TrainingRequest(
        image_folder,
        output,
        config,
        student="tiny_vit_5m_224",
        logits=logits,
        img_size=32,
        workers=0,
        val_data=image_folder,
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained student of the three classes at 32 pixels, with a license."""
    student = make_student("tiny_vit_5m_224", None, LABELS, 3, 32, seed=3)
    torch.nn.init.normal_(student.model.head.fc.weight)
    path = tmp_path_factory.mktemp("checkpoint") / "init.safetensors"
    save_checkpoint(path, student.model.state_dict(), LABELS, student.preprocess, "mit")
    return path


@pytest.fixture(scope="module")
def finished_run(
    image_folder: Path, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run from the store without an interruption: two epochs of three steps."""
    folder = tmp_path_factory.mktemp("finished_run") / "run"
    assert train_student(make_request(image_folder, folder, store)) == folder / "best.safetensors"
    return folder


def test_a_run_leaves_checkpoints_and_a_history(finished_run: Path) -> None:
    names = {path.name for path in finished_run.iterdir()}
    assert names == {
        "run.toml",
        "state.pt",
        "best.safetensors",
        "last.safetensors",
        "curves.png",
        "tensorboard",
        "class_accuracy.csv",
        "confusion_matrix.csv",
        "confusion_matrix.png",
        "mistakes.png",
    }
    assert any((finished_run / "tensorboard").iterdir())
    checkpoint_of_run = load_checkpoint(finished_run / "last.safetensors")
    assert (checkpoint_of_run.labels, checkpoint_of_run.img_size, checkpoint_of_run.license) == (
        LABELS,
        32,
        "unknown",
    )
    assert checkpoint_of_run.variant.name == "tiny_vit_5m_224"


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_an_interrupted_run_ends_with_the_same_bytes(
    finished_run: Path,
    image_folder: Path,
    store: Store,
    tmp_path: Path,
    stop: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps, real = [0], trainer.TrainingRun.step

    def interrupt(run: trainer.TrainingRun, batch: object, rate: float) -> float:
        if steps[0] == stop:
            raise KeyboardInterrupt
        steps[0] += 1
        return real(run, batch, rate)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer, "SAVE_INTERVAL_S", 0.0)
    monkeypatch.setattr(trainer.TrainingRun, "step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_student(make_request(image_folder, tmp_path / "run", store))
    monkeypatch.setattr(trainer.TrainingRun, "step", real)
    progress = RecordedProgress()
    train_student(make_request(image_folder, tmp_path / "run", store), progress)
    assert f"resuming after step {stop} of 6" in progress.messages
    for name in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (finished_run / name).read_bytes()


@pytest.mark.parametrize("accumulation", ["auto", 2])
def test_a_run_in_parts_is_resumed_with_the_same_parts(
    image_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    accumulation: Literal["auto"] | int,
) -> None:
    """The resumed run has memory for the whole batch, but still uses the parts of the first run."""
    real = trainer.TrainingRun.step
    stop: int | None = None
    memory = 2

    def interrupt(run: trainer.TrainingRun, parts: Iterable[TrainingBatch], rate: float) -> float:
        if run.state.step == stop:
            raise KeyboardInterrupt
        all_parts = list(parts)
        assert [len(part.pixels) for part in all_parts] == [2, 2]
        return real(run, all_parts, rate)

    monkeypatch.setattr(trainer, "SAVE_INTERVAL_S", 0.0)
    monkeypatch.setattr(trainer, "count_images_in_memory", lambda *_: memory)
    monkeypatch.setattr(trainer.TrainingRun, "step", interrupt)
    mixing = Augmentation(mixup=0.8, cutmix=1.0)
    config = replace(CONFIG, accumulation=accumulation, augmentation=mixing)
    train_student(make_request(image_folder, tmp_path / "whole", config=config))
    stop = 4
    with pytest.raises(KeyboardInterrupt):
        train_student(make_request(image_folder, tmp_path / "run", config=config))
    stop, memory = None, 100
    train_student(make_request(image_folder, tmp_path / "run", config=config))
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == (
        tmp_path / "whole" / "last.safetensors"
    ).read_bytes()


def test_an_interrupted_evaluation_is_repeated(
    finished_run: Path,
    image_folder: Path,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    real = trainer.evaluate_model
    monkeypatch.setattr(trainer, "SAVE_INTERVAL_S", 0.0)
    monkeypatch.setattr(trainer, "evaluate_model", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_student(make_request(image_folder, tmp_path / "run", store))
    monkeypatch.setattr(trainer, "evaluate_model", real)
    progress = RecordedProgress()
    train_student(make_request(image_folder, tmp_path / "run", store), progress)
    assert progress.messages[2].startswith("training images: 12 images of 3 classes in ")
    assert progress.messages[3] == "validation images: 12 images of 3 classes"
    assert progress.messages[6] == "resuming after step 3 of 6"
    assert [line.partition(":")[0] for line in progress.messages[7:-4]] == [
        "epoch 1 of 2",
        "epoch 2 of 2",
        "evaluating the best checkpoint",
    ]
    for name in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (finished_run / name).read_bytes()


def test_a_finished_run_is_not_trained_again(
    finished_run: Path, image_folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.TrainingRun, "step", None)
    assert (
        train_student(make_request(image_folder, finished_run, store))
        == finished_run / "best.safetensors"
    )


def test_tensorboard_shows_every_step_of_a_resumed_run(
    image_folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    real = trainer.TrainingRun._train_epoch

    def interrupt(run: trainer.TrainingRun, epoch: int, board: object) -> None:
        if epoch == 1:
            raise KeyboardInterrupt
        real(run, epoch, board)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.TrainingRun, "_train_epoch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_student(make_request(image_folder, tmp_path / "run", store))
    monkeypatch.setattr(trainer.TrainingRun, "_train_epoch", real)
    for _ in range(2):  # goes on, and finds it finished
        train_student(make_request(image_folder, tmp_path / "run", store))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars("val/top1")] == [3, 6]


@pytest.mark.parametrize("changed", [{"lr": 1e-3}, {"epochs": 1}, {"seed": 1}])
def test_a_run_with_other_settings_is_not_continued(
    finished_run: Path, image_folder: Path, store: Store, changed: dict[str, float]
) -> None:
    config = replace(CONFIG, **changed)  # type: ignore[arg-type]
    with pytest.raises(
        RequestError,
        match=rf"contains a different run, with another value of training\.{next(iter(changed))}:",
    ):
        train_student(make_request(image_folder, finished_run, store, config))


def test_a_run_with_another_store_is_not_continued(
    finished_run: Path, image_folder: Path, store: Store, tmp_path: Path
) -> None:
    other = save_logits(
        LogitsRequest(
            image_folder,
            (TEACHER,),
            2,
            tmp_path / "s",
            top_k=5,
            size=32,
            batch=5,
            seed=1,
            precision="float32",
        )
    )
    with pytest.raises(RequestError, match=r"a different run, with another value of run\.store:"):
        train_student(make_request(image_folder, finished_run, other))


def test_a_run_with_other_validation_images_is_not_continued(
    finished_run: Path, image_folder: Path, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(
        RequestError,
        match=r"contains a different run, with another value of run\.validation_sha256:",
    ):
        train_student(
            replace(
                make_request(image_folder, finished_run, store),
                val_data=write_class_folders(tmp_path / "val", seed=7),
            )
        )


def test_files_of_unknown_origin_are_not_replaced(
    image_folder: Path, store: Store, checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    mine = folder / "best.safetensors"
    mine.write_bytes(checkpoint.read_bytes())
    with pytest.raises(RequestError, match=r"contains best\.safetensors, but no run\.toml"):
        train_student(make_request(image_folder, folder, store))
    with pytest.raises(RequestError, match="is in the output folder"):
        train_student(
            replace(
                make_request(image_folder, folder, store), student=None, init=mine, overwrite=True
            )
        )
    assert mine.read_bytes() == checkpoint.read_bytes()


def test_a_run_that_is_refused_replaces_nothing(
    finished_run: Path, image_folder: Path, store: Store, tmp_path: Path
) -> None:
    import shutil

    folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
    before = {path.name: path.read_bytes() for path in folder.glob("*.*")}
    large = replace(CONFIG, batch=100)
    for output in (folder, tmp_path / "new"):
        with pytest.raises(
            RequestError, match="cannot fill a batch of 100: use --batch 12 or less"
        ):
            train_student(replace(make_request(image_folder, output, store, large), overwrite=True))
    assert {path.name: path.read_bytes() for path in folder.glob("*.*")} == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_record_is_reported(
    image_folder: Path, store: Store, tmp_path: Path, workers: int
) -> None:
    import shutil

    copied = Store(Path(shutil.copytree(store.folder, tmp_path / "s")), store.header)
    data = bytearray(copied.epoch_path(0).read_bytes())
    data[3 * store.header.dtype.itemsize + 10] ^= 1
    copied.epoch_path(0).write_bytes(data)
    with pytest.raises(
        RequestError,
        match=r"record 3 of .* is damaged: "
        "delete the file and run the same save-logits command again",
    ):
        train_student(
            replace(make_request(image_folder, tmp_path / "run", copied), workers=workers)
        )


def test_a_damaged_state_is_reported(
    finished_run: Path, image_folder: Path, store: Store, tmp_path: Path
) -> None:
    import shutil

    folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
    (folder / "state.pt").write_bytes((folder / "state.pt").read_bytes()[:1000])
    with pytest.raises(RequestError, match="damaged"):
        train_student(make_request(image_folder, folder, store))


def test_a_student_that_is_its_teacher_has_nothing_to_learn(
    image_folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    storing = LogitsRequest(
        image_folder, (str(checkpoint),), 1, tmp_path / "s", top_k=3, batch=4, precision="float32"
    )
    store = save_logits(storing)
    settings = replace(
        PRESETS["finetune-1k"],
        epochs=1,
        batch=4,
        warmup_epochs=0,
        lr=1e-9,
        warmup_lr=0,
        min_lr=0,
        precision="float32",
    )
    losses: list[float] = []
    run = trainer.TrainingRun.step

    def seen(self: trainer.TrainingRun, batch: object, rate: float) -> float:
        losses.append(run(self, batch, rate))  # type: ignore[arg-type]
        return losses[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.TrainingRun, "step", seen)
        progress = RecordedProgress()
        train_student(
            TrainingRequest(
                image_folder,
                tmp_path / "run",
                settings,
                init=checkpoint,
                logits=store.folder,
                workers=0,
            ),
            progress,
        )
        assert progress.messages[3].endswith(
            "; in the paper, finetune-1k learns from class labels only"
        )
        # On a GPU, torch computes convolutions of float32 tensors in TF32.
        assert max(losses) < (1e-4 if torch.cuda.is_available() else 1e-5)
        losses.clear()
        train_student(
            replace(
                make_request(image_folder, tmp_path / "other", store),
                config=settings,
                val_data=None,
            )
        )
        assert min(losses) > 1e-2


def test_training_approaches_the_teacher(image_folder: Path, store: Store, tmp_path: Path) -> None:
    settings = replace(
        CONFIG,
        epochs=12,
        lr=0.1,
        warmup_epochs=0,
        ema_decay=0.0,
        drop_path=0.0,
        label_weight=0.0,
        batch=12,
    )
    progress = RecordedProgress()
    train_student(make_request(image_folder, tmp_path / "run", store, settings), progress)
    losses = [
        float(line.split("loss ")[1].split(",")[0].split(" ")[0])
        for line in progress.messages
        if line.startswith("epoch")
    ]
    assert losses[-1] < 0.7 * losses[0]


def test_the_finished_model_has_the_classes_of_the_folders_or_of_the_teacher(
    image_folder: Path, store: Store, tmp_path: Path
) -> None:
    short = replace(CONFIG, epochs=1)
    train_student(
        replace(
            make_request(image_folder, tmp_path / "teacher", store, short),
            classes="teacher",
            val_data=None,
        )
    )
    assert load_checkpoint(tmp_path / "teacher" / "last.safetensors").num_classes == 1000
    train_student(make_request(image_folder, tmp_path / "folders", store, short))
    assert load_checkpoint(tmp_path / "folders" / "last.safetensors").labels == LABELS


def test_the_name_of_a_released_model_wins_over_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert load_file_or_released(Path("demo")).num_classes == 12


def test_transfer_to_other_classes_without_a_teacher(
    image_folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    new = write_class_folders(tmp_path / "new", seed=5)
    (new / CLASSES[0]).rename(new / "widget")
    progress = RecordedProgress()
    train_student(
        TrainingRequest(
            new, tmp_path / "run", replace(CONFIG, epochs=1), init=checkpoint, workers=0
        ),
        progress,
    )
    checkpoint_of_run = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert [label.name for label in checkpoint_of_run.labels or ()] == [
        "tabby",
        "school bus",
        "widget",
    ]
    assert checkpoint_of_run.license == "mit"
    assert progress.messages[-2] == (
        "there were no validation images, so best.safetensors is the network after the last "
        "epoch, epoch 1"
    )
    assert "the classifier starts with the checkpoint's weights for 2 of 3 classes" in "\n".join(
        progress.messages
    )


@pytest.mark.parametrize(
    ("init_labels", "labels", "class_count", "reason"),
    [
        (None, LABELS, 3, "because init does not name its classes, so they cannot be matched"),
        (
            LABELS,
            (Label("cat"), Label("dog")),
            2,
            "because init and the images have no class in common (the classes of init:"
            " goldfish, tabby, school bus)",
        ),
        (
            LABELS,
            None,
            5,
            "because init has 3 classes, and the student has 5 without known names",
        ),
    ],
)
def test_a_random_classifier_is_explained(
    checkpoint: Path,
    init_labels: tuple[Label, ...] | None,
    labels: tuple[Label, ...] | None,
    class_count: int,
    reason: str,
) -> None:
    init = replace(load_checkpoint(checkpoint), labels=init_labels)
    student = make_student(None, init, labels, class_count, None, seed=0)
    assert student.head_origin == f"the classifier starts with random weights, {reason}"


def test_a_larger_image_size_interpolates_the_attention_biases(
    image_folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    train_student(
        TrainingRequest(
            image_folder,
            tmp_path / "run",
            replace(CONFIG, epochs=1),
            init=checkpoint,
            img_size=64,
            workers=0,
        )
    )
    checkpoint_of_run = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert (checkpoint_of_run.img_size, checkpoint_of_run.preprocess.size) == (64, 64)


def test_workers_make_the_same_views(
    finished_run: Path, image_folder: Path, store: Store, tmp_path: Path
) -> None:
    train_student(replace(make_request(image_folder, tmp_path / "run", store), workers=2))
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == (
        finished_run / "last.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"student": None}, "neither --student nor --init was given"),
        ({"student": "tiny_vit_6m"}, "no variant is called 'tiny_vit_6m'"),
        ({"img_size": 50}, "cannot be trained at 50 pixels"),
        ({"workers": -1}, "--workers -1 is not possible"),
        ({"classes": "mine"}, "--classes mine is not possible"),
        ({"classes": "teacher", "logits": None}, "--classes teacher was given without --logits"),
        ({"config": replace(CONFIG, batch=100)}, "cannot fill a batch of 100"),
        ({"data": Path("nowhere")}, "is not a folder"),
        ({"logits": Path("nowhere")}, "is not a logits store"),
    ],
)
def test_impossible_requests_are_refused_before_training(
    image_folder: Path, store: Store, tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    request = make_request(image_folder, tmp_path / "run", store)
    request = replace(request, **changed)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=message):
        train_student(request)


def test_class_folders_that_the_teacher_does_not_know(tmp_path: Path) -> None:
    image_folder = write_class_folders(tmp_path / "p")
    (image_folder / CLASSES[0]).rename(image_folder / "widget")
    store = save_logits(
        LogitsRequest(
            image_folder, (TEACHER,), 1, tmp_path / "s", top_k=5, size=32, precision="float32"
        )
    )
    with pytest.raises(
        RequestError,
        match=r"1 of the 3 class folders in .* do not match exactly one class of the model "
        r"\(widget\); here, the model is the teacher of the store",
    ):
        train_student(replace(make_request(image_folder, tmp_path / "run", store), val_data=None))


def test_a_loss_that_is_not_finite_ends_the_run(
    image_folder: Path, store: Store, tmp_path: Path
) -> None:
    settings = replace(CONFIG, lr=1e30, warmup_epochs=0, max_grad_norm=0.0, ema_decay=0.0)
    with pytest.raises(RequestError, match="the loss is"):
        train_student(make_request(image_folder, tmp_path / "run", store, settings))


def test_frozen_norms_keep_their_statistics(
    image_folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    before = copy.deepcopy(load_checkpoint(checkpoint).state_dict)
    settings = replace(CONFIG, epochs=1, frozen_batchnorm=True, ema_decay=0.0)
    train_student(
        TrainingRequest(image_folder, tmp_path / "run", settings, init=checkpoint, workers=0)
    )
    after = load_checkpoint(tmp_path / "run" / "last.safetensors").state_dict
    name = "stages.0.blocks.0.conv1.bn.running_mean"
    assert torch.equal(before[name], after[name])
    assert not torch.equal(
        before["stages.0.blocks.0.conv1.conv.weight"], after["stages.0.blocks.0.conv1.conv.weight"]
    )


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no such variable")
def test_workers_do_not_look_for_modules_in_the_current_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Workers that are not forked are new processes: tests/processes/test_python_process.py."""
    variables: list[str | None] = []

    class RecordedLoader:
        def __init__(self, *_: object, **options: object) -> None:
            assert options["num_workers"] == 2

        def __iter__(self) -> Iterator[object]:
            variables.append(os.environ.get("PYTHONSAFEPATH"))
            return iter(())

    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setattr(data_loader, "DataLoader", RecordedLoader)
    monkeypatch.setattr(data_loader, "_EpochDataset", lambda *_: [])
    data: Any = None  # the images are not read
    assert list(data_loader.load_batches(data, 0, [[0, 1], [2, 3]], workers=2)) == []
    assert variables == ["1"]
    assert "PYTHONSAFEPATH" not in os.environ
