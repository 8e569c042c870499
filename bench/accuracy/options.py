"""The options of an evaluation, which are the same in this process and on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tinyvit.preprocess import paper_preprocess, timm_preprocess
from tinyvit.runtimes.base import AUTO_DEVICE
from tinyvit.runtimes.classifier import Classifier

PreprocessChoice = Literal["artifact", "paper", "timm"]
_PRESETS = {"paper": paper_preprocess, "timm": timm_preprocess}


@dataclass(frozen=True)
class EvaluationOptions:
    """Options that apply to every artifact of an evaluation.

    Attributes:
        runtime: Name of the engine; None for the best one that is installed.
        device: Device of the engine.
        threads: CPU threads of the engine; None for the engine's default.
        preprocess: The artifact's own preprocessing, the evaluation of the TinyViT paper, or
            timm's evaluation; the latter two for the artifact's image size.
        only_known: Whether to leave out images of classes that the model does not have.
        journal: File that keeps predictions, so that an interrupted run can continue; None to keep
            none.
        ray_address: Address of a Ray cluster that shares the work, "" for one on this machine;
            None to predict in this process.
    """

    runtime: str | None = None
    device: str = AUTO_DEVICE
    threads: int | None = None
    preprocess: PreprocessChoice = "artifact"
    only_known: bool = False
    journal: Path | None = None
    ray_address: str | None = None


def open_classifier(path: str, options: EvaluationOptions) -> Classifier:
    """Open an artifact with the engine and the preprocessing that the options name.

    Args:
        path: Path of the artifact.
        options: The options; only runtime, device, threads and preprocess are used.

    Raises:
        TinyViTError: The artifact cannot be opened, or contains its preprocessing so that no other
            can be used.
    """
    classifier = Classifier(path, options.runtime, options.device, options.threads)
    if options.preprocess == "artifact":
        return classifier
    with classifier:
        preprocess = _PRESETS[options.preprocess](classifier.preprocess.size)
    return Classifier(path, options.runtime, options.device, options.threads, preprocess=preprocess)
