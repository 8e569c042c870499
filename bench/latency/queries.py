"""Makes the functions to time.

Such a function has no arguments, and each of its calls answers one query. To answer a query, the
network runs once or several times. A query starts either from random input, so that the network
alone is timed, or from the bytes of image files; then it ends with their classes (end to end).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinyvit.bench.latency.open_artifact import OpenArtifact
from tinyvit.bench.profilers import random_input
from tinyvit.data.listing import list_images
from tinyvit.errors import RequestError
from tinyvit.images.decoding import open_image
from tinyvit.labels import Label
from tinyvit.runtimes.image_input import resolve_image_input
from tinyvit.runtimes.image_outputs import resolve_outputs
from tinyvit.runtimes.label_argument import resolve_labels
from tinyvit.runtimes.predictions import select_top_predictions

Query: TypeAlias = "Callable[[], object]"
"""A function that answers one query."""

STAGES = ("decode", "resize", "network", "top-k")
"""Stages of an end-to-end query. "resize" is all preprocessing that is not inside the artifact:
resizing, cropping and normalizing, or less."""
MAX_IMAGES = 64
"""Maximum number of images that `read_images` reads from a folder."""

_DEFAULT_IMAGE_SIZE = (256, 320)
"""Height and width of the random input for an artifact that accepts any image size. Used only if
the manifest has no golden vectors (fixed inputs with their logits), which have a size."""
_TOP_K = 5


def choose_images_per_query(
    open_artifact: OpenArtifact, requested: int | None, default: int
) -> int:
    """Return the number of images in a query.

    Args:
        open_artifact: The artifact, open in an engine.
        requested: The number that the user requested; None for the default.
        default: The default of the scenario. If the artifact's batch is fixed, the default is
            rounded down to a multiple of this batch, but to at least one batch.

    Raises:
        RequestError: The requested number is not a multiple of the fixed batch.
    """
    fixed_batch = open_artifact.fixed_batch
    if fixed_batch is None:
        return requested or default
    if requested and requested % fixed_batch:
        raise RequestError(
            f"--batch is {requested}, but {open_artifact.path} takes {fixed_batch} images per run",
            f"give a multiple of {fixed_batch}, or export the model with --batch {requested} or"
            " --dynamic-batch",
        )
    return requested or max(default // fixed_batch, 1) * fixed_batch


def make_network_query(open_artifact: OpenArtifact, images_per_query: int) -> Query:
    """Make a query that runs the network alone, on random input.

    Args:
        open_artifact: The artifact, open in an engine.
        images_per_query: Number of images in one query. If the artifact's batch is fixed, this
            number must be a multiple of the batch, and the network runs once for each batch.
    """
    batch = _make_random_batch(open_artifact, open_artifact.fixed_batch or images_per_query)
    runs_per_query = images_per_query // len(batch)
    run = open_artifact.runtime.run

    def run_once() -> object:
        return run(batch)

    def run_several_times() -> object:
        return [run(batch) for _ in range(runs_per_query)]

    return run_once if runs_per_query == 1 else run_several_times


class EndToEndQuery:
    """A query from the bytes of image files to the result, which times each stage.

    The result of a classifier is the top five classes, that of an encoder the outputs themselves.

    The bytes are already in memory, so that reading from disk is not timed. Each call takes the
    next images, and continues with the first image after the last one.

    Attributes:
        stages_ms: One tuple per call, with the milliseconds of each of `STAGES`.
    """

    def __init__(
        self, open_artifact: OpenArtifact, images: tuple[bytes, ...], images_per_query: int
    ) -> None:
        """Prepare the query.

        Args:
            open_artifact: The artifact, open in an engine.
            images: Contents of image files, at least one.
            images_per_query: Number of images in one query.
        """
        self.stages_ms: list[tuple[float, ...]] = []
        self._runtime = open_artifact.runtime
        artifact, runtime = open_artifact.artifact, open_artifact.runtime
        self._image_input = resolve_image_input(artifact, runtime)
        # An embedding or a feature map needs no more steps, so it has no labels.
        self._labels: tuple[Label, ...] = ()
        if resolve_outputs(artifact, runtime)[0].kind == "logits":
            class_count = runtime.outputs[0].shape[1]
            assert isinstance(class_count, int)
            self._labels = resolve_labels(artifact, class_count, labels=None)
        self._images_per_query = images_per_query
        self._images_per_run = self._image_input.batch_size or images_per_query
        self._image_cycle = cycle(images)

    def __call__(self) -> None:
        """Answer one query, and append the times of its stages to `stages_ms`."""
        marks_s = [time.perf_counter()]
        files = islice(self._image_cycle, self._images_per_query)
        images = [self._image_input.decode(content) for content in files]
        marks_s.append(time.perf_counter())
        inputs = [self._image_input.prepare_input(image) for image in images]
        marks_s.append(time.perf_counter())
        logits: list[npt.NDArray[Any]] = []
        for start in range(0, len(inputs), self._images_per_run):
            batch = np.stack(inputs[start : start + self._images_per_run])
            logits.extend(self._runtime.run(batch))
        marks_s.append(time.perf_counter())
        if self._labels:
            for image_logits in logits:
                select_top_predictions(image_logits, self._labels, _TOP_K)
        marks_s.append(time.perf_counter())
        self.stages_ms.append(tuple((end - start) * 1e3 for start, end in pairwise(marks_s)))


def read_images(path: Path) -> tuple[bytes, ...]:
    """Read the bytes of image files, after checking that they can be decoded.

    Args:
        path: An image file, or a folder; only its first `MAX_IMAGES` images are read.

    Returns:
        The content of each file.

    Raises:
        ImageError: A file cannot be decoded, or the folder has no images.
    """
    files = list_images(path)[:MAX_IMAGES] if path.is_dir() else [path]
    for file in files:
        open_image(file)
    return tuple(file.read_bytes() for file in files)


def _make_random_batch(open_artifact: OpenArtifact, image_count: int) -> npt.NDArray[Any]:
    """Return random input for `image_count` images.

    Dynamic heights and widths are those of the golden vectors, or else `_DEFAULT_IMAGE_SIZE`.
    """
    spec = open_artifact.runtime.inputs[0]
    manifest = open_artifact.artifact.manifest
    golden = manifest.golden if manifest else None
    height, width = (golden.height, golden.width) if golden else _DEFAULT_IMAGE_SIZE
    sizes_by_layout = {
        "NHWC": (image_count, height, width, 3),
        "NCHW": (image_count, 3, height, width),
    }
    # Without a known layout, every dynamic size is taken for the number of images.
    dynamic_sizes = sizes_by_layout.get(spec.layout, (image_count,) * len(spec.shape))
    shape = [
        size if isinstance(size, int) else dynamic_size
        for size, dynamic_size in zip(spec.shape, dynamic_sizes)
    ]
    batch: npt.NDArray[Any] = random_input(shape, spec.dtype)
    return batch
