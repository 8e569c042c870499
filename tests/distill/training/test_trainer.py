from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.distill.conftest import CLASSES, TEACHER, make_pictures
from tinyvit.distill.logits.save import LogitsRequest as Storing
from tinyvit.distill.logits.save import save_logits
from tinyvit.distill.logits.store import Store
from tinyvit.distill.training import trainer as training
from tinyvit.distill.training.config import PRESETS, TrainingConfig
from tinyvit.distill.training.request import LogitsRequest, train_student
from tinyvit.distill.training.student import make_student, read_init, save_checkpoint
from tinyvit.errors import RequestError
from tinyvit.labels import labels_by_wnid
from tinyvit.nn.checkpoint import load_checkpoint

LABELS = tuple(labels_by_wnid()[name] for name in CLASSES)
SETTINGS = replace(
    PRESETS["transfer"],
    epochs=2,
    batch=4,
    drop_path=0.2,
    average=0.9,
    label_weight=0.5,
    precision="float32",
    warmup_epochs=1.0,
)


def asked(
    photos: Path, output: Path, store: Store | None = None, settings: TrainingConfig = SETTINGS
) -> LogitsRequest:
    logits = store.folder if store else None
    return LogitsRequest(
        photos,
        output,
        settings,
        student="tiny_vit_5m_224",
        logits=logits,
        img_size=32,
        workers=0,
        val_data=photos,
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of the three classes at 32 pixels, which nobody taught, with a license."""
    student = make_student("tiny_vit_5m_224", None, LABELS, 3, 32, seed=3)
    torch.nn.init.normal_(student.model.head.fc.weight)
    path = tmp_path_factory.mktemp("checkpoint") / "init.safetensors"
    save_checkpoint(path, student.model.state_dict(), LABELS, student.preprocess, "mit")
    return path


@pytest.fixture(scope="module")
def whole(photos: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from the store that nothing stopped: two epochs of three steps."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train_student(asked(photos, folder, store)) == folder / "best.safetensors"
    return folder


def test_a_run_leaves_what_it_says(whole: Path) -> None:
    names = {path.name for path in whole.iterdir()}
    assert names == {
        "run.toml",
        "state.pt",
        "best.safetensors",
        "last.safetensors",
        "curves.png",
        "tensorboard",
    }
    assert any((whole / "tensorboard").iterdir())
    made = load_checkpoint(whole / "last.safetensors")
    assert (made.labels, made.img_size, made.license) == (LABELS, 32, "unknown")
    assert made.variant.name == "tiny_vit_5m_224"


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_stopped_at_any_step_it_ends_with_the_same_bytes(
    whole: Path,
    photos: Path,
    store: Store,
    tmp_path: Path,
    stop: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps, real = [0], training.TrainingRun.step

    def stopping(run: training.TrainingRun, batch: object, rate: float) -> float:
        if steps[0] == stop:
            raise KeyboardInterrupt
        steps[0] += 1
        return real(run, batch, rate)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "KEEP_EVERY_S", 0.0)
    monkeypatch.setattr(training.TrainingRun, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_student(asked(photos, tmp_path / "run", store))
    monkeypatch.setattr(training.TrainingRun, "step", real)
    said: list[str] = []
    train_student(asked(photos, tmp_path / "run", store), said.append)
    assert f"going on at step {stop} of 6" in said
    for name in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_stopped_while_it_evaluates_it_evaluates_again(
    whole: Path, photos: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(*_: object) -> None:
        raise KeyboardInterrupt

    real = training.evaluate
    monkeypatch.setattr(training, "KEEP_EVERY_S", 0.0)
    monkeypatch.setattr(training, "evaluate", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_student(asked(photos, tmp_path / "run", store))
    monkeypatch.setattr(training, "evaluate", real)
    said: list[str] = []
    train_student(asked(photos, tmp_path / "run", store), said.append)
    assert [line.partition(":")[0] for line in said[2:]] == ["epoch 1 of 2", "epoch 2 of 2"]
    for name in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_a_finished_run_does_nothing_again(
    whole: Path, photos: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.TrainingRun, "step", None)
    assert train_student(asked(photos, whole, store)) == whole / "best.safetensors"


def test_tensorboard_shows_every_step_of_a_run_that_went_on(
    photos: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    real = training.TrainingRun._epoch

    def stopping(run: training.TrainingRun, epoch: int, board: object) -> None:
        if epoch == 1:
            raise KeyboardInterrupt
        real(run, epoch, board)  # type: ignore[arg-type]

    monkeypatch.setattr(training.TrainingRun, "_epoch", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_student(asked(photos, tmp_path / "run", store))
    monkeypatch.setattr(training.TrainingRun, "_epoch", real)
    for _ in range(2):  # goes on, and finds it finished
        train_student(asked(photos, tmp_path / "run", store))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars("val/top1")] == [3, 6]


@pytest.mark.parametrize("changed", [{"lr": 1e-3}, {"epochs": 3}, {"seed": 1}])
def test_another_run_is_not_mixed_with_it(
    whole: Path, photos: Path, store: Store, changed: dict[str, float]
) -> None:
    with pytest.raises(
        RequestError, match=rf"holds another run \(training\.{next(iter(changed))} differ"
    ):
        train_student(asked(photos, whole, store, replace(SETTINGS, **changed)))  # type: ignore[arg-type]


def test_another_store_of_the_same_teacher_is_another_run(
    whole: Path, photos: Path, store: Store, tmp_path: Path
) -> None:
    other = save_logits(
        Storing(
            photos,
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
    with pytest.raises(RequestError, match=r"holds another run \(run\.store differ"):
        train_student(asked(photos, whole, other))


def test_another_validation_is_another_run(
    whole: Path, photos: Path, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=r"holds another run \(run\.validation differ"):
        train_student(
            replace(asked(photos, whole, store), val_data=make_pictures(tmp_path / "val", seed=7))
        )


def test_files_of_another_are_not_replaced(
    photos: Path, store: Store, checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    mine = folder / "best.safetensors"
    mine.write_bytes(checkpoint.read_bytes())
    with pytest.raises(RequestError, match=r"holds best\.safetensors of no run"):
        train_student(asked(photos, folder, store))
    with pytest.raises(RequestError, match="lies in the run's own folder"):
        train_student(
            replace(asked(photos, folder, store), student=None, init=mine, overwrite=True)
        )
    assert mine.read_bytes() == checkpoint.read_bytes()


def test_a_run_that_is_refused_replaces_nothing(
    whole: Path, photos: Path, store: Store, tmp_path: Path
) -> None:
    import shutil

    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    before = {path.name: path.read_bytes() for path in folder.glob("*.*")}
    large = replace(SETTINGS, batch=100)
    for output in (folder, tmp_path / "new"):
        with pytest.raises(RequestError, match="do not fill a batch of 100: --batch 12 or less"):
            train_student(replace(asked(photos, output, store, large), overwrite=True))
    assert {path.name: path.read_bytes() for path in folder.glob("*.*")} == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_wrong_with_a_record_is_told(
    photos: Path, store: Store, tmp_path: Path, workers: int
) -> None:
    import shutil

    copied = Store(Path(shutil.copytree(store.folder, tmp_path / "s")), store.header)
    data = bytearray(copied.path(0).read_bytes())
    data[3 * store.header.record.itemsize + 10] ^= 1
    copied.path(0).write_bytes(data)
    with pytest.raises(
        RequestError,
        match=r"record 3 of .* is damaged: delete the file and run the same save-logits again",
    ):
        train_student(replace(asked(photos, tmp_path / "run", copied), workers=workers))


def test_a_damaged_state_is_told(whole: Path, photos: Path, store: Store, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    (folder / "state.pt").write_bytes((folder / "state.pt").read_bytes()[:1000])
    with pytest.raises(RequestError, match="damaged"):
        train_student(asked(photos, folder, store))


def test_a_student_that_is_its_teacher_has_nothing_to_learn(
    photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    storing = Storing(
        photos, (str(checkpoint),), 1, tmp_path / "s", top_k=3, batch=4, precision="float32"
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
    run = training.TrainingRun.step

    def seen(self: training.TrainingRun, batch: object, rate: float) -> float:
        losses.append(run(self, batch, rate))  # type: ignore[arg-type]
        return losses[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.TrainingRun, "step", seen)
        train_student(
            LogitsRequest(
                photos, tmp_path / "run", settings, init=checkpoint, logits=store.folder, workers=0
            )
        )
        assert max(losses) < 1e-5
        losses.clear()
        train_student(
            replace(asked(photos, tmp_path / "other", store), settings=settings, val_data=None)
        )
        assert min(losses) > 1e-2


def test_a_step_follows_the_teacher(photos: Path, store: Store, tmp_path: Path) -> None:
    settings = replace(
        SETTINGS,
        epochs=12,
        lr=0.1,
        warmup_epochs=0,
        average=0.0,
        drop_path=0.0,
        label_weight=0.0,
        batch=12,
    )
    said: list[str] = []
    train_student(asked(photos, tmp_path / "run", store, settings), said.append)
    losses = [
        float(line.split("loss ")[1].split(",")[0].split(" ")[0])
        for line in said
        if line.startswith("epoch")
    ]
    assert losses[-1] < 0.7 * losses[0]


def test_the_finished_model_has_the_folders_classes_and_the_teachers_if_asked(
    photos: Path, store: Store, tmp_path: Path
) -> None:
    short = replace(SETTINGS, epochs=1)
    train_student(
        replace(asked(photos, tmp_path / "teacher", store, short), classes="teacher", val_data=None)
    )
    assert load_checkpoint(tmp_path / "teacher" / "last.safetensors").num_classes == 1000
    train_student(asked(photos, tmp_path / "folders", store, short))
    assert load_checkpoint(tmp_path / "folders" / "last.safetensors").labels == LABELS


def test_a_released_models_name_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert read_init(Path("demo")).num_classes == 10


def test_transfer_to_other_classes_without_a_teacher(
    photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    new = make_pictures(tmp_path / "new", seed=5)
    (new / CLASSES[0]).rename(new / "widget")
    said: list[str] = []
    train_student(
        LogitsRequest(
            new, tmp_path / "run", replace(SETTINGS, epochs=1), init=checkpoint, workers=0
        ),
        said.append,
    )
    made = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert [label.name for label in made.labels or ()] == ["tabby", "school bus", "widget"]
    assert made.license == "mit"
    assert "2 of 3 rows of the classifier from the checkpoint" in said[0]


def test_growing_takes_the_attention_biases_along(
    photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    train_student(
        LogitsRequest(
            photos,
            tmp_path / "run",
            replace(SETTINGS, epochs=1),
            init=checkpoint,
            img_size=64,
            workers=0,
        )
    )
    made = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert (made.img_size, made.preprocess.size) == (64, 64)


def test_workers_make_the_same_views(
    whole: Path, photos: Path, store: Store, tmp_path: Path
) -> None:
    train_student(replace(asked(photos, tmp_path / "run", store), workers=2))
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == (
        whole / "last.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"student": None}, "nothing to train"),
        ({"student": "tiny_vit_6m"}, "no variant is called 'tiny_vit_6m'"),
        ({"img_size": 50}, "cannot run at 50 pixels"),
        ({"workers": -1}, "--workers -1 is not possible"),
        ({"classes": "mine"}, "not known"),
        ({"settings": replace(SETTINGS, batch=100)}, "do not fill a batch of 100"),
        ({"data": Path("nowhere")}, "is no folder"),
        ({"logits": Path("nowhere")}, "no store of logits"),
    ],
)
def test_what_cannot_be_trained_is_told_before(
    photos: Path, store: Store, tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        train_student(replace(asked(photos, tmp_path / "run", store), **changed))  # type: ignore[arg-type]


def test_class_folders_that_the_teacher_does_not_know(tmp_path: Path) -> None:
    photos = make_pictures(tmp_path / "p")
    (photos / CLASSES[0]).rename(photos / "widget")
    store = save_logits(
        Storing(photos, (TEACHER,), 1, tmp_path / "s", top_k=5, size=32, precision="float32")
    )
    with pytest.raises(
        RequestError,
        match=r"1 of the 3 class folders in .* are no class of the model \(widget\), which is here the store's teacher",
    ):
        train_student(replace(asked(photos, tmp_path / "run", store), val_data=None))


def test_a_loss_that_is_no_number_ends_the_run(photos: Path, store: Store, tmp_path: Path) -> None:
    settings = replace(SETTINGS, lr=1e30, warmup_epochs=0, clip=0.0, average=0.0)
    with pytest.raises(RequestError, match="the loss is"):
        train_student(asked(photos, tmp_path / "run", store, settings))


def test_frozen_norms_keep_their_statistics(photos: Path, checkpoint: Path, tmp_path: Path) -> None:
    before = copy.deepcopy(load_checkpoint(checkpoint).state_dict)
    settings = replace(SETTINGS, epochs=1, frozen_norm=True, average=0.0)
    train_student(LogitsRequest(photos, tmp_path / "run", settings, init=checkpoint, workers=0))
    after = load_checkpoint(tmp_path / "run" / "last.safetensors").state_dict
    name = "stages.0.blocks.0.conv1.bn.running_mean"
    assert torch.equal(before[name], after[name])
    assert not torch.equal(
        before["stages.0.blocks.0.conv1.conv.weight"], after["stages.0.blocks.0.conv1.conv.weight"]
    )
