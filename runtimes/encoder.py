"""Defines `Encoder`, which computes embeddings and feature maps of images with an artifact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tinyvit.data.batching import Outputs
from tinyvit.errors import ArtifactError, ImageError
from tinyvit.images.decoding import ChannelOrder, ImageSource
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.assumptions import warn_of_assumptions
from tinyvit.runtimes.base import AUTO_DEVICE, RuntimeOptions
from tinyvit.runtimes.image_arguments import interpret_image_argument
from tinyvit.runtimes.image_model import ImageModel, raise_image_errors

Embedding: TypeAlias = "npt.NDArray[np.float32]"
"""One vector, (size,), or one for each image, (n, size)."""

FeatureMaps: TypeAlias = "dict[str, npt.NDArray[np.float32]]"
"""Name of each output -> feature map, (channels, height, width), with (n, ...) for n images."""


class Encoder(ImageModel):
    """An artifact opened for embeddings or feature maps; a context manager that closes it.

    `encoder(x)` is the same as `encoder.embed(x)`. See `ImageModel` about threads, copies and
    processes.
    """

    def __init__(  # noqa: PLR0913 (the public constructor mirrors the command line)
        self,
        path: str | Path,
        engine_name: str | None = None,
        device: str = AUTO_DEVICE,
        threads: int | None = None,
        *,
        precision: str | None = None,
        cache: str | Path | None = None,
        preprocess: Preprocess | None = None,
        allow_foreign_operators: bool = False,
        skip_trial: bool = False,
        streams: int = 1,
    ) -> None:
        """Open a file that tinyvit-export made with --output embedding or --output features.

        A file without a manifest whose output is a vector for each image is opened too, with
        ImageNet's preprocessing (and a UserWarning) unless another one is passed.

        Args:
            path: Path of the file; "~" at its beginning is the user's home folder.
            engine_name: Name of the engine, such as "onnxruntime"; None for the best installed one.
            device: "cpu", "gpu", "npu" or the engine's own name of a device; "auto" for the
                engine's default.
            threads: CPU threads for one inference; None for the engine's default.
            precision: "float32", "bfloat16" or "float16"; None for the precision in the manifest.
            cache: Folder in which the engine keeps the files that it compiles.
            preprocess: Preprocessing to use instead of the file's own.
            allow_foreign_operators: As for `Classifier`.
            skip_trial: As for `Classifier`.
            streams: As for `Classifier`.

        Raises:
            ArtifactError: If the file cannot be opened, or is a classifier.
            RequestError: If an argument is invalid or does not match the file.
            MissingDependencyError: If no engine that opens the file is installed.
        """
        options = RuntimeOptions(
            device, threads, precision, cache, allow_foreign_operators, skip_trial, streams
        )
        super().__init__(path, engine_name, options, preprocess)
        if self._manifest is None and preprocess is None:
            warn_of_assumptions(Artifact(self._path, None), self.preprocess, None, "Encoder")

    @property
    def size(self) -> int:
        """Number of values of an embedding.

        Raises:
            ArtifactError: If the file returns feature maps.
        """
        self._require_embedding()
        size = self._outputs[0].shape[1]
        assert isinstance(size, int)
        return size

    def embed(
        self,
        x: ImageSource | Iterable[ImageSource],
        *,
        l2_normalize: bool = False,
        channels: ChannelOrder = "rgb",
    ) -> Embedding:
        """Compute the embedding of one image or of many.

        Args:
            x: One image: a file's path, a file's bytes, a Pillow image, a uint8 array (height,
                width, 3), or a tensor of torch, uint8 (3, height, width) or (height, width, 3).
                Many images: a list, tuple, iterator, array of objects or pandas.Series of these, a
                uint8 array or tensor with one more axis in front, or the path of a folder. The
                images of a folder are in the order of `tinyvit.data.listing.list_images`.
            l2_normalize: Whether to divide each embedding by its length (the square root of the sum
                of its squares). The dot product of two embeddings is then their cosine similarity.
            channels: Order of the channels in arrays; OpenCV uses "bgr".

        Returns:
            Embeddings, float32: (size,) for one image, (n, size) for many.

        Raises:
            ImageError: If an image cannot be read; `embed_each` continues with the next one.
            RequestError: If an argument is invalid.
            ArtifactError: If the engine fails, if a value is not finite, or if the file returns
                feature maps.
        """
        self._require_embedding()
        is_single, images = interpret_image_argument(x)
        results = self.embed_each(images, l2_normalize=l2_normalize, channels=channels)
        rows = list(raise_image_errors(results, is_single))
        if is_single:
            return rows[0]
        return np.array(rows, np.float32).reshape(len(rows), self.size)

    __call__ = embed

    def embed_each(
        self,
        images: Iterable[ImageSource],
        *,
        l2_normalize: bool = False,
        channels: ChannelOrder = "rgb",
    ) -> Iterator[Embedding | ImageError]:
        """Compute the embeddings of images, and yield each as soon as it is known.

        Args:
            images: The images; an endless iterator is allowed.
            l2_normalize: As for `embed`.
            channels: Order of the channels in arrays; OpenCV uses "bgr".

        Returns:
            An iterator of one result for each image: its embedding, float32 (size,), or an
            ImageError if the image cannot be read. It raises ArtifactError if the engine fails or a
            value is not finite, and RequestError if `channels` is not a known order.

        Raises:
            ArtifactError: If the file returns feature maps.
        """
        self._require_embedding()
        results = self._outputs_each(images, channels)
        return (
            result if isinstance(result, ImageError) else self._finish(result[0], l2_normalize)
            for result in results
        )

    def features(
        self, x: ImageSource | Iterable[ImageSource], *, channels: ChannelOrder = "rgb"
    ) -> FeatureMaps:
        """Compute the feature maps of one image or of many.

        The feature maps of many images take much memory: at 224 pixels, those of all stages of a
        TinyViT-5M take 1.4 MB for each image. `features_each` yields them image by image.

        Args:
            x: One image or many, as for `embed`.
            channels: Order of the channels in arrays; OpenCV uses "bgr".

        Returns:
            Name of each output, such as "stage2" -> feature map, float32: (channels, height, width)
            for one image, (n, channels, height, width) for many.

        Raises:
            ImageError: If an image cannot be read; `features_each` continues with the next one.
            RequestError: If an argument is invalid.
            ArtifactError: If the engine fails, if a value is not finite, or if the file returns an
                embedding.
        """
        is_single, images = interpret_image_argument(x)
        results = self.features_each(images, channels=channels)
        maps = list(raise_image_errors(results, is_single))
        if is_single:
            return maps[0]
        return {
            spec.name: np.array([of_image[spec.name] for of_image in maps], np.float32).reshape(
                len(maps), *map(int, spec.shape[1:])
            )
            for spec in self._outputs
        }

    def features_each(
        self, images: Iterable[ImageSource], *, channels: ChannelOrder = "rgb"
    ) -> Iterator[FeatureMaps | ImageError]:
        """Compute the feature maps of images, and yield those of each as soon as they are known.

        Args:
            images: The images; an endless iterator is allowed.
            channels: Order of the channels in arrays; OpenCV uses "bgr".

        Returns:
            An iterator of one result for each image: name of each output -> feature map, float32
            (channels, height, width), or an ImageError if the image cannot be read. It raises
            ArtifactError if the engine fails or a value is not finite.

        Raises:
            ArtifactError: If the file returns an embedding.
        """
        if self._outputs[0].kind != "features":
            raise ArtifactError(
                f"{self._path.name} returns an embedding, not feature maps",
                "call embed(), or export the checkpoint with --output features",
            )
        results = self._outputs_each(images, channels)
        return (
            result if isinstance(result, ImageError) else self._name_maps(result)
            for result in results
        )

    def _describe_outputs(self) -> str:
        if self._outputs[0].kind == "embedding":
            return f"embedding of {self.size} values"
        return f"feature maps {', '.join(output.name for output in self._outputs)}"

    def _check_outputs(self, artifact: Artifact) -> None:
        """Raise ArtifactError for a classifier."""
        if artifact.manifest is not None and self._outputs[0].kind == "logits":
            raise ArtifactError(
                f"{self._path.name} is a classifier: it returns logits",
                "open it with Classifier, or export the checkpoint with --output embedding",
            )

    def _require_embedding(self) -> None:
        """Raise ArtifactError if the file returns feature maps."""
        if self._outputs[0].kind == "features":
            names = ", ".join(spec.name for spec in self._outputs)
            raise ArtifactError(
                f"{self._path.name} returns feature maps ({names}), not an embedding",
                "call features(), or export the checkpoint with --output embedding",
            )

    def _finish(self, embedding: Embedding, l2_normalize: bool) -> Embedding:
        """Check an embedding, and divide it by its length if that is requested."""
        self._require_finite((embedding,))
        if not l2_normalize:
            return embedding
        length = np.sqrt(np.square(embedding, dtype=np.float64).sum())
        return np.asarray(embedding / max(length, np.finfo(np.float32).tiny), np.float32)

    def _name_maps(self, outputs: Outputs) -> FeatureMaps:
        """Return the feature maps of one image by the names of the outputs."""
        self._require_finite(outputs)
        return {spec.name: output for spec, output in zip(self._outputs, outputs)}

    def _require_finite(self, outputs: Outputs) -> None:
        """Raise ArtifactError if a value is NaN or infinite."""
        if not all(np.isfinite(output).all() for output in outputs):
            raise ArtifactError(
                f"{self._path.name} computed values that are not finite",
                "check it with tinyvit-verify",
            )
