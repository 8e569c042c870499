"""Computes teacher predictions on several machines with Ray (needs the extra "ray").

Ray distributes the batches to worker processes, and repeats a batch whose worker was lost. Every
machine must have the images and the teachers at the same paths. Only the process that calls
`compute_predictions_on_cluster` writes to the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch

from tinyvit.bench.ray_cluster import (
    MAX_RETRIES,
    connect_cluster,
    enter_folder,
    find_current_folder,
    run_on_cluster,
)
from tinyvit.distill.logits.header import StoreHeader
from tinyvit.distill.logits.records import TeacherPredictions
from tinyvit.distill.logits.store import require_matching_images
from tinyvit.distill.logits.teacher_predictions import (
    ImagesAndTeachers,
    LogitsRequest,
    compute_predictions,
    open_images_and_teachers,
)


def compute_predictions_on_cluster(
    request: LogitsRequest, header: StoreHeader, epoch: int, record_ranges: Sequence[range]
) -> Iterator[TeacherPredictions]:
    """Compute what `teacher_predictions.compute_predictions` computes, but on a Ray cluster.

    Args:
        request: The request, with the address of the cluster.
        header: Header of the store that the predictions are for.
        epoch: Epoch, from 0.
        record_ranges: The batches to compute, each as the positions of its records in the epoch.

    Yields:
        The predictions for each batch, in order.

    Raises:
        RequestError: The cluster does not answer, or too many workers failed.
    """
    with connect_cluster(request.ray_address or "") as ray:
        # If this machine has a GPU, the other machines are expected to have GPUs too.
        gpus = 1 if torch.cuda.is_available() else 0
        make_remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=MAX_RETRIES)
        submit_batch: Callable[..., Any] = make_remote(compute_batch_in_worker).remote
        folder = find_current_folder()
        tasks = (submit_batch(request, header, epoch, batch, folder) for batch in record_ranges)
        yield from run_on_cluster(ray, tasks)


def compute_batch_in_worker(
    request: LogitsRequest, header: StoreHeader, epoch: int, record_range: range, folder: str
) -> TeacherPredictions:
    """Compute the predictions for one batch. Ray calls this function in a worker process.

    Args:
        request: The request.
        header: Header of the store that the predictions are for.
        epoch: Epoch, from 0.
        record_range: Positions of the records of the batch in the epoch.
        folder: The folder to which relative paths refer.

    Raises:
        TinyViTError: The images or a teacher cannot be used on the machine of this worker, or the
            images or their augmented pixels differ from those of the store.
    """
    enter_folder(folder)
    inputs = _open_worker_inputs(request, header)
    (predictions,) = compute_predictions(header, inputs, epoch, [record_range])
    return predictions


@lru_cache(maxsize=1)
def _open_worker_inputs(request: LogitsRequest, header: StoreHeader) -> ImagesAndTeachers:
    """Open the images and teachers. The cache keeps them for the next batches of this worker."""
    inputs = open_images_and_teachers(request)
    require_matching_images(header, request.output, inputs.images)
    return inputs
