"""Divides a batch into parts that fit into memory."""

from __future__ import annotations

from tinyvit.distill.training.distributed import ProcessGroup
from tinyvit.distill.training.task import TrainingTask
from tinyvit.errors import RequestError
from tinyvit.progress import Progress
from tinyvit.text.plurals import format_count


def count_steps_per_epoch(sample_count: int, batch: int, process_count: int) -> int:
    """Return the number of complete batches in an epoch.

    Args:
        sample_count: Number of samples in an epoch.
        batch: Images per step, in all processes together.
        process_count: Number of processes that train together.

    Raises:
        RequestError: The batch cannot be divided among the processes, or is larger than the number
            of samples.
    """
    if batch % process_count:
        raise RequestError(
            f"--batch {batch} cannot be divided among {process_count} processes",
            f"use a multiple of {process_count}",
        )
    if sample_count < batch:
        raise RequestError(
            f"an epoch of {format_count(sample_count, 'view')} cannot fill a batch of {batch}",
            f"use --batch {sample_count} or less",
        )
    return sample_count // batch


class BatchDivider:
    """Divides the images that a process uses in a step into parts.

    Attributes:
        image_count: Number of images per step in this process.
    """

    def __init__(
        self, task: TrainingTask, processes: ProcessGroup, images_in_memory: int | None
    ) -> None:
        """Prepare the division.

        Args:
            task: The inputs and outputs of the run.
            processes: The position of this process among those that train together.
            images_in_memory: Number of images that fit into memory; None if the settings state the
                number of parts.

        Raises:
            RequestError: The settings state more parts than there are images.
        """
        self.image_count = task.config.batch // processes.count
        self._processes = processes
        self._images_in_memory = images_in_memory
        self._is_mixed = task.data.batch_mixing is not None
        accumulation = task.config.accumulation
        self._requested_accumulation = 1 if accumulation == "auto" else accumulation
        self.divide(self._requested_accumulation)

    def choose_accumulation(self, progress: Progress) -> int:
        """Return the number of parts, which is the same in all processes.

        Args:
            progress: Receives a message if memory is the reason for several parts.
        """
        if self._images_in_memory is None:
            return self._requested_accumulation
        parts = count_parts(self.image_count, self._images_in_memory, self._is_mixed)
        parts = self._processes.find_maximum(parts)
        if parts > 1:
            progress.message(
                f"{format_count(self.image_count, 'image')} per step and process do not fit into "
                f"memory (about {self._images_in_memory} do), so a step adds the gradients of "
                f"{parts} parts"
            )
        return parts

    def divide(self, accumulation: int) -> list[int]:
        """Return the sizes of the parts, in order.

        Args:
            accumulation: Number of parts.

        Raises:
            RequestError: There are not enough images for so many parts.
        """
        return divide_batch(self.image_count, accumulation, self._is_mixed)


def divide_batch(image_count: int, accumulation: int, is_mixed: bool) -> list[int]:
    """Divide the images that a process uses in a step into parts of about the same size.

    Args:
        image_count: Number of images.
        accumulation: Number of parts.
        is_mixed: Whether neighboring images are mixed, so that all parts have even sizes, except
            for the last one if `image_count` is odd.

    Returns:
        The sizes of the parts, in order.

    Raises:
        RequestError: There are not enough images for so many parts.
    """
    unit = 2 if is_mixed else 1
    unit_count = max(image_count // unit, 1)
    if accumulation > unit_count:
        raise RequestError(
            f"a batch of {format_count(image_count, 'image')} per process cannot be divided into "
            f"{accumulation} parts",
            f"use --accumulation with a number from 1 to {unit_count}",
        )
    units, extra = divmod(unit_count, accumulation)
    sizes = [unit * (units + (part < extra)) for part in range(accumulation)]
    sizes[-1] += image_count - sum(sizes)
    return sizes


def count_parts(image_count: int, images_in_memory: int, is_mixed: bool) -> int:
    """Return the smallest number of parts of a batch that fit into memory.

    Args:
        image_count: Number of images that a process uses in a step.
        images_in_memory: Number of images that fit into memory.
        is_mixed: Whether neighboring images are mixed, see `divide_batch`.
    """
    unit = 2 if is_mixed else 1
    unit_count = max(image_count // unit, 1)
    units_in_memory = max(images_in_memory // unit, 1)
    return -(-unit_count // units_in_memory)
