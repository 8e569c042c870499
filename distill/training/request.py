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
        val_data: Validation images in class folders or in a list, which determine the best epoch.
            None for the subfolder "val" if `data` contains "train" and "val", otherwise for the
            images that `config.val_split` holds out.
        logits: Folder of a store (saved teacher predictions); None trains from class labels only.
        img_size: Image size in pixels; None for that of the preset, the checkpoint or the variant.
        classes: Classes of the trained model, if there is a store: "folders" keeps those with a
            class folder, or all if there are no class folders; "teacher" keeps all.
        license: License of the trained model; None for that of `init`.
        workers: Number of processes that load images; 0 loads them in the training process, and
            None chooses by the number of cores.
        overwrite: Whether a run in `output` is always replaced. If false, a run with the same
            inputs and settings as this request is resumed, and any other run is an error.
        qat: Recipe file for quantization-aware training; "" calibrates a recipe on `data`; None
            trains without simulated quantization.
        fits_batch: Whether a batch that is too large for the data set is reduced, see
            `batch_size.fit_batch`. If false, `config.batch` is used in any case.
        weight_bits: Number of bits of the weights, if this run calibrates the recipe (`qat` is "").
        requires_split: Whether other validation images than those that `config.val_split` holds
            out are an error, and images without class folders too. If false, `config.val_split` has
            no effect with such images.
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
    fits_batch: bool = False
    requires_split: bool = False


def check_request(request: TrainingRequest) -> None:
    """Check a request as far as possible before any file is opened.

    It must name a network, the number of workers must be possible, options must not contradict each
    other, and the run must not replace its own inputs.

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
    _check_combinations(request)
    recipe = Path(request.qat) if request.qat else None
    for option, path in (("--init", request.init), ("--qat", recipe)):
        if path and path.exists() and path.resolve().parent == request.output.resolve():
            raise RequestError(
                f"{option} {path} is in the output folder, where the run could replace it",
                "use -o with another folder",
            )


def _check_combinations(request: TrainingRequest) -> None:
    """Raise RequestError if options contradict each other."""
    val_split, freeze = request.config.val_split, request.config.freeze
    if request.requires_split and val_split and request.val_data is not None:
        raise RequestError(
            f"--val-split {val_split:g} and --val-data were both given", "give only one of them"
        )
    if freeze == "none":
        return
    if request.init is None:
        raise RequestError(
            f"--freeze {freeze} was given without --init, so that all weights but the classifier's "
            "would stay random",
            "add --init with a checkpoint, or leave out --freeze",
        )
    if request.qat is not None:
        raise RequestError(
            f"--freeze {freeze} and --qat were both given, but weights have to adapt to int8",
            "leave out one of them",
        )
