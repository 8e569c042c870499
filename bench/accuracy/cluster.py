"""The same answers from many machines: Ray hands out shards of the pictures, and does again what a lost worker had (extra "ray").

Every machine must see the file and the pictures at the same paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from tinyvit.bench.accuracy.datasets import Dataset, Place, open_dataset
from tinyvit.bench.accuracy.datasets.matching import matched
from tinyvit.bench.accuracy.options import EvaluationOptions, open_classifier
from tinyvit.bench.accuracy.predictions import ImagePrediction
from tinyvit.bench.accuracy.predictions import predict_samples as answer_here
from tinyvit.bench.ray_cluster import RETRIES, connect_cluster, run_on_cluster

SHARD = 128
"""Pictures in a task."""


def predict_samples(
    given: str, dataset: Dataset, asked: EvaluationOptions, start: int, end: int
) -> Iterator[ImagePrediction]:
    """What `answers.answers` gives for the dataset's matched pictures from `start` to before `end`, in the same order. Raises RequestError
    for a cluster that is not there or that lost too many workers."""
    assert dataset.place is not None
    with connect_cluster(asked.ray or "") as ray:
        yield from _gathered(
            ray,
            given,
            dataset.place,
            replace(asked, journal=None, meter=None, ray=None),
            start,
            end,
        )


def _gathered(
    ray: Any, given: str, place: Place, asked: EvaluationOptions, start: int, end: int
) -> Iterator[ImagePrediction]:
    task: Callable[..., Any] = ray.remote(num_cpus=asked.threads or 1, max_retries=RETRIES)(
        shard
    ).remote
    tasks = (
        task(given, place, asked, first, min(first + SHARD, end))
        for first in range(start, end, SHARD)
    )
    for found in run_on_cluster(ray, tasks):
        yield from found


def shard(
    given: str, place: Place, asked: EvaluationOptions, start: int, end: int
) -> list[ImagePrediction]:
    """The answers to the matched pictures from `start` to before `end`, in a worker."""
    classifier, samples = _opened(given, place, asked)
    return list(answer_here(classifier, samples[start:end]))


@lru_cache(maxsize=1)
def _opened(given: str, place: Place, asked: EvaluationOptions) -> Any:
    """The file and its pictures stay open for a worker's next shard."""
    classifier = open_classifier(given, asked)
    return classifier, matched(open_dataset(place), classifier.labels, asked.only_known)[0]
