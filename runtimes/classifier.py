"""Pictures -> labels, with any exported file and any engine: `Classifier` and its `Prediction`s.

Pictures are decoded and resized in a few threads beside the engine, with bounded look-ahead, and answered in order.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit.errors import ArtifactError, ImageError, RequestError
from tinyvit.images import ChannelOrder, ImageSource, describe_source, list_images, open_image
from tinyvit.labels import Label
from tinyvit.manifest import Manifest
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.artifact import open_artifact
from tinyvit.runtimes.base import AUTO_DEVICE, RuntimeOptions
from tinyvit.runtimes.model_io import Pixels, resolve_model_io
from tinyvit.runtimes.registry import open_runtime

FREE_BATCH_SIZE = 8
"""Pictures in one run of a file whose batch is free."""

OnError: TypeAlias = Literal["raise", "skip"]
Logits: TypeAlias = "npt.NDArray[np.float32]"


@dataclass(frozen=True)
class Prediction:
    """One class for one picture. score is the softmax's, 0 to 1; wnid is "" where the class is not ImageNet's."""

    index: int
    label: str
    wnid: str
    score: float


class Classifier:
    """An exported file, ready to classify pictures. Safe to use from several threads; a context manager that closes."""

    def __init__(
        self,
        path: str | Path,
        runtime: str | None = None,
        device: str = AUTO_DEVICE,
        threads: int | None = None,
        top_k: int = 5,
        *,
        precision: str | None = None,
        cache: str | Path | None = None,
        preprocess: Preprocess | None = None,
        labels: Sequence[str | Label] | None = None,
    ) -> None:
        """Open the file at `path`.

        runtime: "onnxruntime", "openvino", or None for the best that is installed. device, threads, precision, cache: as in
        base.Options. top_k: predictions a picture, at most the number of classes. preprocess and labels: instead of
        the file's own, or of ImageNet's where the file was not made by tinyvit-export (a UserWarning says what is assumed).
        """
        if not isinstance(top_k, int) or top_k < 1:
            raise RequestError(f"top_k={top_k!r} is not possible", "give a whole number from 1")
        artifact = open_artifact(path)
        self._path = artifact.path
        self._manifest = artifact.manifest
        self._runtime = open_runtime(
            artifact, runtime, RuntimeOptions(device, threads, precision, cache)
        )
        try:
            self._contract = resolve_model_io(artifact, self._runtime, preprocess, labels)
        except BaseException:
            self._runtime.close()
            raise
        self._group = self._contract.batch or FREE_BATCH_SIZE
        self._top_k = min(top_k, len(self._contract.labels))
        self._decoders = min(4, os.cpu_count() or 1)

    @property
    def preprocess(self) -> Preprocess:
        """How pictures become the network's input, within the file or outside it."""
        return self._contract.preprocess

    @property
    def labels(self) -> tuple[Label, ...]:
        """One a class, in the order of the logits."""
        return self._contract.labels

    @property
    def manifest(self) -> Manifest | None:
        """What the file says of itself; None for a file that tinyvit-export did not make."""
        return self._manifest

    @overload
    def predict(
        self,
        x: bytes | bytearray | memoryview | Image.Image,
        *,
        channels: ChannelOrder = ...,
        on_error: OnError = ...,
    ) -> list[Prediction]: ...
    @overload
    def predict(
        self,
        x: str | Path | npt.NDArray[Any],
        *,
        channels: ChannelOrder = ...,
        on_error: OnError = ...,
    ) -> Any: ...
    @overload
    def predict(
        self, x: Iterable[ImageSource], *, channels: ChannelOrder = ..., on_error: OnError = ...
    ) -> list[list[Prediction] | None]: ...
    def predict(
        self,
        x: ImageSource | Iterable[ImageSource],
        *,
        channels: ChannelOrder = "rgb",
        on_error: OnError = "raise",
    ) -> Any:
        """The best classes of one picture, or of many.

        x: one picture (a file's path, its bytes, a Pillow image, a uint8 array (height, width, 3)) -> a list of top_k
        predictions, best first. Many (a list, tuple or iterator of pictures, an array (n, height, width, 3), a folder's
        path) -> a list of such lists, in order.
        channels: the order in arrays; "bgr" is OpenCV's.
        on_error: a picture that cannot be read raises ImageError ("raise"), or leaves None in its place ("skip").
        """
        if on_error not in ("raise", "skip"):
            raise RequestError(f"on_error={on_error!r} is not known", 'give "raise" or "skip"')
        one, pictures = _pictures(x)
        answers: list[list[Prediction] | None] = []
        for answer in self.predict_each(pictures, channels=channels):
            if isinstance(answer, ImageError) and on_error == "raise":
                raise answer if one else _numbered(answer, len(answers))
            answers.append(None if isinstance(answer, ImageError) else answer)
        return answers[0] if one else answers

    def predict_each(
        self, pictures: Iterable[ImageSource], *, channels: ChannelOrder = "rgb"
    ) -> Iterator[list[Prediction] | ImageError]:
        """Like `predict` on an iterator of any length, but each answer is handed on as it is made; a bad picture's is its error."""
        for row in self._rows(pictures, channels):
            yield row if isinstance(row, ImageError) else self._best(row)

    def logits_each(
        self,
        pictures: Iterable[ImageSource],
        *,
        channels: ChannelOrder = "rgb",
        exif: bool = True,
        by: int | None = None,
    ) -> Iterator[Logits | ImageError]:
        """Like `predict_each`, but the network's own numbers, float32 (classes,). exif: turn pictures upright as their EXIF data says;
        published evaluations do not. by: prepare so many, then run the network on them, and never both at once: faster where the
        engine has every core, and later for the first answer."""
        return self._rows(pictures, channels, exif, by)

    def logits(
        self, x: ImageSource | Iterable[ImageSource], *, channels: ChannelOrder = "rgb"
    ) -> Logits:
        """The network's own numbers, float32: (classes,) for one picture, (n, classes) for many; takes what `predict` takes."""
        one, pictures = _pictures(x)
        rows: list[Logits] = []
        for row in self._rows(pictures, channels):
            if isinstance(row, ImageError):
                raise row if one else _numbered(row, len(rows))
            rows.append(row)
        return rows[0] if one else np.array(rows, np.float32).reshape(len(rows), len(self.labels))

    def describe(self) -> dict[str, str | int]:
        """What really runs: the file, where preprocessing ends, pictures a run, the engine with its device, threads and precision."""
        facts = self._runtime.describe()
        return {
            "file": self._path.name,
            "stage": self._contract.stage,
            "batch": self._group,
            "decoding_threads": self._decoders,
            **facts,
        }

    def close(self) -> None:
        """Release the engine; twice is harmless."""
        self._runtime.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _rows(
        self,
        pictures: Iterable[ImageSource],
        channels: ChannelOrder,
        exif: bool = True,
        by: int | None = None,
    ) -> Iterator[Logits | ImageError]:
        """One row of logits a picture, or its error, in order."""
        prepared = self._prepared(pictures, channels, exif, by)
        while group := list(islice(prepared, self._group)):
            good = [x for x in group if not isinstance(x, ImageError)]
            rows = iter(self._run(good) if good else ())
            for x in group:
                yield x if isinstance(x, ImageError) else next(rows)

    def _run(self, inputs: list[Pixels]) -> Logits:
        """Inputs without the batch axis, at most a group -> logits (n, classes); a fixed batch is filled up and cut."""
        filled = inputs
        if self._contract.batch:
            filled = inputs + inputs[-1:] * (self._contract.batch - len(inputs))
        return self._runtime.run(np.stack(filled))[: len(inputs)]

    def _prepared(
        self, pictures: Iterable[ImageSource], channels: ChannelOrder, exif: bool, by: int | None
    ) -> Iterator[Pixels | ImageError]:
        """The network's inputs, in order, made in threads that are at most a group and a few pictures ahead, or by so many at a time."""
        pending: deque[Future[Pixels | ImageError]] = deque()
        pool = ThreadPoolExecutor(self._decoders, thread_name_prefix="tinyvit-decode")
        waiting = by or self._group + self._decoders
        try:
            for picture in pictures:
                pending.append(
                    pool.submit(self._prepare, _kept(picture, channels, exif), channels, exif)
                )
                if len(pending) < waiting:
                    continue
                done = [pending.popleft().result() for _ in range(by or 1)]
                yield from done
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _prepare(
        self, picture: ImageSource | ImageError, channels: ChannelOrder, exif: bool
    ) -> Pixels | ImageError:
        if isinstance(picture, ImageError):
            return picture
        try:
            image = open_image(picture, channels=channels, exif=exif)
        except ImageError as error:
            return error
        return self._contract.input_of(image)

    def _best(self, logits: Logits) -> list[Prediction]:
        if not np.isfinite(logits).all():
            raise ArtifactError(
                f"{self._path.name} answered with numbers that are not finite",
                "check it with tinyvit-verify",
            )
        return top_predictions(logits, self.labels, self._top_k)


def top_predictions(logits: Logits, labels: Sequence[Label], top_k: int) -> list[Prediction]:
    """The best `top_k` classes of finite logits, (classes,), with their softmax; of equal ones the lower index first."""
    scores = np.exp(logits.astype(np.float64) - logits.max())
    scores /= scores.sum()
    best = np.argsort(-logits, kind="stable")[:top_k]
    return [Prediction(int(i), labels[i].name, labels[i].wnid, float(scores[i])) for i in best]


def _pictures(x: ImageSource | Iterable[ImageSource]) -> tuple[bool, Iterable[ImageSource]]:
    """(whether x is one picture, the pictures)."""
    if isinstance(x, (str, Path)) and Path(x).is_dir():
        return False, list_images(Path(x))
    if isinstance(x, np.ndarray) and x.ndim == 4:
        return False, iter(x)
    if isinstance(x, (str, Path, bytes, bytearray, memoryview, Image.Image, np.ndarray)):
        return True, [x]
    if (
        isinstance(x, Iterable)
        and not isinstance(x, (Mapping, set, frozenset))
        and not hasattr(x, "read")
    ):
        return False, x
    raise RequestError(
        f"{describe_source(x)} is not a picture",
        "give a path, bytes, a Pillow image, a uint8 array, or a list of these; an open file: its read()",
    )


def _kept(picture: ImageSource, channels: ChannelOrder, exif: bool) -> ImageSource | ImageError:
    """A picture that stays as it is: iterators hand out the same buffer or Pillow image again, with the next frame in it."""
    if isinstance(picture, (str, Path, bytes)):
        return picture
    if isinstance(picture, (bytearray, memoryview)):
        return bytes(picture)
    try:
        return open_image(picture, channels=channels, exif=exif)
    except ImageError as error:
        return error


def _numbered(error: ImageError, index: int) -> ImageError:
    return ImageError(f"picture {index}: {error.cause}", error.remedy)
