"""The options of an evaluation. They are also sent to the workers of a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tinyvit.preprocess import paper_preprocess, timm_preprocess
from tinyvit.runtimes.base import AUTO_DEVICE
from tinyvit.runtimes.classifier import Classifier

PreprocessChoice = Literal["artifact", "paper", "timm"]
_PRESETS = {"paper": paper_preprocess, "timm": timm_preprocess}
"""Value of `EvaluationOptions.preprocess` -> function that returns the preprocessing for an image
size in pixels."""


@dataclass(frozen=True)
class EvaluationOptions:
    """Options that apply to every artifact of an evaluation.

    Attributes:
        engine_name: Name of the engine; None for the best installed one.
        device: Name of the device on which the engine runs the network, such as "cpu".
        threads: Number of CPU threads of the engine; None for the engine's default.
        preprocess: "artifact" for the preprocessing that the artifact's manifest states; "paper" or
            "timm" for that of the TinyViT paper's or timm's evaluation, at the artifact's image
            size.
        only_known_classes: Whether to skip images of classes that the model does not have, instead
            of raising an error.
        journal_path: File in which predictions are saved, so that an interrupted run can continue;
            None to save none.
        ray_address: HOST:PORT of a Ray cluster that classifies the images, "" for a new cluster on
            this machine, None to classify them in this process.
    """

    engine_name: str | None = None
    device: str = AUTO_DEVICE
    threads: int | None = None
    preprocess: PreprocessChoice = "artifact"
    only_known_classes: bool = False
    journal_path: Path | None = None
    ray_address: str | None = None


def open_classifier(path: str, options: EvaluationOptions) -> Classifier:
    """Open an artifact with the engine and the preprocessing of the options.

    Args:
        path: Path of the artifact.
        options: How to evaluate; only `engine_name`, `device`, `threads` and `preprocess` are used.

    Returns:
        The opened artifact. The caller closes it.

    Raises:
        TinyViTError: The artifact cannot be opened, or `preprocess` is not "artifact" although the
            preprocessing is part of the artifact's graph.
    """
    classifier = Classifier(path, options.engine_name, options.device, options.threads)
    if options.preprocess == "artifact":
        return classifier
    # Only the opened artifact states the image size. Therefore the artifact is opened twice.
    with classifier:
        make_preprocess = _PRESETS[options.preprocess]
        preprocess = make_preprocess(classifier.preprocess.size)
    return Classifier(
        path, options.engine_name, options.device, options.threads, preprocess=preprocess
    )
