"""Checks whether an artifact's preprocessing is the one with which the model was trained.

Wrong preprocessing is the most common reason for an accuracy below the published one. The check
measures the accuracy on the same images with the artifact's own preprocessing and with candidates,
each of which differs in one way: red and blue exchanged, another mean and standard deviation,
another crop, or another interpolation. The conclusion names a candidate if its accuracy is
significantly better.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import get_args

import numpy as np

from tinyvit.bench.accuracy.evaluate import Evaluation, make_evaluation
from tinyvit.bench.accuracy.options import EvaluationOptions, open_classifier
from tinyvit.bench.accuracy.predictions import predict_samples
from tinyvit.bench.accuracy.results import make_accuracy_result
from tinyvit.bench.record import AccuracyResult
from tinyvit.data.dataset import Dataset, Sample
from tinyvit.data.dataset_matching import MatchedDataset, match_dataset
from tinyvit.errors import ImageError
from tinyvit.images.decoding import ChannelOrder, ImageSource, open_image
from tinyvit.manifest_parts import EmbeddedPreprocessing
from tinyvit.preprocess import IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocess, divide_size
from tinyvit.progress import NullProgress, Progress
from tinyvit.runtimes.classifier import Classifier

DEFAULT_IMAGES = 500
"""Number of images if --limit is not given. To reveal a wrong mean or channel order, far fewer
would be enough."""
_SIGNIFICANCE = 0.01
"""Significance level of McNemar's test. Each p-value is multiplied by the number of candidates
(Bonferroni correction), because one of many tests is easily significant by chance."""
_CROP_FRACTIONS = (0.875, 0.95, 1.0)
"""Center crops to try, as fractions of the image's shorter side (crop_pct in timm)."""
_ZEROS, _HALVES, _ONES = (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)
"""Means and standard deviations to try, one number per channel."""


@dataclass(frozen=True)
class PreprocessCandidate:
    """Preprocessing with which an artifact is evaluated: its own, or one that differs from its own.

    Attributes:
        name: Description of the difference from the artifact's own preprocessing.
        preprocess: The preprocessing.
        channels: Order of the color channels in which the images are read; "bgr" exchanges red and
            blue.
    """

    name: str
    preprocess: Preprocess
    channels: ChannelOrder = "rgb"


@dataclass(frozen=True)
class PreprocessCheck:
    """The outcome of a check.

    Attributes:
        results: The result of the artifact's own preprocessing, then those of the candidates, which
            are compared with it. Each result has the name of its candidate in `preprocess`.
        conclusion: A sentence that states whether the artifact's own preprocessing looks wrong.
    """

    results: tuple[AccuracyResult, ...]
    conclusion: str


def list_candidates(
    own: Preprocess, embedded_preprocessing: EmbeddedPreprocessing
) -> list[PreprocessCandidate]:
    """List the preprocessing to try.

    Only the part of the preprocessing that is outside the artifact's graph can be varied.

    Args:
        own: The artifact's own preprocessing. It is not in the result.
        embedded_preprocessing: Part of the preprocessing inside the graph. With "full" only the
            channel order can be varied; with "normalize" the mean and standard deviation cannot;
            with "host" all can.
    """
    candidates = [PreprocessCandidate("red and blue exchanged", own, channels="bgr")]
    if embedded_preprocessing == "full":
        return candidates
    preprocess_by_name: dict[str, Preprocess] = {}
    for fraction in _CROP_FRACTIONS:
        name = f"the middle {fraction:.1%} of the shorter side"
        resize = divide_size(own.size, fraction)
        preprocess_by_name[name] = replace(own, resize=resize, crop="center")
    squashed = replace(own, resize=own.size, crop="squash")
    preprocess_by_name["squashed, not cropped"] = squashed
    for interpolation in get_args(Interpolation):
        name = f"{interpolation} interpolation"
        preprocess_by_name[name] = replace(own, interpolation=interpolation)
    if embedded_preprocessing == "host":
        preprocess_by_name |= {
            "ImageNet's mean and std": replace(own, mean=IMAGENET_MEAN, std=IMAGENET_STD),
            "mean and std 0.5": replace(own, mean=_HALVES, std=_HALVES),
            "values from 0 to 1 without mean and std": replace(own, mean=_ZEROS, std=_ONES),
        }
    candidates += [
        PreprocessCandidate(name, preprocess)
        for name, preprocess in preprocess_by_name.items()
        if preprocess != own
    ]
    return candidates


def check_preprocess(
    path: str, dataset: Dataset, options: EvaluationOptions, progress: Progress | None = None
) -> PreprocessCheck:
    """Evaluate an artifact with its own preprocessing and with each candidate.

    Args:
        path: Path of the artifact.
        dataset: The labeled images.
        options: How to evaluate; `journal_path` and `ray_address` are ignored.
        progress: Receives the number of candidates that were tried; None to report nothing.

    Returns:
        The results of the artifact's own preprocessing and of each candidate, and the conclusion.

    Raises:
        TinyViTError: The artifact or the data cannot be used.
    """
    progress = progress or NullProgress()
    with open_classifier(path, options) as classifier:
        embedded_preprocessing = classifier.describe().embedded_preprocessing
        matched = match_dataset(dataset, classifier.labels, options.only_known_classes)
        own = PreprocessCandidate("its own preprocessing", classifier.preprocess)
        own_evaluation = _evaluate_candidate(classifier, own, path, matched)
    results = [replace(make_accuracy_result(own_evaluation), preprocess=own.name)]
    candidates = list_candidates(own.preprocess, embedded_preprocessing)
    # The artifact's own preprocessing counts as the first one that was tried.
    for done_count, candidate in enumerate(candidates, start=1):
        progress.advance("trying kinds of preprocessing", done_count, len(candidates) + 1)
        # An artifact whose graph contains all preprocessing refuses any other.
        with Classifier(
            path,
            options.engine_name,
            options.device,
            options.threads,
            preprocess=candidate.preprocess if embedded_preprocessing != "full" else None,
        ) as classifier:
            evaluation = _evaluate_candidate(classifier, candidate, path, matched)
        result = make_accuracy_result(evaluation, reference=own_evaluation)
        results.append(replace(result, preprocess=candidate.name))
    progress.advance("trying kinds of preprocessing", len(results), len(results))
    return PreprocessCheck(tuple(results), draw_conclusion(results))


def draw_conclusion(results: Sequence[AccuracyResult]) -> str:
    """State in a sentence whether a candidate is better than the artifact's own preprocessing.

    Args:
        results: The result of the artifact's own preprocessing, then those of the candidates, which
            are compared with it.
    """
    own, *candidate_results = results
    count = len(candidate_results)
    better_results = [result for result in candidate_results if _is_better(result, count)]
    if not better_results:
        return (
            f"none of {count} other kinds of preprocessing is significantly better than the"
            f" artifact's own ({own.top1:.1f}% of {own.classified_count} images are correct)"
        )
    best = max(better_results, key=lambda result: result.top1)
    assert best.reference is not None
    return (
        f"the preprocessing looks wrong: with {best.preprocess}, {best.top1:.1f}% of"
        f" {best.classified_count} images are correct, but {own.top1:.1f}% with the artifact's own"
        f" ({best.reference.better} images became correct, {best.reference.worse} wrong,"
        f" p = {best.reference.p_value:.1g})"
    )


def _is_better(result: AccuracyResult, candidate_count: int) -> bool:
    """Return whether a candidate is significantly better than the artifact's own preprocessing."""
    comparison = result.reference
    return (
        comparison is not None
        and comparison.better > comparison.worse
        and comparison.p_value * candidate_count < _SIGNIFICANCE
    )


def _evaluate_candidate(
    classifier: Classifier, candidate: PreprocessCandidate, path: str, matched: MatchedDataset
) -> Evaluation:
    """Classify all images with a classifier that was opened with a candidate's preprocessing."""
    samples: Sequence[Sample] = matched.samples
    if candidate.channels != "rgb":
        samples = [replace(sample, get_source=partial(_read_array, sample)) for sample in samples]
    start_s = time.perf_counter()
    predictions = list(predict_samples(classifier, samples, candidate.channels))
    return make_evaluation(path, classifier, matched, predictions, time.perf_counter() - start_s)


def _read_array(sample: Sample) -> ImageSource:
    """Decode an image to an array, because only arrays have a selectable channel order.

    The EXIF orientation is ignored, as `predict_samples` does for every other candidate. If the
    image cannot be decoded, its source is returned, and the classifier reports the error.
    """
    source = sample.get_source()
    with suppress(ImageError):
        return np.asarray(open_image(source, exif=False))
    return source
