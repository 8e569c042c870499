"""Small data sets get a smaller batch, and batches that do not fit into memory are divided."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.helpers.distill_data import write_class_folders
from tinyvit.distill.cli import main
from tinyvit.distill.training import trainer
from tinyvit.distill.training.batches import memory
from tinyvit.distill.training.batches.division import count_parts, divide_batch
from tinyvit.distill.training.batches.size import fit_batch
from tinyvit.distill.training.device import select_device
from tinyvit.errors import RequestError
from tinyvit.nn.model import TinyViT


@pytest.mark.parametrize(
    ("batch", "view_count", "process_count", "expected"),
    [
        (1024, 1_281_167, 8, 1024),
        (1024, 4096, 1, 1024),
        (1024, 4095, 1, 512),
        (1024, 500, 1, 64),  # 7 steps per epoch
        (1024, 500, 2, 64),
        (1024, 500, 3, 96),  # 5 steps per epoch, 32 images per process
        (64, 500, 1, 64),
        (64, 200, 1, 32),
        (1024, 20, 1, 8),
        (1024, 5, 1, 5),
        (4, 5, 1, 4),
    ],
)
def test_the_default_batch_leaves_enough_steps(
    batch: int, view_count: int, process_count: int, expected: int
) -> None:
    assert fit_batch(batch, view_count, process_count) == expected


def test_every_small_number_of_views_has_a_batch() -> None:
    for view_count in range(2, 300):
        for process_count in (1, 2, 3):
            batch = fit_batch(1024, view_count, process_count)
            assert batch % process_count == 0
            assert process_count <= batch <= max(view_count, process_count)
            if view_count >= 32:
                assert view_count // batch >= 4


@pytest.mark.parametrize(
    ("image_count", "accumulation", "is_mixed", "sizes"),
    [
        (128, 4, True, [32, 32, 32, 32]),
        (10, 3, False, [4, 3, 3]),
        (10, 3, True, [4, 4, 2]),
        (11, 2, True, [6, 5]),
        (7, 7, False, [1] * 7),
        (1, 1, True, [1]),
    ],
)
def test_a_batch_is_divided_without_a_remainder(
    image_count: int, accumulation: int, is_mixed: bool, sizes: list[int]
) -> None:
    assert divide_batch(image_count, accumulation, is_mixed) == sizes


def test_too_many_parts_are_refused() -> None:
    with pytest.raises(
        RequestError,
        match="a batch of 10 images per process cannot be divided into 6 parts: use "
        "--accumulation with a number from 1 to 5",
    ):
        divide_batch(10, 6, is_mixed=True)


@pytest.mark.parametrize("is_mixed", [False, True])
def test_the_parts_fit_into_memory(is_mixed: bool) -> None:
    for image_count in range(1, 70):
        for images_in_memory in range(2, 80):
            parts = count_parts(image_count, images_in_memory, is_mixed)
            sizes = divide_batch(image_count, parts, is_mixed)
            # An odd image that has no neighbor is added to the last pair.
            assert max(sizes) <= images_in_memory + is_mixed
            assert parts <= math.ceil(image_count / max(images_in_memory - 1, 1))


def test_a_few_images_train_without_a_number_from_the_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preset scratch-1k has a batch of 1024. Memory for three images makes parts of two."""
    monkeypatch.setattr(trainer, "count_images_in_memory", lambda *_: 3)
    data = write_class_folders(tmp_path / "data")
    arguments = ["train", "--student", "tiny_vit_5m_224", "--data", data, "--img-size", 32]
    arguments += ["--epochs", 1, "--workers", 0, "-o", tmp_path / "run"]
    assert main([str(argument) for argument in arguments]) == 0
    messages = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert messages[0] == (
        "an epoch has only 12 images: the batch has 8 images instead of the 1024 of the preset "
        "scratch-1k, and the learning rate is lower in proportion"
    )
    assert (
        "8 images per step and process do not fit into memory (about 3 do), so a step adds the "
        "gradients of 4 parts"
    ) in messages


def test_a_batch_that_the_user_chose_is_not_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_class_folders(tmp_path / "data")
    arguments = ["train", "--student", "tiny_vit_5m_224", "--data", data, "--img-size", 32]
    for choice in (["--batch", 1024], ["--set", "batch=1024"]):
        code = main([str(item) for item in [*arguments, *choice, "-o", tmp_path / "run"]])
        assert code == 1
        error = capsys.readouterr().err
        assert "an epoch of 12 views cannot fill a batch of 1024: use --batch 12 or less" in error


def test_processes_that_train_together_share_the_free_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "measure_free_memory", lambda: 5_000_000)
    assert memory.measure_free_bytes("cpu") == 5_000_000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert memory.measure_free_bytes("cpu") == 2_500_000


def test_a_part_that_does_not_fit_into_memory_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network asks for 128 PiB, which torch cannot allocate."""
    monkeypatch.setattr(trainer, "count_images_in_memory", lambda *_: 4)
    monkeypatch.setattr(TinyViT, "forward", lambda *_: torch.empty(2**55))
    data = write_class_folders(tmp_path / "data")
    arguments = ["train", "--student", "tiny_vit_5m_224", "--data", data, "--img-size", 32]
    arguments += ["--epochs", 1, "--workers", 0, "-o", tmp_path / "run"]
    assert main([str(argument) for argument in arguments]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: 4 images at once did not fit into the memory of {select_device().name}: use "
        "--accumulation 4, --checkpoint-activations or a smaller --img-size, and --overwrite to "
        "start the run again"
    )


def test_other_errors_of_torch_are_not_about_memory() -> None:
    with (
        pytest.raises(RuntimeError, match="sizes differ"),
        memory.explain_out_of_memory("cpu", 1, 1),
    ):
        raise RuntimeError("sizes differ")
    with (
        pytest.raises(RequestError, match=r"^1 image at once did not fit .* use --checkpoint-act"),
        memory.explain_out_of_memory("cuda:0", 1, 8),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
