"""Defines `ImageModel`, which opens an artifact and runs it on images.

`Classifier` and `Encoder` are its two forms: they differ in what they make of the outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tinyvit.data.batching import Outputs
from tinyvit.errors import ImageError
from tinyvit.images.decoding import ChannelOrder, ImageSource
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import EmbeddedPreprocessing, OutputSpec
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.artifact import Artifact, read_artifact
from tinyvit.runtimes.base import RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.image_arguments import add_index
from tinyvit.runtimes.image_input import ImageInput, resolve_image_input
from tinyvit.runtimes.image_outputs import resolve_outputs
from tinyvit.runtimes.image_pipeline import ImagePipeline
from tinyvit.runtimes.reopening import ReopeningRuntime

Model = TypeVar("Model", bound="ImageModel")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ModelInfo:
    """Settings that an opened artifact runs with.

    Attributes:
        file: Name of the artifact's file.
        embedded_preprocessing: Which part of the preprocessing is inside the file: "host" (none),
            "normalize" or "full".
        batch_size: Number of images in one run of the network. If the network accepts any batch
            size, the last run may have fewer.
        decoding_threads: Threads that decode and resize images.
        streams: Number of batches that are computed at the same time.
        runtime: Engine, device, threads and precision in use.
    """

    file: str
    embedded_preprocessing: EmbeddedPreprocessing
    batch_size: int
    decoding_threads: int
    streams: int
    runtime: RuntimeInfo


class ImageModel(ABC):
    """An artifact opened for images; a context manager that closes it.

    Several threads may use it at the same time. It can be copied, pickled, and used in a child of
    `os.fork`: the copy or the child opens the file again with the same engine and options, so the
    file must still exist, unchanged.
    """

    def __init__(
        self,
        path: str | Path,
        engine_name: str | None,
        options: RuntimeOptions,
        preprocess: Preprocess | None,
    ) -> None:
        """Open an exported file.

        Args:
            path: Path of the file; "~" at its beginning is the user's home folder.
            engine_name: Name of the engine, such as "onnxruntime"; None for the best installed one.
            options: Device, threads, precision and cache folder.
            preprocess: Preprocessing to use instead of the file's own.

        Raises:
            ArtifactError: If the file cannot be opened, or does not take images.
            RequestError: If an argument is invalid or does not match the file.
            MissingDependencyError: If no engine that opens the file is installed.
        """
        artifact = read_artifact(path)
        self._path = artifact.path
        self._manifest = artifact.manifest
        self._runtime = ReopeningRuntime(artifact, engine_name, options)
        try:
            self._image_input: ImageInput = resolve_image_input(artifact, self._runtime, preprocess)
            self._outputs: tuple[OutputSpec, ...] = resolve_outputs(artifact, self._runtime)
            self._check_outputs(artifact)
        except BaseException:
            self._runtime.close()
            raise
        self._streams = options.streams
        self._pipeline = ImagePipeline(self._runtime, self._image_input, options.streams)
        self._first_info = self.describe()  # for `__repr__`, which also works after `close`

    @abstractmethod
    def _check_outputs(self, artifact: Artifact) -> None:
        """Raise an error if this class cannot use `_outputs`."""

    @abstractmethod
    def _describe_outputs(self) -> str:
        """Return what the artifact returns, for `__repr__`, such as "12 classes"."""

    def __repr__(self) -> str:
        info, runtime = self._first_info, self._first_info.runtime
        return (
            f"<{type(self).__name__} {info.file}: {self._describe_outputs()}, {runtime.engine} on"
            f" {runtime.device}, {runtime.precision}>"
        )

    @property
    def preprocess(self) -> Preprocess:
        """The whole preprocessing, inside and outside the file."""
        return self._image_input.preprocess

    @property
    def manifest(self) -> Manifest | None:
        """The manifest in the file; None if tinyvit-export did not write the file."""
        return self._manifest

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """The outputs of the network, in the order in which it returns them."""
        return self._outputs

    def describe(self) -> ModelInfo:
        """Return the settings that the artifact runs with."""
        return ModelInfo(
            file=self._path.name,
            embedded_preprocessing=self._image_input.embedded_preprocessing,
            batch_size=self._pipeline.batch_size,
            decoding_threads=self._pipeline.decoding_threads,
            streams=self._streams,
            runtime=self._runtime.describe(),
        )

    def close(self) -> None:
        """Release the engine. Calling it again has no effect."""
        self._runtime.close()

    def __enter__(self: Model) -> Model:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _outputs_each(
        self,
        images: Iterable[ImageSource],
        channels: ChannelOrder,
        exif: bool = True,
        chunk: int | None = None,
    ) -> Iterator[Outputs | ImageError]:
        """Compute the outputs for images; see `ImagePipeline.compute_outputs`."""
        return self._pipeline.compute_outputs(images, channels, exif, chunk)


def raise_image_errors(results: Iterable[Result | ImageError], is_single: bool) -> Iterator[Result]:
    """Yield results, and raise the error of the first image that cannot be read.

    Args:
        results: One result or error for each image.
        is_single: Whether there is only one image, so that the error needs no index.

    Yields:
        The results.

    Raises:
        ImageError: An image cannot be read.
    """
    for index, result in enumerate(results):
        if isinstance(result, ImageError):
            raise result if is_single else add_index(result, index)
        yield result
