"""Defines `Classifier`, which classifies images with an artifact (exported file) in any engine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from PIL import Image

from tinyvit.errors import ArtifactError, ImageError, RequestError
from tinyvit.images.arrays import SupportsArray
from tinyvit.images.decoding import ChannelOrder, ImageSource
from tinyvit.labels import Label
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.assumptions import warn_of_assumptions
from tinyvit.runtimes.base import AUTO_DEVICE, RuntimeOptions
from tinyvit.runtimes.image_arguments import add_index, interpret_image_argument
from tinyvit.runtimes.image_model import ImageModel, raise_image_errors
from tinyvit.runtimes.label_argument import LabelArgument, resolve_labels
from tinyvit.runtimes.predictions import (
    Logits,
    Prediction,
    check_top_k,
    select_top_predictions,
)
from tinyvit.runtimes.pretrained import export_released

OnError: TypeAlias = Literal["raise", "skip"]
"""Whether `Classifier.predict` raises an error for an image that cannot be read, or skips it."""


class Classifier(ImageModel):
    """An artifact opened for classifying images; a context manager that closes it.

    `classifier(x)` is the same as `classifier.predict(x)`. See `ImageModel` about threads, copies
    and processes.
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
        streams: int = 1,
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
            streams: Number of batches to compute at the same time, each on `threads` threads (one
                by default). Several streams predict many images faster than many threads do, but
                the file is opened once for each.

        Raises:
            ArtifactError: If the file cannot be opened, or is not an image classifier.
            RequestError: If an argument is invalid or does not match the file.
            MissingDependencyError: If no engine that opens the file is installed.
        """
        check_top_k(top_k)
        options = RuntimeOptions(
            device, threads, precision, cache, allow_foreign_operators, skip_trial, streams
        )
        self._label_argument = labels
        super().__init__(path, engine_name, options, preprocess)
        self._top_k = min(int(top_k), len(self._labels))
        if self._manifest is None:
            warn_of_assumptions(
                Artifact(self._path, None),
                assumed_preprocess=self.preprocess if preprocess is None else None,
                assumed_class_count=len(self._labels) if labels is None else None,
                class_name="Classifier",
            )

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
    def labels(self) -> tuple[Label, ...]:
        """One label for each class, in the order of the logits."""
        return self._labels

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
        results = self._outputs_each(images, channels, exif, chunk)
        return (result if isinstance(result, ImageError) else result[0] for result in results)

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
        results = self.logits_each(images, channels=channels)
        rows = list(raise_image_errors(results, is_single))
        if is_single:
            return rows[0]
        return np.array(rows, np.float32).reshape(len(rows), len(self.labels))

    def _check_outputs(self, artifact: Artifact) -> None:
        """Choose the labels; raise ArtifactError if the output is not logits."""
        output = self._outputs[0]
        if output.kind != "logits":
            raise ArtifactError(
                f"{self._path.name} is not a classifier: it returns"
                f" {'an embedding' if output.kind == 'embedding' else 'feature maps'}",
                "open it with Encoder, or export the checkpoint with --output logits",
            )
        # The engine states the number of classes that the network really has.
        class_count = self._runtime.outputs[0].shape[1]
        assert isinstance(class_count, int)
        self._labels = resolve_labels(artifact, class_count, self._label_argument)

    def _describe_outputs(self) -> str:
        return f"{len(self.labels)} classes"

    def _select_predictions(self, logits: Logits, top_k: int) -> list[Prediction]:
        """Select the predictions for one image; raise ArtifactError if a logit is not finite."""
        if not np.isfinite(logits).all():
            raise ArtifactError(
                f"{self._path.name} computed logits that are not finite",
                "check it with tinyvit-verify",
            )
        return select_top_predictions(logits, self.labels, top_k)
