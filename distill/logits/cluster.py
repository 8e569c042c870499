"""The same answers from many machines: Ray hands out batches, and does again what a lost worker had (extra "ray").

Every machine must see the pictures and the teachers at the same paths. Only this process writes to the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch

from tinyvit.bench.ray import RETRIES, connected, handed_out
from tinyvit.distill.logits.save import Answers, Asked, opened
from tinyvit.distill.logits.save import answers as answer_here
from tinyvit.distill.logits.store import Header, Store, require


def answers(asked: Asked, header: Header, epoch: int, todo: list[tuple[int, int]]) -> Iterator[Answers]:
    """What `save.answers` gives. Raises RequestError for a cluster that is not there or that lost too many workers."""
    with connected(asked.ray or "") as ray:
        gpus = 1 if torch.cuda.is_available() else 0
        task: Callable[..., Any] = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(batch).remote
        tasks = (task(asked, header, epoch, span) for span in todo)
        yield from handed_out(ray, tasks)


def batch(asked: Asked, header: Header, epoch: int, span: tuple[int, int]) -> Answers:
    """One batch, in a worker."""
    pictures, teachers = _opened(asked, header)
    (answer,) = answer_here(header, pictures, teachers, epoch, [span])
    return answer


@lru_cache(maxsize=1)
def _opened(asked: Asked, header: Header) -> Any:
    """Pictures and teachers, which stay open for a worker's next batch. Raises RequestError where this machine has other pictures, or
    makes other pixels of them."""
    pictures, teachers = opened(asked)
    require(Store(asked.output, header), pictures)
    return pictures, teachers
