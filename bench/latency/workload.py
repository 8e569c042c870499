"""A file that is open in an engine, and the queries it can be asked: one run or more over a number of pictures."""

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
from tinyvit.errors import RequestError
from tinyvit.images import list_images, open_image
from tinyvit.runtimes.artifact import Artifact, open_artifact
from tinyvit.runtimes.base import Runtime, RuntimeOptions
from tinyvit.runtimes.classifier import top_predictions
from tinyvit.runtimes.model_io import resolve_model_io
from tinyvit.runtimes.registry import engines_for_format, is_reference, open_runtime

STAGES = ("decode", "resize", "network", "top-k")
"""Of the way from a picture's bytes to its classes. "resize" is all that the file leaves to its caller: resize, crop, normalize."""
_WHOLE = (256, 320)
"""Height and width of the picture for a file that resizes by itself, where its golden inputs do not say."""


@dataclass(frozen=True)
class OpenWorkload:
    """given: the path as it was typed. engine: its name. batch: pictures a run takes, None for any number. load_ms: it took to open."""

    given: str
    engine: str
    artifact: Artifact
    runtime: Runtime
    batch: int | None
    load_ms: float

    def __enter__(self) -> OpenWorkload:
        return self

    def __exit__(self, *_: object) -> None:
        self.runtime.close()


def open_workload(given: str, engine: str | None, options: RuntimeOptions) -> OpenWorkload:
    """Raises what `open_runtime` raises, and RequestError for an engine whose time means nothing."""
    if engine and is_reference(engine):
        cause = f"{engine} proves what {given} computes, and its time says nothing of a device"
        raise RequestError(cause, "measure on the device, with its own engine")
    artifact = open_artifact(given)
    name = engine or engines_for_format(artifact.format)[0]
    begun = time.perf_counter()
    runtime = open_runtime(artifact, name, options)
    load_ms = (time.perf_counter() - begun) * 1e3
    first = runtime.inputs[0].shape[0] if runtime.inputs and runtime.inputs[0].shape else None
    return OpenWorkload(
        given, name, artifact, runtime, first if isinstance(first, int) else None, load_ms
    )


def pictures_per_query(opened: OpenWorkload, wanted: int | None, default: int) -> int:
    """`wanted`, or as near to `default` as the file's fixed batch lets it. Raises RequestError where `wanted` is no multiple of that."""
    if opened.batch is None:
        return wanted or default
    if wanted and wanted % opened.batch:
        cause = (
            f"{opened.given} takes {opened.batch} pictures a run, and {wanted} is no multiple of it"
        )
        raise RequestError(
            cause,
            f"give --batch {opened.batch}, or export it with --batch {wanted} or --dynamic-batch",
        )
    return wanted or max(default // opened.batch, 1) * opened.batch


def network_query(opened: OpenWorkload, pictures: int) -> Callable[[], object]:
    """The network alone, on `pictures` of noise: one run, or as many as a fixed batch takes."""
    x = _input(opened, opened.batch or pictures)
    runs = pictures // len(x)
    run = opened.runtime.run
    return (lambda: run(x)) if runs == 1 else lambda: [run(x) for _ in range(runs)]


def _input(opened: OpenWorkload, pictures: int) -> npt.NDArray[Any]:
    given = opened.runtime.inputs[0]
    golden = opened.artifact.manifest.golden if opened.artifact.manifest else None
    height, width = (golden.height, golden.width) if golden else _WHOLE
    free = {"NHWC": (pictures, height, width, 3), "NCHW": (pictures, 3, height, width)}.get(
        given.layout, (pictures,) * len(given.shape)
    )
    shape = [size if isinstance(size, int) else instead for size, instead in zip(given.shape, free)]
    made: npt.NDArray[Any] = random_input(shape, given.dtype)
    return made


class EndToEnd:
    """Queries from pictures' bytes, as they lie in files, to their best five classes; each stage is timed.

    The pictures are read into memory before, so that no disk is timed, and taken in turn. stages_ms: each query's milliseconds in
    each of STAGES, in that order.
    """

    def __init__(self, opened: OpenWorkload, images: tuple[bytes, ...], pictures: int) -> None:
        self.stages_ms: list[tuple[float, ...]] = []
        self._opened, self._contract = (
            opened,
            resolve_model_io(opened.artifact, opened.runtime, None, None),
        )
        self._group = self._contract.batch or pictures
        self._pictures, self._images = pictures, cycle(images)

    def __call__(self) -> None:
        """One query."""
        marks = [time.perf_counter()]
        images = [open_image(data) for data in islice(self._images, self._pictures)]
        marks.append(time.perf_counter())
        inputs = [self._contract.input_of(image) for image in images]
        marks.append(time.perf_counter())
        groups = [np.stack(inputs[i : i + self._group]) for i in range(0, len(inputs), self._group)]
        logits = [row for group in groups for row in self._opened.runtime.run(group)]
        marks.append(time.perf_counter())
        for row in logits:
            top_predictions(row, self._contract.labels, 5)
        marks.append(time.perf_counter())
        self.stages_ms.append(tuple((after - before) * 1e3 for before, after in pairwise(marks)))


def read_images(path: Path, most: int = 64) -> tuple[bytes, ...]:
    """The bytes of a picture, or of up to `most` of a folder's; raises ImageError where there are none."""
    files = list_images(path)[:most] if path.is_dir() else [path]
    for file in files:
        open_image(file)
    return tuple(file.read_bytes() for file in files)
