"""Computes the teachers' top-K probabilities for the views of a data set, in batches.

A view is an augmented version of an image. A store is the folder that the outputs are saved in.
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

Span = tuple[int, int]
"""Positions of the records of one batch in an epoch, (start, end)."""
_ViewBatch = tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]
"""Seeds, (B,), and pixels, (B, S, S, 3), of views."""


@dataclass(frozen=True)
class LogitsRequest:
    """A request to `tinyvit-distill save-logits`.

    Attributes:
        data: Folder of images.
        teachers: Teachers as they are named on the command line, see
            `tinyvit.distill.logits.teachers`.
        epochs: Number of epochs to save.
        output: Folder of the store.
        top_k: Number K of classes in a record; the default suits 1,000 classes.
        size: Side of the views in pixels; None for the input size of the first teacher.
        views: Number of views of each image in an epoch.
        seed: Seed of all views.
        batch: Batch size of the teachers.
        augmentation: The augmentation settings.
        precision: "auto", "float32" or "bfloat16", for teachers that run in PyTorch.
        ray: Address of a Ray cluster; "" for a new cluster on this machine; None computes without
            Ray.
    """

    data: Path
    teachers: tuple[str, ...]
    epochs: int
    output: Path
    top_k: int = 10
    size: int | None = None
    views: int = 1
    seed: int = 0
    batch: int = DEFAULT_BATCH
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: Precision = "auto"
    ray: str | None = None


@dataclass(frozen=True)
class ImagesAndTeachers:
    """The opened images and teachers of a request.

    Attributes:
        images: The images.
        teachers: The teachers.
    """

    images: ImageFolder
    teachers: tuple[Teacher, ...]


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
    header: StoreHeader, inputs: ImagesAndTeachers, epoch: int, spans: Sequence[Span]
) -> Iterator[TeacherPredictions]:
    """Compute the teachers' outputs for batches of an epoch.

    Args:
        header: Header of the store that the outputs are for.
        inputs: The opened images and teachers.
        epoch: Epoch, from 0.
        spans: The batches to compute, as record positions.

    Yields:
        The outputs of each batch, in order.

    Raises:
        ImageError: An image cannot be decoded.
        RequestError: A teacher's output is not finite.
    """

    def make_batch(span: Span) -> _ViewBatch:
        return _make_views(header, inputs.images, epoch, span)

    batches: Iterator[_ViewBatch]
    # A thread makes the views of the next two batches while the teacher computes. Ray workers
    # compute one batch per call, which needs no thread.
    if len(spans) == 1:
        batches = map(make_batch, spans)
    else:
        batches = map_ahead(make_batch, spans, threads=1, ahead=2)
    for (start, _), (seeds, pixels) in zip(spans, batches):
        probabilities = average_probabilities(inputs.teachers, pixels)
        yield select_top_k(start, seeds, probabilities, header.top_k)


def _make_views(header: StoreHeader, images: ImageFolder, epoch: int, span: Span) -> _ViewBatch:
    """Make the views of one batch."""
    source = ViewSource(images.open, len(images), header.size, header.augmentation)
    image_views = [divmod(record, header.views_per_image) for record in range(*span)]
    seeds = [
        compute_view_seed(header.seed, epoch, images.keys[index], view)
        for index, view in image_views
    ]
    pixels = [make_view(source, index, seed).pixels for (index, _), seed in zip(image_views, seeds)]
    return np.array(seeds, np.uint32), np.stack(pixels)
