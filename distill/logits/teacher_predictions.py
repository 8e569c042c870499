"""Computes the teachers' K largest class probabilities for the views of a data set, in batches.

A view is an augmented version of an image. A store is the folder that the predictions are saved in,
and a record is what it holds for one view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit.data.class_folders import ImageFolder, read_image_folder
from tinyvit.data.decoding import map_ahead
from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.augmentation.views import ViewSource, compute_view_seed, make_view
from tinyvit.distill.logits.header import StoreHeader
from tinyvit.distill.logits.module_teachers import Teacher
from tinyvit.distill.logits.records import TeacherPredictions, select_top_k
from tinyvit.distill.logits.teachers import average_probabilities, open_teachers
from tinyvit.distill.training.device import Precision, select_device

DEFAULT_BATCH = 16
"""Number of views that the teachers predict at once, unless the request states another number."""


@dataclass(frozen=True)
class LogitsRequest:
    """A request to `tinyvit-distill save-logits`.

    Attributes:
        data: Folder of images.
        teachers: Texts that select the teachers, such as "timm:resnet50.a1_in1k"; the module
            `teachers` describes all forms.
        epochs: Number of epochs to save.
        output: Folder of the store.
        top_k: Number K of most probable classes to save for each view; the default suits teachers
            with 1,000 classes.
        size: Width and height of the views in pixels; None for the input size of the first teacher.
        views_per_image: Number of views of each image in an epoch.
        seed: Seed of the store, from which the seed of every view is computed.
        batch: Number of views that the teachers predict at once.
        augmentation: The augmentation settings.
        precision: "auto", "float32" or "bfloat16", for teachers that run in PyTorch.
        ray_address: Address (HOST:PORT) of a Ray cluster; "" for a new cluster on this machine;
            None computes without Ray.
    """

    data: Path
    teachers: tuple[str, ...]
    epochs: int
    output: Path
    top_k: int = 10
    size: int | None = None
    views_per_image: int = 1
    seed: int = 0
    batch: int = DEFAULT_BATCH
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: Precision = "auto"
    ray_address: str | None = None


@dataclass(frozen=True)
class ImagesAndTeachers:
    """The open images and teachers of a request.

    Attributes:
        images: The images.
        teachers: The teachers, at least one.
    """

    images: ImageFolder
    teachers: tuple[Teacher, ...]


@dataclass(frozen=True)
class _ViewBatch:
    """The views of one batch.

    Attributes:
        start: Position of the first view among the records of its epoch.
        seeds: Seeds of the views, uint32 (B,).
        pixels: Pixels of the views, uint8 (B, S, S, 3).
    """

    start: int
    seeds: npt.NDArray[np.uint32]
    pixels: npt.NDArray[np.uint8]


def open_images_and_teachers(request: LogitsRequest) -> ImagesAndTeachers:
    """List the images and open the teachers of a request.

    Args:
        request: The request.

    Raises:
        TinyViTError: The images or a teacher cannot be used.
    """
    device = select_device(request.precision)
    images = read_image_folder(request.data)
    return ImagesAndTeachers(images, open_teachers(request.teachers, request.size, device))


def compute_predictions(
    header: StoreHeader,
    inputs: ImagesAndTeachers,
    epoch: int,
    record_ranges: Sequence[range],
) -> Iterator[TeacherPredictions]:
    """Compute the teachers' predictions for batches of an epoch.

    Args:
        header: Header of the store that the predictions are for.
        inputs: The images and the teachers.
        epoch: Epoch, from 0.
        record_ranges: The batches to compute, each as the positions of its records in the epoch.

    Yields:
        The predictions for each batch, in order.

    Raises:
        ImageError: An image cannot be decoded.
        RequestError: A probability that a teacher predicts is NaN or infinite.
    """

    def make_batch(record_range: range) -> _ViewBatch:
        return _make_view_batch(header, inputs.images, epoch, record_range)

    batches: Iterator[_ViewBatch]
    # A thread makes the views of the next batch while the teachers compute. Ray workers call this
    # function for one batch, which needs no thread.
    if len(record_ranges) == 1:
        batches = map(make_batch, record_ranges)
    else:
        batches = map_ahead(make_batch, record_ranges, threads=1, ahead=2)
    for batch in batches:
        probabilities = average_probabilities(inputs.teachers, batch.pixels)
        yield select_top_k(batch.start, batch.seeds, probabilities, header.top_k)


def _make_view_batch(
    header: StoreHeader, images: ImageFolder, epoch: int, record_range: range
) -> _ViewBatch:
    source = ViewSource(images.open, len(images), header.size, header.augmentation)
    seeds: list[int] = []
    pixels: list[npt.NDArray[np.uint8]] = []
    for position in record_range:
        image_index, view_number = divmod(position, header.views_per_image)
        seed = compute_view_seed(header.seed, epoch, images.keys[image_index], view_number)
        seeds.append(seed)
        pixels.append(make_view(source, image_index, seed).pixels)
    return _ViewBatch(record_range.start, np.array(seeds, np.uint32), np.stack(pixels))
