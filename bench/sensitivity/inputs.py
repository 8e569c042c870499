"""Makes the inputs on which the sensitivity of an artifact is measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.data.batching import pad_batch
from tinyvit.data.calibration_images import list_calibration_images, order_calibration_images
from tinyvit.data.decoding import choose_decoding_threads, map_ahead
from tinyvit.data.source_getters import SourceGetter
from tinyvit.errors import ImageError, RequestError
from tinyvit.manifest import Manifest
from tinyvit.runtimes.golden_comparison import make_golden_batch
from tinyvit.runtimes.image_input import ImageInput, Pixels
from tinyvit.text.plurals import format_count

DEFAULT_IMAGES = 64
"""Number of images that are used unless another one is requested."""
MAX_IMAGES = 1024
"""Largest number of images. The inputs of all of them are kept in memory: 600 kB for each, at 224 x
224 pixels."""
_DYNAMIC_BATCH_SIZE = 8
"""Number of images in one run of an artifact that accepts batches of any size."""


@dataclass(frozen=True)
class NetworkInputs:
    """The inputs of an artifact for some images.

    Attributes:
        batches: Batches of the artifact's input, with its dtype, layout and batch size.
        image_count: Number of different images.
        source: Description of where the images come from, on one line.
        warnings: Sentences about anything that makes the images less suitable.
    """

    batches: tuple[npt.NDArray[Any], ...]
    image_count: int
    source: str
    warnings: tuple[str, ...] = ()


def read_inputs(data: Path, image_input: ImageInput, limit: int) -> NetworkInputs:
    """Read images, about equally many from each folder, in an order that is always the same.

    Which images are read depends only on their names, as for calibration with seed 0. The EXIF
    orientation is ignored, as in tinyvit-bench accuracy. If the artifact has a fixed batch size and
    the number of images is not a multiple of it, the last images are left out; if there are fewer
    images than the batch size, the last image is repeated.

    Args:
        data: A folder of images at any depth, a .txt file of paths, or an .npz file of one array,
            as for calibration.
        image_input: How to prepare images for the artifact.
        limit: Number of images, 1 to `MAX_IMAGES`.

    Raises:
        RequestError: The data cannot be used, or more than `limit` images are unreadable.
        ImageError: The folder cannot be read or has no images, or no image can be read.
    """
    listing = list_calibration_images(data)
    ordered = order_calibration_images(listing.images, seed=0)
    pixels, unreadable_count = _prepare_images(
        (image.get_source for image in ordered), image_input, limit, data
    )
    if image_input.batch_size is not None and len(pixels) > image_input.batch_size:
        del pixels[len(pixels) - len(pixels) % image_input.batch_size :]
    facts = [f"the first {len(pixels)} of {format_count(len(ordered), 'image')} in {data.name}"]
    warnings: tuple[str, ...] = ()
    if unreadable_count:
        warnings = (f"unreadable images that were left out: {unreadable_count}",)
    return NetworkInputs(
        batches=_make_batches(pixels, image_input.batch_size),
        image_count=len(pixels),
        source=", ".join([*facts, *listing.notes]),
        warnings=warnings,
    )


def _prepare_images(
    getters: Iterable[SourceGetter], image_input: ImageInput, limit: int, data: Path
) -> tuple[list[Pixels], int]:
    """Return the inputs for the first `limit` readable images, and the number of unreadable ones.

    Raises RequestError if more than `limit` images are unreadable, so that a list of a million
    missing files ends soon, and ImageError if no image can be read.
    """
    pixels: list[Pixels] = []
    errors: list[ImageError] = []
    threads = choose_decoding_threads()
    for image in map_ahead(partial(_prepare, image_input), getters, threads, ahead=2 * threads):
        if not isinstance(image, ImageError):
            pixels.append(image)
        else:
            errors.append(image)
        if len(errors) > limit:
            raise RequestError(
                f"{len(errors)} of the first {len(errors) + len(pixels)} images of {data} cannot"
                f" be read; the first error: {errors[0].cause}",
                errors[0].remedy,
            )
        if len(pixels) == limit:
            break
    if not pixels:
        raise errors[0]
    return pixels, len(errors)


def _make_batches(pixels: Sequence[Pixels], batch_size: int | None) -> tuple[npt.NDArray[Any], ...]:
    """Stack inputs in batches; the last input is repeated until a fixed batch size is reached."""
    size = batch_size or _DYNAMIC_BATCH_SIZE
    batches: list[npt.NDArray[Any]] = [
        np.stack(pixels[start : start + size]) for start in range(0, len(pixels), size)
    ]
    if batch_size is not None:
        batches[-1] = pad_batch(batches[-1], batch_size)
    return tuple(batches)


def make_golden_inputs(manifest: Manifest) -> NetworkInputs:
    """Make the golden inputs of an artifact, for a measurement without images.

    Args:
        manifest: The manifest of the artifact.

    Raises:
        RequestError: The manifest has no golden vectors.
    """
    golden = manifest.golden
    if golden is None or not golden.patterns:
        raise RequestError(
            "the artifact has no golden vectors, so that images are needed",
            "give images with --data",
        )
    count = len(golden.patterns)
    return NetworkInputs(
        batches=tuple(make_golden_batch(manifest, golden, index) for index in range(count)),
        image_count=count,
        source=f"the {count} golden test patterns of the artifact",
        warnings=(
            "the errors were measured on the golden test patterns, which are no photographs, so"
            " that they and the order of the units may differ from those on your images (--data"
            " DIR)",
        ),
    )


def _prepare(image_input: ImageInput, get_source: SourceGetter) -> Pixels | ImageError:
    """Return the network's input for one image, without the batch axis, or the error."""
    try:
        return image_input.prepare_input(image_input.decode(get_source(), exif=False))
    except ImageError as error:
        return error
