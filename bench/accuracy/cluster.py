"""Classifies images on a Ray cluster. Ray is installed by the extra "ray".

The images are divided into shards of `SHARD_IMAGES` consecutive images, and each task of the
cluster classifies one shard. Every machine of the cluster must have the artifact and the images at
the same paths. If a worker process is lost, Ray repeats its task in another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from tinyvit.bench.accuracy.hub import open_labeled_images
from tinyvit.bench.accuracy.options import EvaluationOptions, open_classifier
from tinyvit.bench.accuracy.predictions import ImagePrediction, predict_samples
from tinyvit.bench.ray_cluster import (
    MAX_RETRIES,
    connect_cluster,
    enter_folder,
    find_current_folder,
    run_on_cluster,
)
from tinyvit.data.dataset import Dataset, DatasetLocation, Sample
from tinyvit.data.dataset_matching import match_dataset
from tinyvit.runtimes.classifier import Classifier

SHARD_IMAGES = 128
"""Number of images in a shard."""


def predict_on_cluster(
    path: str, dataset: Dataset, options: EvaluationOptions, start: int, end: int
) -> Iterator[ImagePrediction]:
    """Classify images as `predict_samples` does, but on the cluster at `options.ray_address`.

    Args:
        path: Path of the artifact.
        dataset: The labeled images. `dataset.location` must not be None, because each worker opens
            the dataset again.
        options: How to evaluate.
        start: Index of the first image to classify, among the samples that `match_dataset` keeps
            for the labels of this artifact.
        end: Index after the last image to classify.

    Yields:
        One prediction per image, in order.

    Raises:
        RequestError: No cluster answers, or a shard fails even after all retries.
    """
    location = dataset.location
    assert location is not None
    # A worker classifies in its own process, and only this process writes the journal.
    worker_options = replace(options, journal_path=None, ray_address=None)
    with connect_cluster(options.ray_address or "") as ray:
        make_remote = ray.remote(
            num_cpus=(options.threads or 1) * options.streams, max_retries=MAX_RETRIES
        )
        remote_predict_shard = make_remote(predict_shard)
        shards = (
            range(shard_start, min(shard_start + SHARD_IMAGES, end))
            for shard_start in range(start, end, SHARD_IMAGES)
        )
        folder = find_current_folder()
        tasks = (
            remote_predict_shard.remote(path, location, worker_options, shard, folder)
            for shard in shards
        )
        for predictions in run_on_cluster(ray, tasks):
            yield from predictions


def predict_shard(
    path: str, location: DatasetLocation, options: EvaluationOptions, shard: range, folder: str
) -> list[ImagePrediction]:
    """Classify one shard of the images, in a worker process.

    Args:
        path: Path of the artifact.
        location: Location of the labeled images.
        options: How to evaluate.
        shard: Indices of the shard's images, among the samples that `match_dataset` keeps.
        folder: The folder to which relative paths refer.

    Returns:
        One prediction per image of the shard, in order.
    """
    enter_folder(folder)
    classifier, samples = _open_worker(path, location, options)
    return list(predict_samples(classifier, samples[shard.start : shard.stop]))


@lru_cache(maxsize=1)
def _open_worker(
    path: str, location: DatasetLocation, options: EvaluationOptions
) -> tuple[Classifier, Sequence[Sample]]:
    """Open the artifact and list the images; the worker reuses both for its next shards."""
    classifier = open_classifier(path, options)
    dataset = open_labeled_images(location)
    return classifier, match_dataset(dataset, classifier.labels, options.only_known_classes).samples
