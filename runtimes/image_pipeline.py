"""Computes the outputs for many images: decodes the next images while the engine runs.

A few threads decode and resize the images. With several streams, several batches are computed at
the same time. The number of images that wait in memory is limited.
Results are in the order of the images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from tinyvit.data.batching import Outputs, run_outputs_in_batches
from tinyvit.data.decoding import choose_decoding_threads, map_ahead
from tinyvit.errors import ImageError
from tinyvit.images.decoding import ChannelOrder, ImageSource
from tinyvit.runtimes.base import Runtime
from tinyvit.runtimes.image_arguments import copy_if_mutable
from tinyvit.runtimes.image_input import ImageInput, Pixels

_DEFAULT_BATCH_SIZE = 8
"""Number of images in one run of a network that accepts batches of any size."""


class ImagePipeline:
    """Decodes and prepares images, and runs an opened artifact on them in batches.

    Attributes:
        batch_size: Number of images in one run of the network. If the network accepts any batch
            size, the last run may have fewer.
        decoding_threads: Threads that decode and resize images.
    """

    def __init__(self, runtime: Runtime, image_input: ImageInput, streams: int) -> None:
        """Choose the batch size and the number of threads.

        Args:
            runtime: The opened artifact. The caller closes it.
            image_input: How to prepare images for the artifact.
            streams: Number of batches that the runtime can compute at the same time.
        """
        self._streams = streams
        self._runtime = runtime
        self._image_input = image_input
        self.batch_size = image_input.batch_size or _DEFAULT_BATCH_SIZE
        self.decoding_threads = choose_decoding_threads()

    def compute_outputs(
        self,
        images: Iterable[ImageSource],
        channels: ChannelOrder,
        exif: bool,
        chunk: int | None,
    ) -> Iterator[Outputs | ImageError]:
        """Compute the outputs for images, and yield them image by image.

        Args:
            images: The images; an endless iterator is allowed.
            channels: Order of the channels in arrays.
            exif: Whether to rotate images as their EXIF orientation states.
            chunk: If not None, decoding and the network take turns: this many images are decoded
                and resized, then the network runs on them (in batches of its own size). If None,
                images are decoded while the network runs.

        Yields:
            For each image, its outputs without the batch dimension, such as logits, float32
            (classes,), or an ImageError if the image cannot be read.

        Raises:
            ArtifactError: If the engine fails.
            RequestError: If `channels` is not a known order.
        """

        def prepare(image: ImageSource | ImageError) -> Pixels | ImageError:
            if isinstance(image, ImageError):
                return image
            try:
                return self._image_input.prepare_input(
                    self._image_input.decode(image, channels, exif)
                )
            except ImageError as error:
                return error

        if isinstance(images, list) and len(images) == 1:
            # The caller waits for the only image, so that a thread for it would only cost time.
            yield from self._run_batch([prepare(images[0])])
            return
        # Images wait until a thread prepares them. Meanwhile, the caller may overwrite an array or
        # close a Pillow image; `copy_if_mutable` therefore copies these before they wait.
        waiting_images = (copy_if_mutable(image, channels, exif) for image in images)
        # Without a chunk, inputs for the next batch are prepared while the network runs.
        inputs = map_ahead(
            prepare,
            waiting_images,
            threads=self.decoding_threads,
            ahead=chunk or self.batch_size * self._streams + self.decoding_threads,
            chunk=chunk or 1,
        )
        yield from self._run_batches(iter(lambda: list(islice(inputs, self.batch_size)), []))

    def _run_batches(
        self, batches: Iterable[list[Pixels | ImageError]]
    ) -> Iterator[Outputs | ImageError]:
        """Run the network on batches, as many at the same time as there are streams."""
        if self._streams == 1:
            for batch in batches:
                yield from self._run_batch(batch)
            return
        # One more batch than streams waits, so that no stream waits while the caller uses results.
        for results in map_ahead(
            lambda batch: list(self._run_batch(batch)),
            batches,
            threads=self._streams,
            ahead=self._streams + 1,
        ):
            yield from results

    def _run_batch(self, inputs: list[Pixels | ImageError]) -> Iterator[Outputs | ImageError]:
        """Run the network on the images that could be read, and yield one result for each input.

        Args:
            inputs: For each image, the network's input without the batch dimension, or the error
                of an image that cannot be read. The result of such an image is the same error.
        """
        readable_inputs = [pixels for pixels in inputs if not isinstance(pixels, ImageError)]
        rows: Iterable[Outputs] = ()
        if readable_inputs:
            is_single = len(readable_inputs) == 1  # A single input is not copied.
            stacked = readable_inputs[0][None] if is_single else np.stack(readable_inputs)
            outputs = run_outputs_in_batches(
                self._runtime.run_outputs, stacked, self._image_input.batch_size
            )
            rows = zip(*outputs)
        remaining_rows = iter(rows)
        for pixels in inputs:
            yield pixels if isinstance(pixels, ImageError) else next(remaining_rows)
