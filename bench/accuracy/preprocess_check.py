"""Is a file fed the way it was trained? The usual wrong ways are tried on the same pictures, and one that is better is named.

A wrong preprocessing is the commonest reason for an accuracy that is lower than promised: red and blue exchanged, another mean and
standard deviation, another crop, another filter.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np

from tinyvit.bench.accuracy.datasets import Dataset, Sample
from tinyvit.bench.accuracy.datasets.matching import matched
from tinyvit.bench.accuracy.evaluate import Evaluation, accuracy_result, seen
from tinyvit.bench.accuracy.options import EvaluationOptions, open_classifier
from tinyvit.bench.accuracy.predictions import predict_samples
from tinyvit.bench.record import AccuracyResult
from tinyvit.errors import ImageError
from tinyvit.images import ChannelOrder, ImageSource, open_image
from tinyvit.manifest import PreprocessStage
from tinyvit.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from tinyvit.runtimes.classifier import Classifier

PICTURES = 500
"""Enough to see a wrong mean or order of colors by far; more are not looked at, unless asked for."""
_SIGNIFICANT = 0.01
"""Of McNemar's test, shared among all ways that are tried (Bonferroni)."""
_CROPS = (0.875, 0.95, 1.0)
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Way:
    """One way to prepare pictures; name: what it changes, for people."""

    name: str
    preprocess: Preprocess
    channels: ChannelOrder = "rgb"


def ways(own: Preprocess, stage: PreprocessStage) -> list[Way]:
    """The usual others, as far as the file leaves them to its caller: "full" leaves only the order of colors, "normalize" not the mean."""
    found = [Way("red and blue exchanged", own, "bgr")]
    if stage == "full":
        return found
    for crop in _CROPS:
        found.append(
            Way(
                f"the middle {crop:.1%} of the shorter side",
                replace(own, resize=int(own.size / crop), crop="center"),
            )
        )
    found.append(Way("squashed, not cropped", replace(own, resize=own.size, crop="squash")))
    found += [
        Way(f"{name} interpolation", replace(own, interpolation=name))
        for name in ("bicubic", "bilinear", "lanczos")
    ]
    if stage == "host":
        found.append(
            Way("ImageNet's mean and std", replace(own, mean=IMAGENET_MEAN, std=IMAGENET_STD))
        )
        found.append(Way("mean and std 0.5", replace(own, mean=_HALF, std=_HALF)))
        found.append(
            Way("0 to 1, no mean and std", replace(own, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
        )
    return [way for way in found if way.preprocess != own or way.channels == "bgr"]


def check(
    given: str, dataset: Dataset, asked: EvaluationOptions
) -> tuple[list[AccuracyResult], str]:
    """(the file's own way, then each other against it; what that says, in a sentence)."""
    with open_classifier(given, asked) as classifier:
        stage = cast(PreprocessStage, classifier.describe()["stage"])
        samples, truths, _ = matched(dataset, classifier.labels, asked.only_known)
        own = Way("its own", classifier.preprocess)
        base = _looked(classifier, own, given, samples, truths)
    results = [replace(accuracy_result(base), preprocess=own.name)]
    others = ways(own.preprocess, stage)
    for way in others:
        with Classifier(
            given,
            asked.runtime,
            asked.device,
            asked.threads,
            preprocess=way.preprocess if stage != "full" else None,
        ) as classifier:
            found = accuracy_result(_looked(classifier, way, given, samples, truths), base)
        results.append(replace(found, preprocess=way.name))
    return results, verdict(results)


def verdict(results: Sequence[AccuracyResult]) -> str:
    """In a sentence: which other way is better than the first, and by how much, where chance does not explain it."""
    own, *others = results
    better = [
        one
        for one in others
        if one.against
        and one.against.better > one.against.worse
        and one.against.p * len(others) < _SIGNIFICANT
    ]
    if not better:
        return f"none of {len(others)} other ways to prepare the pictures is better than its own ({own.top1:.1f}% of {own.images})"
    best = max(better, key=lambda one: one.top1)
    assert best.against is not None
    return (
        f"the preprocessing looks wrong: with {best.preprocess}, {best.top1:.1f}% of {best.images} are right, {own.top1:.1f}% with its own "
        f"({best.against.better} became right, {best.against.worse} wrong, p {best.against.p:.1g})"
    )


def _looked(
    classifier: Classifier,
    way: Way,
    given: str,
    samples: Sequence[Sample],
    truths: Sequence[tuple[int, ...]],
) -> Evaluation:
    shown = (
        samples
        if way.channels == "rgb"
        else [replace(one, picture=partial(_pixels, one)) for one in samples]
    )
    begun = time.perf_counter()
    found = tuple(predict_samples(classifier, shown, way.channels))
    return seen(given, classifier, samples, truths, found, time.perf_counter() - begun)


def _pixels(sample: Sample) -> ImageSource:
    """The picture as an array, whose order of colors can be misread; one that cannot be decoded as it is."""
    picture = sample.picture()
    with suppress(ImageError):
        return np.asarray(open_image(picture, exif=False))
    return picture
