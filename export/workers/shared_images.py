"""Images and float32 outputs in files, which several processes of one export read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.data.calibration_images import Pixels
from tinyvit.outputs import OutputKind
from tinyvit.quant.accuracy_budget import ArtifactOutputs, BatchFactory

_BATCH_SIZE = 32
"""Number of images in a batch of `SharedImages.batches`."""


@dataclass(frozen=True)
class SharedImages:
    """Images on which int8 is compared with float32, and what float32 returns for them.

    The arrays are in files. A process reads the pixels of one batch at a time, so that it does not
    keep them in its memory.

    Attributes:
        folder: The folder of the files.
        listed_count: Number of images, including unreadable ones, which are not in the files.
        shape: Shape (N, H, W, 3) of the pixels.
        has_classes: Whether the correct classes are known.
        output_count: Number of outputs of the network.
        kind: What the outputs mean.
    """

    folder: Path
    listed_count: int
    shape: tuple[int, ...]
    has_classes: bool
    output_count: int
    kind: OutputKind

    def batches(self) -> Iterator[tuple[Pixels, npt.NDArray[np.int64] | None]]:
        """Yield the images in batches; the method is an `accuracy_budget.BatchFactory`."""
        classes = np.load(_classes_path(self.folder)) if self.has_classes else None
        count, *image_shape = self.shape
        with _pixels_path(self.folder).open("rb") as file:
            for start in range(0, count, _BATCH_SIZE):
                images = slice(start, min(start + _BATCH_SIZE, count))
                pixels = np.empty((images.stop - start, *image_shape), np.uint8)
                if file.readinto(pixels.data) != pixels.nbytes:
                    raise OSError(f"{file.name} is shorter than it was")
                yield pixels, None if classes is None else classes[images]

    def read_float32_outputs(self) -> ArtifactOutputs:
        """Return the outputs of the float32 network for all images."""
        outputs = tuple(
            np.load(_output_path(self.folder, index), mmap_mode="r")
            for index in range(self.output_count)
        )
        classes = np.load(_classes_path(self.folder)) if self.has_classes else None
        return ArtifactOutputs(outputs, classes, self.kind)


def write_shared_images(
    folder: Path, make_batches: BatchFactory, listed_count: int, outputs: ArtifactOutputs
) -> SharedImages:
    """Write images and the float32 outputs for them to files.

    Args:
        folder: An empty folder, which must exist as long as the result is used.
        make_batches: Function that returns a new iterator over the batches of images.
        listed_count: Number of images, including unreadable ones.
        outputs: The outputs of the float32 network for these images.

    Returns:
        The images and outputs.

    Raises:
        OSError: A file cannot be written.
    """
    image_shape: tuple[int, ...] = ()
    count = 0
    with _pixels_path(folder).open("wb") as file:
        for pixels, _classes in make_batches():
            file.write(np.ascontiguousarray(pixels).data)
            count, image_shape = count + len(pixels), pixels.shape[1:]
    classes = outputs.correct_classes
    if classes is not None:
        _save(_classes_path(folder), classes)
    for index, values in enumerate(outputs.outputs):
        _save(_output_path(folder, index), values)
    return SharedImages(
        folder,
        listed_count,
        (count, *image_shape),
        classes is not None,
        len(outputs.outputs),
        outputs.kind,
    )


def _save(path: Path, values: npt.NDArray[Any]) -> None:
    np.save(path, values, allow_pickle=False)


def _pixels_path(folder: Path) -> Path:
    return folder / "pixels.bin"


def _classes_path(folder: Path) -> Path:
    return folder / "classes.npy"


def _output_path(folder: Path, index: int) -> Path:
    return folder / f"output-{index}.npy"
