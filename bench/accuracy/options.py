"""The options of an evaluation. They are also sent to the workers of a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tinyvit.errors import RequestError
from tinyvit.image_sizes import ImageSize
from tinyvit.labels import Label
from tinyvit.preprocess import Preprocess, paper_preprocess, timm_preprocess
from tinyvit.runtimes.artifact import read_artifact
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
        streams: Number of batches that the engine computes at the same time.
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
    streams: int = 1
    preprocess: PreprocessChoice = "artifact"
    only_known_classes: bool = False
    journal_path: Path | None = None
    ray_address: str | None = None


def open_classifier(path: str, options: EvaluationOptions) -> Classifier:
    """Open an artifact with the engine and the preprocessing of the options.

    Args:
        path: Path of the artifact.
        options: How to evaluate; only `engine_name`, `device`, `threads`, `streams` and
            `preprocess` are used.

    Returns:
        The opened artifact. The caller closes it.

    Raises:
        TinyViTError: The artifact cannot be opened, or `preprocess` is not "artifact" although the
            preprocessing is part of the artifact's graph.
    """
    preprocess = None
    if options.preprocess != "artifact":
        preprocess = _PRESETS[options.preprocess](_read_image_size(path, options))
    return _open_artifact(path, options, preprocess)


def read_labels(path: str, options: EvaluationOptions) -> tuple[Label, ...]:
    """Read the labels of an artifact. Only one without a manifest is opened in an engine for that.

    Args:
        path: Path of the artifact.
        options: How to evaluate; only `engine_name`, `device`, `threads` and `streams` are used.

    Returns:
        One label for each class, in the order of the logits.

    Raises:
        TinyViTError: The artifact cannot be opened.
    """
    manifest = read_artifact(path).manifest
    if manifest is not None:
        if manifest.output_kind != "logits":
            raise RequestError(
                f"{Path(path).name} returns {manifest.output_kind}, so that it has no accuracy",
                "give a file with logits; tinyvit-export --int8 --val-data compares embeddings and"
                " feature maps with float32",
            )
        return manifest.labels
    with _open_artifact(path, options) as classifier:
        return classifier.labels


def _read_image_size(path: str, options: EvaluationOptions) -> ImageSize:
    """Return the image size of an artifact; open it only if it has no manifest."""
    manifest = read_artifact(path).manifest
    if manifest is not None:
        return manifest.preprocess.size
    with _open_artifact(path, options) as classifier:
        return classifier.preprocess.size


def _open_artifact(
    path: str, options: EvaluationOptions, preprocess: Preprocess | None = None
) -> Classifier:
    return Classifier(
        path,
        options.engine_name,
        options.device,
        options.threads,
        preprocess=preprocess,
        streams=options.streams,
    )
