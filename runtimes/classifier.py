"""Defines `Classifier`, which classifies images with an artifact (exported file) in any engine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from PIL import Image

from tinyvit.errors import ArtifactError, ImageError, RequestError
from tinyvit.image_arrays import SupportsArray
from tinyvit.images import ChannelOrder, ImageSource
from tinyvit.labels import Label
from tinyvit.manifest import EmbeddedPreprocessing, Manifest
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.base import AUTO_DEVICE, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.image_arguments import add_index, interpret_image_argument
from tinyvit.runtimes.image_pipeline import ImagePipeline
from tinyvit.runtimes.label_argument import LabelArgument
from tinyvit.runtimes.model_io import resolve_model_io
from tinyvit.runtimes.predictions import (
    Logits,
    Prediction,
    check_top_k,
    select_top_predictions,
)
from tinyvit.runtimes.pretrained import export_released
from tinyvit.runtimes.reopening import ReopeningRuntime

OnError: TypeAlias = Literal["raise", "skip"]
"""Whether `Classifier.predict` raises an error for an image that cannot be read, or skips it."""


@dataclass(frozen=True)
class ClassifierInfo:
    """Settings that a classifier runs with.

    Attributes:
        file: Name of the artifact's file.
        embedded_preprocessing: Which part of the preprocessing is inside the file: "host" (none),
            "normalize" or "full".
        batch_size: Number of images in one run of the network. If the network accepts any batch
            size, the last run may have fewer.
        decoding_threads: Threads that decode and resize images.
        runtime: Engine, device, threads and precision in use.
    """

    file: str
    embedded_preprocessing: EmbeddedPreprocessing
    batch_size: int
    decoding_threads: int
    runtime: RuntimeInfo


class Classifier:
    """An artifact opened for classifying images; a context manager that closes it.

    Several threads may use it at the same time. `classifier(x)` is the same as
    `classifier.predict(x)`. A classifier can be copied, pickled, and used in a child of `os.fork`:
    the copy or the child opens the file again with the same engine and options, so the file must
    still exist, unchanged.
    """

    def __init__(  # noqa: PLR0913 (the public constructor mirrors the command line)
        self,
        path: str | Path,
        engine_name: str | None = None,
        device: str = AUTO_DEVICE,
        threads: int | None = None,
        top_k: int = 5,
        *,
        precision: str | None = None,
        cache: str | Path | None = None,
        preprocess: Preprocess | None = None,
        labels: LabelArgument | None = None,
        allow_foreign_operators: bool = False,
        skip_trial: bool = False,
    ) -> None:
        """Open an exported file.

        For a file that tinyvit-export did not write, ImageNet's preprocessing and labels are used
        (with a UserWarning) unless others are passed. If the number of classes is not that
        of ImageNet-1k or ImageNet-22k, the labels are "class 0", "class 1" and so on.

        Args:
            path: Path of the file; "~" at its beginning is the user's home folder.
            engine_name: Name of the engine, such as "onnxruntime"; None for the best installed one.
            device: "cpu", "gpu", "npu" or the engine's own name of a device; "auto" for the
                engine's default.
            threads: CPU threads for one inference; None for the engine's default.
            top_k: Number of predictions for each image; reduced to the number of classes if larger.
            precision: "float32", "bfloat16" or "float16"; None for the precision in the manifest.
            cache: Folder in which the engine keeps the files that it compiles.
            preprocess: Preprocessing to use instead of the file's own.
            labels: Labels to use instead of the file's own, one for each class: a list of names, or
                a dict from class index to name or from name to class index.
            allow_foreign_operators: Whether the file may contain operators that image classifiers
                do not need, such as loops, which may never end. Set it only for a file from someone
                you trust.
            skip_trial: Whether a .tflite or .pte file is opened without running it once in another
                process before, which takes 0.5 to 2.5 s. Set it only for a file that you made
                yourself, because a hostile one can crash this process, or do more.

        Raises:
            ArtifactError: If the file cannot be opened, or is not an image classifier.
            RequestError: If an argument is invalid or does not match the file.
            MissingDependencyError: If no engine that opens the file is installed.
        """
        check_top_k(top_k)
        artifact = read_artifact(path)
        self._path = artifact.path
        self._manifest = artifact.manifest
        options = RuntimeOptions(
            device, threads, precision, cache, allow_foreign_operators, skip_trial
        )
        self._runtime = ReopeningRuntime(artifact, engine_name, options)
        try:
            self._model_io = resolve_model_io(artifact, self._runtime, preprocess, labels)
        except BaseException:
            self._runtime.close()
            raise
        self._pipeline = ImagePipeline(self._runtime, self._model_io)
        self._top_k = min(int(top_k), len(self._model_io.labels))
        self._first_info = self.describe()

    @classmethod
    def from_pretrained(  # noqa: PLR0913 (the same parameters as the constructor)
        cls,
        name: str,
        engine_name: str | None = None,
        device: str = AUTO_DEVICE,
        threads: int | None = None,
        top_k: int = 5,
        *,
        precision: str | None = None,
        cache: str | Path | None = None,
    ) -> Classifier:
        """Open a released model, which is downloaded and exported to ONNX the first time.

        This needs `pip install 'tinyvit-edge[export]'`. The exported file is kept in the folder
        $TINYVIT_CACHE, by default ~/.cache/tinyvit-edge; `describe().file` is the name of the file.
        The export runs in another process, so that this one does not have to import torch.

        Args:
            name: Name of the model, such as "tinyvit_5m" (see tinyvit-export --list), or "demo" for
                the small model in this package, which needs no download.
            engine_name: Name of an engine that runs ONNX files; None for the best installed one.
            device: As for the constructor.
            threads: As for the constructor.
            top_k: As for the constructor.
            precision: As for the constructor.
            cache: As for the constructor.

        Returns:
            The opened model.

        Raises:
            RequestError: If no model has this name, or an argument is invalid.
            MissingDependencyError: If the extra "export" is not installed.
            CheckpointError: If the model cannot be downloaded or exported.
            ArtifactError: If the exported file cannot be opened.
        """
        path = export_released(name)
        return cls(path, engine_name, device, threads, top_k, precision=precision, cache=cache)

    @property
    def preprocess(self) -> Preprocess:
        """The whole preprocessing, inside and outside the file."""
        return self._model_io.preprocess

    @property
    def labels(self) -> tuple[Label, ...]:
        """One label for each class, in the order of the logits."""
        return self._model_io.labels

    @property
    def manifest(self) -> Manifest | None:
        """The manifest in the file; None if tinyvit-export did not write the file."""
        return self._manifest

    @overload
    def predict(
        self,
        x: bytes | bytearray | memoryview | Image.Image,
        *,
        top_k: int | None = ...,
        channels: ChannelOrder = ...,
        on_error: Literal["raise"] = ...,
    ) -> list[Prediction]: ...
    @overload
    def predict(
        self,
        x: bytes | bytearray | memoryview | Image.Image,
        *,
        top_k: int | None = ...,
        channels: ChannelOrder = ...,
        on_error: OnError,
    ) -> list[Prediction] | None: ...
    @overload
    def predict(
        self,
        x: str | os.PathLike[str] | SupportsArray,
        *,
        top_k: int | None = ...,
        channels: ChannelOrder = ...,
        on_error: OnError = ...,
    ) -> Any: ...
    @overload
    def predict(
        self,
        x: Iterable[ImageSource],
        *,
        top_k: int | None = ...,
        channels: ChannelOrder = ...,
        on_error: OnError = ...,
    ) -> list[list[Prediction] | None]: ...
    def predict(
        self,
        x: ImageSource | Iterable[ImageSource],
        *,
        top_k: int | None = None,
        channels: ChannelOrder = "rgb",
        on_error: OnError = "raise",
    ) -> Any:
        """Predict the classes of one image or of many.

        Args:
            x: One image: a file's path, a file's bytes, a Pillow image, a uint8 array (height,
                width, 3), or a tensor of torch, uint8 (3, height, width) or (height, width, 3).
                Many images: a list, tuple, iterator, array of objects or pandas.Series of these, a
                uint8 array or tensor with one more axis in front, or the path of a folder.
            top_k: Number of predictions for each image, instead of that of the constructor.
            channels: Order of the channels in arrays; OpenCV uses "bgr".
            on_error: "raise" raises ImageError for an image that cannot be read; "skip" returns
                None in its place.

        Returns:
            For one image, a list of `top_k` predictions, the most probable class first. For many,
            a list of such lists in the order of the images. With `on_error="skip"`, the result of
            an image that cannot be read is None instead of a list.

        Raises:
            ImageError: If an image cannot be read and `on_error` is "raise".
            RequestError: If an argument is invalid.
            ArtifactError: If the engine fails, or a logit is not finite.
        """
        if on_error not in ("raise", "skip"):
            raise RequestError(f"on_error={on_error!r} is not known", 'give "raise" or "skip"')
        is_single, images = interpret_image_argument(x)
        results: list[list[Prediction] | None] = []
        for result in self.predict_each(images, top_k=top_k, channels=channels):
            if isinstance(result, ImageError) and on_error == "raise":
                raise result if is_single else add_index(result, len(results))
            results.append(None if isinstance(result, ImageError) else result)
        return results[0] if is_single else results

    __call__ = predict

    def predict_each(
        self,
        images: Iterable[ImageSource],
        *,
        top_k: int | None = None,
        channels: ChannelOrder = "rgb",
    ) -> Iterator[list[Prediction] | ImageError]:
        """Predict the classes of images, and yield each result as soon as it is known.

        Args:
            images: The images; an endless iterator is allowed.
            top_k: Number of predictions for each image, instead of that of the constructor.
            channels: Order of the channels in arrays; OpenCV uses "bgr".

        Yields:
            For each image, its predictions, or an ImageError if the image cannot be read.

        Raises:
            ArtifactError: If the engine fails, or a logit is not finite.
            RequestError: If `channels` is not a known order, or `top_k` is not at least 1.
        """
        if top_k is not None:
            check_top_k(top_k)
        count = self._top_k if top_k is None else top_k
        for logits in self.logits_each(images, channels=channels):
            if isinstance(logits, ImageError):
                yield logits
            else:
                yield self._select_predictions(logits, count)

    def logits_each(
        self,
        images: Iterable[ImageSource],
        *,
        channels: ChannelOrder = "rgb",
        exif: bool = True,
        chunk: int | None = None,
    ) -> Iterator[Logits | ImageError]:
        """Compute the logits of images, and yield them image by image.

        Args:
            images: The images; an endless iterator is allowed.
            channels: Order of the channels in arrays; OpenCV uses "bgr".
            exif: Whether to rotate images as their EXIF orientation states. Published evaluations
                do not rotate them.
            chunk: Number of images to decode and resize before the network runs on them. Decoding
                and the network then never compete for CPU cores, which is faster if the engine uses
                all cores, but the first result comes later. With None, images are decoded while the
                network runs.

        Returns:
            An iterator of one result for each image: its logits, float32 (classes,), or an
            ImageError if the image cannot be read. It raises ArtifactError if the engine fails, and
            RequestError if `channels` is not a known order.
        """
        return self._pipeline.compute_logits(images, channels, exif, chunk)

    def logits(
        self, x: ImageSource | Iterable[ImageSource], *, channels: ChannelOrder = "rgb"
    ) -> Logits:
        """Compute the logits of one image or of many.

        Args:
            x: One image or many, as for `predict`.
            channels: Order of the channels in arrays; OpenCV uses "bgr".

        Returns:
            Logits, float32: (classes,) for one image, (n, classes) for many.

        Raises:
            ImageError: If an image cannot be read.
            RequestError: If an argument is invalid.
            ArtifactError: If the engine fails.
        """
        is_single, images = interpret_image_argument(x)
        rows: list[Logits] = []
        for row in self.logits_each(images, channels=channels):
            if isinstance(row, ImageError):
                raise row if is_single else add_index(row, len(rows))
            rows.append(row)
        if is_single:
            return rows[0]
        return np.array(rows, np.float32).reshape(len(rows), len(self.labels))

    def describe(self) -> ClassifierInfo:
        """Return the settings that the classifier runs with."""
        return ClassifierInfo(
            file=self._path.name,
            embedded_preprocessing=self._model_io.embedded_preprocessing,
            batch_size=self._pipeline.batch_size,
            decoding_threads=self._pipeline.decoding_threads,
            runtime=self._runtime.describe(),
        )

    def close(self) -> None:
        """Release the engine. Calling it again has no effect."""
        self._runtime.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        info, runtime = self._first_info, self._first_info.runtime
        return (
            f"<Classifier {info.file}: {len(self.labels)} classes, {runtime.engine} on"
            f" {runtime.device}, {runtime.precision}>"
        )

    def _select_predictions(self, logits: Logits, top_k: int) -> list[Prediction]:
        """Select the predictions for one image; raise ArtifactError if a logit is not finite."""
        if not np.isfinite(logits).all():
            raise ArtifactError(
                f"{self._path.name} computed logits that are not finite",
                "check it with tinyvit-verify",
            )
        return select_top_predictions(logits, self.labels, top_k)
