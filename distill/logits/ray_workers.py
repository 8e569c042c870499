"""Computes teacher outputs on several machines with Ray (needs the extra "ray").

Ray distributes the batches, and repeats the batches of workers that failed. Every machine must have
the images and the teachers at the same paths. Only the calling process writes to the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch

from tinyvit.bench.ray_cluster import MAX_RETRIES, connect_cluster, run_on_cluster
from tinyvit.distill.logits.header import StoreHeader
from tinyvit.distill.logits.records import TeacherPredictions
from tinyvit.distill.logits.store import Store, require_matching_images
from tinyvit.distill.logits.teacher_predictions import (
    ImagesAndTeachers,
    LogitsRequest,
    Span,
    compute_predictions,
    open_images_and_teachers,
)


def compute_predictions_on_cluster(
    request: LogitsRequest, header: StoreHeader, epoch: int, spans: Sequence[Span]
) -> Iterator[TeacherPredictions]:
    """Compute the teachers' outputs for batches of an epoch on a Ray cluster.

    The outputs are those of `teacher_predictions.compute_predictions`.

    Args:
        request: The request, with the address of the cluster.
        header: Header of the store that the outputs are for.
        epoch: Epoch, from 0.
        spans: The batches to compute, as record positions (start, end).

    Yields:
        The outputs of each batch, in order.

    Raises:
        RequestError: The cluster does not answer, or too many workers failed.
    """
    with connect_cluster(request.ray or "") as ray:
        gpus = 1 if torch.cuda.is_available() else 0
        options = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=MAX_RETRIES)
        task: Callable[..., Any] = options(compute_batch_in_worker).remote
        tasks = (task(request, header, epoch, span) for span in spans)
        yield from run_on_cluster(ray, tasks)


def compute_batch_in_worker(
    request: LogitsRequest, header: StoreHeader, epoch: int, span: Span
) -> TeacherPredictions:
    """Compute one batch in a worker process.

    Args:
        request: The request.
        header: Header of the store that the outputs are for.
        epoch: Epoch, from 0.
        span: The batch to compute, as record positions (start, end).

    Raises:
        RequestError: This machine has other images, or its augmentation gives other pixels.
    """
    (outputs,) = compute_predictions(header, _open_worker_inputs(request, header), epoch, [span])
    return outputs


@lru_cache(maxsize=1)
def _open_worker_inputs(request: LogitsRequest, header: StoreHeader) -> ImagesAndTeachers:
    """Open the images and teachers; the cache keeps them for the next batch of the worker."""
    inputs = open_images_and_teachers(request)
    require_matching_images(Store(request.output, header), inputs.images)
    return inputs
