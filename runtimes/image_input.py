"""Determines how to prepare images for an opened artifact (`ImageInput`), and what it returns.

Three sources state this: the artifact's manifest, the engine, and the arguments of the caller. This
module combines the three and raises an error if they contradict each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.image_sizes import ImageSize, describe_pixels, format_size, make_image_size
from tinyvit.images.decoding import (
    ChannelOrder,
    ImageSource,
    open_image_for_resizing,
)
from tinyvit.images.reduced_size import DecodedImage
from tinyvit.manifest_parts import EmbeddedPreprocessing, TensorSpec
from tinyvit.preprocess import Preprocess, timm_preprocess
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Runtime

Pixels: TypeAlias = "npt.NDArray[np.float32] | npt.NDArray[np.uint8]"

EXPECTED_IO = (
    "an image classifier or encoder is expected: one input, float32 (batch, 3, height, width) or"
    " (batch, height, width, 3), or uint8 (batch, height, width, 3), and without a manifest one"
    " output, float32 (batch, classes)"
)
"""Remedy of errors about files that take or return something else."""


@dataclass(frozen=True)
class ImageInput:
    """How to prepare an image for an artifact.

    Attributes:
        embedded_preprocessing: Which part of the preprocessing is inside the file: "host" (none),
            "normalize" or "full".
        layout: Layout of the input, "NCHW" or "NHWC".
        preprocess: The whole preprocessing, inside and outside the file.
        batch_size: Number of images that every run must have; None if any number is allowed.
    """

    embedded_preprocessing: EmbeddedPreprocessing
    layout: str
    preprocess: Preprocess
    batch_size: int | None

    def decode(
        self, source: ImageSource, channels: ChannelOrder = "rgb", exif: bool = True
    ) -> DecodedImage:
        """Decode an image for `prepare_input`.

        A large JPEG is decoded at a reduced size. If the file itself resizes images, it gets all
        pixels, so that an image is reduced only if its sides are multiples of the reduction.

        Args:
            source: The image, as for `open_image`.
            channels: Order of the color channels of an array.
            exif: Whether to rotate the image by its EXIF orientation.

        Returns:
            The image and its full size.

        Raises:
            ImageError: The image cannot be read.
            RequestError: `channels` is not a known order.
        """
        return open_image_for_resizing(
            source,
            self.preprocess.resized_size,
            uses_box=self.embedded_preprocessing != "full",
            channels=channels,
            exif=exif,
        )

    def prepare_input(self, decoded: DecodedImage) -> Pixels:
        """Apply the part of the preprocessing that is outside the file.

        Args:
            decoded: The result of `decode`.

        Returns:
            The network's input without the batch dimension: float32 (3, height, width) or
            (height, width, 3) for embedded preprocessing "host"; uint8 (height, width, 3) of the
            same size for "normalize"; the image itself, uint8 (height, width, 3), for "full".
        """
        if self.embedded_preprocessing == "host":
            return self.preprocess(decoded, self.layout)
        if self.embedded_preprocessing == "normalize":
            return self.preprocess.resize_and_crop(decoded)
        return np.asarray(decoded.image)


def resolve_image_input(
    artifact: Artifact, runtime: Runtime, preprocess: Preprocess | None = None
) -> ImageInput:
    """Combine what the manifest, the engine and the caller state about the input of an artifact.

    For a file without a manifest, ImageNet's preprocessing is used unless the caller passes another
    one; `warn_of_assumptions` tells the user.

    Args:
        artifact: The artifact.
        runtime: The same artifact, opened with an engine.
        preprocess: Preprocessing to use instead of the manifest's.

    Returns:
        The combined description.

    Raises:
        ArtifactError: If the file does not take images, or contradicts its manifest.
        RequestError: If the passed preprocessing does not match the file.
    """
    if len(runtime.inputs) != 1:
        raise make_count_error(artifact, runtime)
    network_input = runtime.inputs[0]
    embedded_preprocessing, size = _resolve_embedded_preprocessing(
        network_input, artifact, preprocess
    )
    manifest = artifact.manifest
    if manifest and not is_same_shape(manifest.input.shape, network_input.shape):
        raise ArtifactError(
            f"the input is {describe_tensor(network_input)}, but the manifest states"
            f" {describe_tensor(manifest.input)}",
            "export the file again",
        )
    _check_preprocess(preprocess, embedded_preprocessing, size, artifact)
    # A file that does all the preprocessing takes images of different sizes, which cannot be
    # stacked, so its batch is always one image.
    batch_size = 1 if embedded_preprocessing == "full" else network_input.shape[0]
    return ImageInput(
        embedded_preprocessing=embedded_preprocessing,
        layout=network_input.layout,
        preprocess=preprocess or (manifest.preprocess if manifest else timm_preprocess(size)),
        batch_size=batch_size if isinstance(batch_size, int) else None,
    )


def make_count_error(artifact: Artifact, runtime: Runtime) -> ArtifactError:
    """Return the error for a file with other numbers of inputs and outputs than one of each.

    Args:
        artifact: The file.
        runtime: The same file, opened with an engine.
    """
    return ArtifactError(
        f"{artifact.path.name} has {len(runtime.inputs)} inputs and {len(runtime.outputs)} outputs",
        EXPECTED_IO,
    )


class _ImageInput(NamedTuple):
    """Embedded preprocessing and size of an image input, as far as its dtype and shape show them.

    A height or width that is a string is the name of a dimension of any size. An artifact with
    embedded preprocessing "full" has a uint8 input of any size, which is described as "normalize"
    here, because only the manifest distinguishes the two.
    """

    embedded_preprocessing: Literal["host", "normalize"]
    height: int | str
    width: int | str


def _read_image_input(spec: TensorSpec) -> _ImageInput | None:
    """Derive what the input expects from its dtype and shape; None if it does not take images."""
    if len(spec.shape) != 4:
        return None
    if spec.layout == "NCHW":
        _batch, channels, height, width = spec.shape
    else:
        _batch, height, width, channels = spec.shape
    if channels != 3:
        return None
    if spec.dtype == "float32":
        return _ImageInput("host", height, width)
    if spec.dtype == "uint8" and spec.layout == "NHWC":
        return _ImageInput("normalize", height, width)
    return None


def _resolve_embedded_preprocessing(
    spec: TensorSpec, artifact: Artifact, preprocess: Preprocess | None
) -> tuple[EmbeddedPreprocessing, ImageSize]:
    """Return the embedded preprocessing and the size of the input image in pixels."""
    manifest = artifact.manifest
    image_input = _read_image_input(spec)
    if image_input is None:
        raise _input_error(spec, artifact)
    embedded_preprocessing, height, width = image_input
    takes_any_size = isinstance(height, str) and isinstance(width, str)
    if (
        manifest
        and manifest.embedded_preprocessing == "full"
        and embedded_preprocessing == "normalize"
        and takes_any_size
    ):
        return "full", manifest.preprocess.size
    if manifest and manifest.embedded_preprocessing != embedded_preprocessing:
        raise _input_error(spec, artifact)
    if isinstance(height, int) and isinstance(width, int):
        return embedded_preprocessing, make_image_size(height, width)
    if takes_any_size and preprocess:
        return embedded_preprocessing, preprocess.size
    if takes_any_size and not manifest:
        raise ArtifactError(
            f"{artifact.path.name} takes images of any size, and has no manifest that states the"
            " size for which it was trained",
            "in Python, pass that size (for example 224):"
            " Classifier(path, preprocess=tinyvit.preprocess.timm_preprocess(224))",
        )
    raise _input_error(spec, artifact)


def _input_error(spec: TensorSpec, artifact: Artifact) -> ArtifactError:
    """Return the error for an input that does not take images or contradicts the manifest."""
    contradiction = (
        f", which contradicts its manifest (embedded preprocessing"
        f" {artifact.manifest.embedded_preprocessing!r})"
        if artifact.manifest
        else ""
    )
    return ArtifactError(
        f"the input of {artifact.path.name} is {describe_tensor(spec)}{contradiction}",
        EXPECTED_IO,
    )


def _check_preprocess(
    preprocess: Preprocess | None,
    embedded_preprocessing: EmbeddedPreprocessing,
    size: ImageSize,
    artifact: Artifact,
) -> None:
    """Check that the caller's preprocessing, or else the manifest's, matches the network.

    `size` is the size of the network's input image in pixels.
    """
    name, manifest = artifact.path.name, artifact.manifest
    if embedded_preprocessing == "full":
        if preprocess and manifest and preprocess != manifest.preprocess:
            raise RequestError(
                f"{name} resizes and crops images inside the file, so its preprocessing cannot be"
                " replaced",
                "leave preprocess out, or export the model with --preprocess host",
            )
        return
    used_preprocess = preprocess or (manifest.preprocess if manifest else None)
    if used_preprocess and used_preprocess.size != size:
        cause = (
            f"the preprocessing is for {describe_pixels(used_preprocess.size)}, but {name} takes"
            f" {format_size(size)}"
        )
        if preprocess:
            raise RequestError(cause, f"pass a Preprocess of size {size}")
        raise ArtifactError(cause, "export the file again")


def is_same_shape(first: tuple[int | str, ...], second: tuple[int | str, ...]) -> bool:
    """Compare two shapes. Dimensions of any size may have different names.

    Args:
        first: Sizes, or names of dimensions of any size.
        second: The same of another tensor.
    """

    def without_names(shape: tuple[int | str, ...]) -> list[int | None]:
        return [size if isinstance(size, int) else None for size in shape]

    return without_names(first) == without_names(second)


def describe_tensor(tensor: TensorSpec) -> str:
    """Return dtype and shape as text, such as "float32 (batch, 3, 224, 224)".

    Args:
        tensor: The tensor.
    """
    return f"{tensor.dtype} ({', '.join(map(str, tensor.shape))})"
