"""The same answers from many machines: Ray hands out batches, and does again what a lost worker had (extra "ray").

Every machine must see the pictures and the teachers at the same paths. Only this process writes to the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch

from tinyvit.bench.ray_cluster import RETRIES, connect_cluster, run_on_cluster
from tinyvit.distill.logits.save import LogitsRequest, TeacherOutputs, opened
from tinyvit.distill.logits.save import answers as answer_here
from tinyvit.distill.logits.store import Store, StoreHeader, require_matching_images


def answers(
    asked: LogitsRequest, header: StoreHeader, epoch: int, todo: list[tuple[int, int]]
) -> Iterator[TeacherOutputs]:
    """What `save.answers` gives. Raises RequestError for a cluster that is not there or that lost too many workers."""
    with connect_cluster(asked.ray or "") as ray:
        gpus = 1 if torch.cuda.is_available() else 0
        task: Callable[..., Any] = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(
            batch
        ).remote
        tasks = (task(asked, header, epoch, span) for span in todo)
        yield from run_on_cluster(ray, tasks)


def batch(
    asked: LogitsRequest, header: StoreHeader, epoch: int, span: tuple[int, int]
) -> TeacherOutputs:
    """One batch, in a worker."""
    pictures, teachers = _opened(asked, header)
    (answer,) = answer_here(header, pictures, teachers, epoch, [span])
    return answer


@lru_cache(maxsize=1)
def _opened(asked: LogitsRequest, header: StoreHeader) -> Any:
    """Pictures and teachers, which stay open for a worker's next batch. Raises RequestError where this machine has other pictures, or
    makes other pixels of them."""
    pictures, teachers = opened(asked)
    require_matching_images(Store(asked.output, header), pictures)
    return pictures, teachers
