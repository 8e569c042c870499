"""Computing what teachers predict for the views of a data set, one batch after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit.data.class_folders import ImageFolder, read_image_folder
from tinyvit.data.decoding import map_ahead
from tinyvit.distill.augmentation.views import Augmentation, ViewSource, make_view, view_seed
from tinyvit.distill.logits.header import StoreHeader
from tinyvit.distill.logits.module_teachers import Teacher
from tinyvit.distill.logits.records import TeacherOutputs, select_top_k
from tinyvit.distill.logits.teachers import average_probabilities, open_teachers
from tinyvit.distill.training.device import Precision, select_device

DEFAULT_BATCH = 16

Span = tuple[int, int]
"""Positions of consecutive records of an epoch, (start, end)."""


@dataclass(frozen=True)
class LogitsRequest:
    """A request to `save-logits`. Fields that are not described are those of `StoreHeader`.

    Attributes:
        data: Folder of images.
        teachers: Teachers as they are named on the command line, see `teachers`.
        epochs: Number of epochs to store.
        output: Folder of the store.
        top_k: Number of classes that a record keeps; the default is for 1,000 classes.
        size: Side of the views in pixels; None takes the teacher's own.
        precision: "auto", "float32" or "bfloat16", for teachers in torch.
        ray: Address of a Ray cluster, "" for a cluster on this machine, None for no cluster.
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
class OpenSources:
    """The images and teachers of a request, ready to use.

    Attributes:
        images: The images.
        teachers: The teachers.
    """

    images: ImageFolder
    teachers: tuple[Teacher, ...]


def open_sources(request: LogitsRequest) -> OpenSources:
    """List the images and open the teachers of a request.

    Args:
        request: The request.

    Raises:
        TinyViTError: The images or a teacher cannot be used.
    """
    device = select_device(request.precision)
    images = read_image_folder(request.data)
    return OpenSources(images, open_teachers(request.teachers, request.size, device))


def compute_outputs(
    header: StoreHeader, sources: OpenSources, epoch: int, spans: Sequence[Span]
) -> Iterator[TeacherOutputs]:
    """Compute the teachers' outputs for batches of an epoch.

    Args:
        header: Header of the store that the outputs are for.
        sources: The images and teachers.
        epoch: Epoch, from 0.
        spans: The batches to compute.

    Yields:
        The outputs of each batch, in order.

    Raises:
        ImageError: An image cannot be decoded.
        RequestError: A teacher's output is not finite.
    """

    def make_batch(span: Span) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
        return _make_views(header, sources.images, epoch, span)

    # The views of the next batch are made while the teacher computes on this one. A single batch,
    # as Ray's workers compute it, needs no thread.
    is_single = len(spans) == 1
    batches = map(make_batch, spans) if is_single else map_ahead(make_batch, spans, 1, ahead=2)
    for (start, _), (seeds, pixels) in zip(spans, batches):
        probabilities = average_probabilities(sources.teachers, pixels)
        yield select_top_k(start, seeds, probabilities, header.top_k)


def _make_views(
    header: StoreHeader, images: ImageFolder, epoch: int, span: Span
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """Return the seeds, (B,), and the pixels, uint8 (B, S, S, 3), of a batch."""
    source = ViewSource(images.open, len(images), header.size, header.augmentation)
    positions = [divmod(record, header.views) for record in range(*span)]
    seeds = [view_seed(header.seed, epoch, images.keys[index], view) for index, view in positions]
    pixels = [make_view(source, index, seed).pixels for (index, _), seed in zip(positions, seeds)]
    return np.array(seeds, np.uint32), np.stack(pixels)
