"""Computing teacher outputs on many machines with Ray (extra "ray").

Ray hands out batches and repeats those of lost workers. Every machine must see the images and the
teachers at the same paths. Only the calling process writes to the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch

from tinyvit.bench.ray_cluster import MAX_RETRIES, connect_cluster, run_on_cluster
from tinyvit.distill.logits.header import StoreHeader
from tinyvit.distill.logits.records import TeacherOutputs
from tinyvit.distill.logits.store import Store, require_matching_images
from tinyvit.distill.logits.teacher_outputs import (
    LogitsRequest,
    OpenSources,
    Span,
    compute_outputs,
    open_sources,
)


def compute_outputs_on_cluster(
    request: LogitsRequest, header: StoreHeader, epoch: int, spans: Sequence[Span]
) -> Iterator[TeacherOutputs]:
    """Compute the same outputs as `teacher_outputs.compute_outputs`, on a Ray cluster.

    Args:
        request: The request, with the address of the cluster.
        header: Header of the store that the outputs are for.
        epoch: Epoch, from 0.
        spans: The batches to compute.

    Yields:
        The outputs of each batch, in order.

    Raises:
        RequestError: The cluster does not answer, or lost too many workers.
    """
    with connect_cluster(request.ray or "") as ray:
        gpus = 1 if torch.cuda.is_available() else 0
        options = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=MAX_RETRIES)
        task: Callable[..., Any] = options(compute_batch_in_worker).remote
        tasks = (task(request, header, epoch, span) for span in spans)
        yield from run_on_cluster(ray, tasks)


def compute_batch_in_worker(
    request: LogitsRequest, header: StoreHeader, epoch: int, span: Span
) -> TeacherOutputs:
    """Compute one batch in a worker process.

    Args:
        request: The request.
        header: Header of the store that the outputs are for.
        epoch: Epoch, from 0.
        span: The batch to compute.

    Raises:
        RequestError: This machine has other images, or makes other pixels from them.
    """
    (outputs,) = compute_outputs(header, _open_worker_sources(request, header), epoch, [span])
    return outputs


@lru_cache(maxsize=1)
def _open_worker_sources(request: LogitsRequest, header: StoreHeader) -> OpenSources:
    """Open images and teachers once; they stay open for the worker's next batch."""
    sources = open_sources(request)
    require_matching_images(Store(request.output, header), sources.images)
    return sources
