"""Predictions from a Ray cluster, whose workers each classify shards of the images (extra "ray").

Every machine of the cluster must have the artifact and the images at the same paths. Ray repeats
the shards of a lost worker on another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from tinyvit.bench.accuracy.hub import open_labeled_images
from tinyvit.bench.accuracy.options import EvaluationOptions, open_classifier
from tinyvit.bench.accuracy.predictions import ImagePrediction, predict_samples
from tinyvit.bench.ray_cluster import RETRIES, connect_cluster, run_on_cluster
from tinyvit.data.dataset import Dataset, DatasetLocation, Sample, match_dataset
from tinyvit.runtimes.classifier import Classifier

SHARD_IMAGES = 128


def predict_on_cluster(
    path: str, dataset: Dataset, options: EvaluationOptions, start: int, end: int
) -> Iterator[ImagePrediction]:
    """Classify images as `predict_samples` does, on the cluster that the options name.

    Args:
        path: Path of the artifact.
        dataset: The labeled images, which must have a location.
        options: How to evaluate.
        start: Index of the first image to classify, among those whose classes the model has.
        end: Index after the last image to classify.

    Yields:
        One prediction per image, in order.

    Raises:
        RequestError: The cluster does not exist, or lost too many workers.
    """
    location = dataset.location
    assert location is not None
    worker_options = replace(options, journal=None, ray_address=None)
    with connect_cluster(options.ray_address or "") as ray:
        task = ray.remote(num_cpus=options.threads or 1, max_retries=RETRIES)(predict_shard)
        shards = range(start, end, SHARD_IMAGES)
        tasks = (
            task.remote(path, location, worker_options, first, min(first + SHARD_IMAGES, end))
            for first in shards
        )
        for predictions in run_on_cluster(ray, tasks):
            yield from predictions


def predict_shard(
    path: str, location: DatasetLocation, options: EvaluationOptions, start: int, end: int
) -> list[ImagePrediction]:
    """Classify one shard of the images, in a worker.

    Args:
        path: Path of the artifact.
        location: Where the labeled images are.
        options: How to evaluate.
        start: Index of the shard's first image, among those whose classes the model has.
        end: Index after the shard's last image.

    Returns:
        One prediction per image of the shard, in order.
    """
    classifier, samples = _open_worker(path, location, options)
    return list(predict_samples(classifier, samples[start:end]))


@lru_cache(maxsize=1)
def _open_worker(
    path: str, location: DatasetLocation, options: EvaluationOptions
) -> tuple[Classifier, Sequence[Sample]]:
    """Open the artifact and list its images, and keep both for the next shard of a worker."""
    classifier = open_classifier(path, options)
    dataset = open_labeled_images(location)
    return classifier, match_dataset(dataset, classifier.labels, options.only_known).samples
