"""Opens an artifact in an engine, and makes the queries to time.

A query is a callable; each call is timed. It runs either the network alone on random input, or all
steps from the bytes of image files to the classes (end to end).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.bench.profilers import random_input
from tinyvit.data.listing import list_images
from tinyvit.errors import RequestError
from tinyvit.images import open_image
from tinyvit.runtimes.artifact import Artifact, read_artifact
from tinyvit.runtimes.base import Runtime, RuntimeOptions
from tinyvit.runtimes.model_io import resolve_model_io
from tinyvit.runtimes.predictions import select_top_predictions
from tinyvit.runtimes.registry import engines_for_format, is_reference, open_runtime

STAGES = ("decode", "resize", "network", "top-k")
"""Stages of an end-to-end query. "resize" is all preprocessing that the artifact leaves to its
caller: resizing, cropping and normalizing."""
MAX_IMAGES = 64
"""Maximum number of images that `read_images` reads from a folder."""

_DEFAULT_IMAGE_SIZE = (256, 320)
"""Height and width of the input of an artifact that accepts any image size, if its manifest has no
golden vectors (inputs and outputs for verification); with golden vectors, their size is used."""
_TOP_K = 5


@dataclass(frozen=True)
class OpenWorkload:
    """An artifact that is open in an engine; a context manager that closes it.

    Attributes:
        path: Path of the artifact, as the user gave it.
        engine: Name of the engine.
        artifact: The artifact.
        runtime: The opened engine.
        batch: Fixed batch size of the artifact; None if it accepts any.
        load_ms: Time in which the engine opened the artifact.
    """

    path: str
    engine: str
    artifact: Artifact
    runtime: Runtime
    batch: int | None
    load_ms: float

    def __enter__(self) -> OpenWorkload:
        """Return the workload, which is open already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine at the end of the block."""
        self.runtime.close()


def open_workload(path: str, engine: str | None, options: RuntimeOptions) -> OpenWorkload:
    """Open an artifact in an engine, and measure the time of opening.

    Args:
        path: Path of the artifact.
        engine: Name of the engine; None for the best installed one for the artifact's format.
        options: Device, threads and precision.

    Raises:
        RequestError: The engine cannot open the artifact as requested, or is a reference evaluator.
        MissingDependencyError: The engine is not installed.
        ArtifactError: The artifact is damaged or cannot be run.
    """
    if engine and is_reference(engine):
        raise RequestError(
            f"{engine} only verifies the outputs of {path}, and its latency is not that of a"
            " device",
            "measure on the device, with the device's own engine",
        )
    artifact = read_artifact(path)
    name = engine or engines_for_format(artifact.format)[0]
    start_s = time.perf_counter()
    runtime = open_runtime(artifact, name, options)
    load_ms = (time.perf_counter() - start_s) * 1e3
    batch = runtime.inputs[0].shape[0] if runtime.inputs and runtime.inputs[0].shape else None
    fixed_batch = batch if isinstance(batch, int) else None
    return OpenWorkload(path, name, artifact, runtime, fixed_batch, load_ms)


def choose_images_per_query(workload: OpenWorkload, requested: int | None, default: int) -> int:
    """Return the number of images in a query.

    Args:
        workload: The open artifact.
        requested: The number that the user requested; None for the default.
        default: The default of the scenario. If the batch is fixed, it is rounded down to a
            multiple of the batch, but to at least one batch.

    Raises:
        RequestError: The requested number is not a multiple of the fixed batch.
    """
    if workload.batch is None:
        return requested or default
    if requested and requested % workload.batch:
        raise RequestError(
            f"--batch is {requested}, but {workload.path} takes {workload.batch} images per run",
            f"give a multiple of {workload.batch}, or export the model with --batch {requested} or"
            " --dynamic-batch",
        )
    return requested or max(default // workload.batch, 1) * workload.batch


def make_network_query(workload: OpenWorkload, images: int) -> Callable[[], object]:
    """Make a query that runs the network alone, on random input.

    Args:
        workload: The open artifact.
        images: Images per query; a multiple of the batch if that is fixed, so that a query may
            consist of several runs.

    Returns:
        A callable; each call runs one query.
    """
    batch = _random_batch(workload, workload.batch or images)
    run_count = images // len(batch)
    run = workload.runtime.run

    def run_once() -> object:
        return run(batch)

    def run_several_times() -> object:
        return [run(batch) for _ in range(run_count)]

    return run_once if run_count == 1 else run_several_times


class EndToEndQuery:
    """A query from the bytes of image files to the top five classes, with the time of each stage.

    The bytes are already in memory, so that reading from disk is not timed. Each call takes the
    next images, and starts again with the first one after the last one.

    Attributes:
        stages_ms: One tuple per call, with the milliseconds of each of `STAGES`.
    """

    def __init__(
        self, workload: OpenWorkload, images: tuple[bytes, ...], images_per_query: int
    ) -> None:
        """Prepare the query.

        Args:
            workload: The open artifact.
            images: Contents of image files, at least one.
            images_per_query: Number of images in one query.
        """
        self.stages_ms: list[tuple[float, ...]] = []
        self._runtime = workload.runtime
        self._model_io = resolve_model_io(workload.artifact, workload.runtime, None, None)
        self._batch = self._model_io.batch_size or images_per_query
        self._images_per_query = images_per_query
        self._images = cycle(images)

    def __call__(self) -> None:
        """Run one query, and append the times of its stages to `stages_ms`."""
        marks_s = [time.perf_counter()]
        images = [open_image(data) for data in islice(self._images, self._images_per_query)]
        marks_s.append(time.perf_counter())
        inputs = [self._model_io.prepare_input(image) for image in images]
        marks_s.append(time.perf_counter())
        logits = [
            row
            for start in range(0, len(inputs), self._batch)
            for row in self._runtime.run(np.stack(inputs[start : start + self._batch]))
        ]
        marks_s.append(time.perf_counter())
        for row in logits:
            select_top_predictions(row, self._model_io.labels, _TOP_K)
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


def _random_batch(workload: OpenWorkload, images: int) -> npt.NDArray[Any]:
    """Return random input for `images` images; dynamic sizes are those of the golden vectors."""
    spec = workload.runtime.inputs[0]
    manifest = workload.artifact.manifest
    golden = manifest.golden if manifest else None
    height, width = (golden.height, golden.width) if golden else _DEFAULT_IMAGE_SIZE
    sizes_by_layout = {"NHWC": (images, height, width, 3), "NCHW": (images, 3, height, width)}
    dynamic_sizes = sizes_by_layout.get(spec.layout, (images,) * len(spec.shape))
    shape = [
        size if isinstance(size, int) else dynamic_size
        for size, dynamic_size in zip(spec.shape, dynamic_sizes)
    ]
    batch: npt.NDArray[Any] = random_input(shape, spec.dtype)
    return batch
