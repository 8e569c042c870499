"""Defines a request to train, and checks what can be checked before any file is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinyvit.distill.training.config import TrainingConfig
from tinyvit.errors import RequestError


@dataclass(frozen=True)
class TrainingRequest:
    """A request to `tinyvit-distill train`.

    Attributes:
        data: Folder of training images in class folders, which are optional with a store.
        output: Folder that the run writes to.
        config: The training settings.
        student: Name of the variant to train from random weights; not needed with `init`.
        init: Checkpoint with the initial weights, a file or the name of a released checkpoint; None
            for random weights.
        val_data: Validation images in class folders, which determine the best epoch. None for the
            subfolder "val" if `data` contains "train" and "val", otherwise for no validation.
        logits: Folder of a store (saved teacher predictions); None trains from class labels only.
        img_size: Image size in pixels; None for that of the checkpoint or variant.
        classes: Classes of the trained model, if there is a store: "folders" keeps those with a
            class folder, or all if there are no class folders; "teacher" keeps all.
        license: License of the trained model; None for that of `init`.
        workers: Number of processes that load images; 0 loads them in the training process, and
            None chooses by the number of cores.
        overwrite: Whether a run in `output` is always replaced. If false, a run with the same
            inputs and settings as this request is resumed, and any other run is an error.
        qat: Recipe file for quantization-aware training; "" calibrates a recipe on `data`; None
            trains without simulated quantization.
        weight_bits: Number of bits of the weights, if this run calibrates the recipe (`qat` is "").
    """

    data: Path
    output: Path
    config: TrainingConfig
    student: str | None = None
    init: Path | None = None
    val_data: Path | None = None
    logits: Path | None = None
    img_size: int | None = None
    classes: str = "folders"
    license: str | None = None
    workers: int | None = None
    overwrite: bool = False
    qat: str | None = None
    weight_bits: int = 7


def check_request(request: TrainingRequest) -> None:
    """Check a request as far as possible before any file is opened.

    It must name a network, the number of workers must be possible, and the run must not replace its
    own inputs.

    Args:
        request: The request.

    Raises:
        RequestError: The request is impossible.
    """
    if request.student is None and request.init is None:
        raise RequestError(
            "neither --student nor --init was given",
            "use --student with a variant such as tiny_vit_5m_224, or --init with a checkpoint",
        )
    if request.workers is not None and request.workers < 0:
        raise RequestError(
            f"--workers {request.workers} is not possible",
            "use a number of processes from 0",
        )
    recipe = Path(request.qat) if request.qat else None
    for option, path in (("--init", request.init), ("--qat", recipe)):
        if path and path.exists() and path.resolve().parent == request.output.resolve():
            raise RequestError(
                f"{option} {path} is in the output folder, where the run could replace it",
                "use -o with another folder",
            )
