"""Labeled pictures and files -> how right each file is, with what a share of so many pictures is worth, and beside a reference."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tinyvit.bench.accuracy import cluster
from tinyvit.bench.accuracy.datasets import Dataset, Sample
from tinyvit.bench.accuracy.datasets.matching import matched
from tinyvit.bench.accuracy.intervals import calibration_error, mcnemar, wilson
from tinyvit.bench.accuracy.options import EvaluationOptions, open_classifier
from tinyvit.bench.accuracy.predictions import (
    ImagePrediction,
    Meter,
    kept,
    open_journal,
    predict_samples,
)
from tinyvit.bench.artifact_info import digest, read_artifact_info
from tinyvit.bench.record import AccuracyResult, ClassAccuracy, ReferenceComparison
from tinyvit.errors import RequestError
from tinyvit.labels import Label
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.classifier import Classifier

MAX_UNREADABLE = 0.01
"""Share of pictures that may be unreadable; above it the data is wrong, and a figure of the rest would not be of it."""


@dataclass(frozen=True)
class Evaluation:
    """One file's answers to the pictures that it could be asked about. notes: what a reader must know of them."""

    given: str
    labels: tuple[Label, ...]
    samples: tuple[Sample, ...]
    truths: tuple[tuple[int, ...], ...]
    answers: tuple[ImagePrediction, ...]
    seconds: float
    engine: dict[str, str | int]
    preprocess: Preprocess
    notes: tuple[str, ...]

    @cached_property
    def right(self) -> list[bool | None]:
        """Whether each picture's best class is right; None where it could not be read."""
        return [
            one.best[0] in truth if one.best else None
            for one, truth in zip(self.answers, self.truths)
        ]


def evaluate(given: str, dataset: Dataset, asked: EvaluationOptions) -> Evaluation:
    """Ask a file about every picture. Raises RequestError for classes that do not match and for too many unreadable pictures."""
    with open_classifier(given, asked) as classifier:
        samples, truths, notes = matched(dataset, classifier.labels, asked.only_known)
        meter, total = Meter(Path(given).name, truths, asked.meter), len(samples)
        begun = time.perf_counter()
        with (
            open_journal(asked.journal, _depends(given, dataset, total, classifier))
            if asked.journal
            else nullcontext() as journal
        ):
            known = len(journal.answers) if journal else 0
            fresh = (
                predict_samples(classifier, samples[known:])
                if asked.ray is None
                else cluster.predict_samples(given, dataset, asked, known, total)
            )
            try:
                found = tuple(kept(fresh, total, journal, meter))
            except KeyboardInterrupt:
                _tell_partial(meter, total, asked)
                raise
        seconds = time.perf_counter() - begun
        notes += _unreadable(samples, found)
        return seen(given, classifier, samples, truths, found, seconds, notes)


def seen(
    given: str,
    classifier: Classifier,
    samples: Sequence[Sample],
    truths: Sequence[tuple[int, ...]],
    found: Sequence[ImagePrediction],
    seconds: float,
    notes: Sequence[str] = (),
) -> Evaluation:
    """The answers that an open file gave, with what it is."""
    engine = _engine(classifier)
    return Evaluation(
        given,
        classifier.labels,
        tuple(samples),
        tuple(truths),
        tuple(found),
        seconds,
        engine,
        classifier.preprocess,
        tuple(notes),
    )


def _unreadable(samples: Sequence[Sample], found: Sequence[ImagePrediction]) -> list[str]:
    """Notes that name the pictures that could not be read; raises RequestError where they are too many."""
    bad = [f"{sample.name}: {one.error}" for sample, one in zip(samples, found) if not one.best]
    if len(bad) > MAX_UNREADABLE * len(samples):
        cause = f"{len(bad)} of the {len(samples)} pictures cannot be read, such as {bad[0]}"
        raise RequestError(cause, "replace them; up to 1% are passed over")
    return [f"not read: {line}" for line in bad[:10]] + (
        [f"not read: {len(bad) - 10} more"] if len(bad) > 10 else []
    )


def _tell_partial(meter: Meter, total: int, asked: EvaluationOptions) -> None:
    share = f", top-1 {100 * meter.right / meter.done:.2f}% of these" if meter.done else ""
    again = (
        f"; the same command goes on from {asked.journal}"
        if asked.journal
        else "; --resume FILE would go on from there"
    )
    print(f"\npartial: {meter.done} of {total} pictures{share}{again}", file=sys.stderr)


def _engine(classifier: Classifier) -> dict[str, str | int]:
    """What runs the file, without what is the classifier's own."""
    return {
        key: value
        for key, value in classifier.describe().items()
        if key not in ("file", "stage", "batch", "decoding_threads")
    }


def _depends(given: str, dataset: Dataset, pictures: int, classifier: Classifier) -> dict[str, str]:
    """Everything that the answers depend on."""
    engine = {
        key: str(value)
        for key, value in _engine(classifier).items()
        if key in ("engine", "version", "device", "precision")
    }
    return {
        "artifact": digest(Path(given)),
        "data": dataset.sha256,
        "pictures": str(pictures),
        "preprocess": str(asdict(classifier.preprocess)),
        **engine,
    }


def accuracy_result(
    looked: Evaluation, reference: Evaluation | None = None, keep_answers: bool = False
) -> AccuracyResult:
    """What the answers come to, and beside the reference's to the same pictures."""
    read = [i for i, one in enumerate(looked.answers) if one.best]
    if not read:
        raise RequestError("none of the pictures can be read", "check the data")
    right = np.array([bool(looked.right[i]) for i in read])
    among = sum(any(each in looked.truths[i] for each in looked.answers[i].best) for i in read)
    scores = np.array([looked.answers[i].score for i in read])
    return AccuracyResult(
        subject=read_artifact_info(looked.given, looked.engine),
        images=len(read),
        skipped=len(looked.answers) - len(read),
        total=len(looked.samples),
        top1=100 * float(right.mean()),
        top5=100 * among / len(read),
        top1_interval=wilson(int(right.sum()), len(read)),
        top5_interval=wilson(among, len(read)),
        calibration_error=calibration_error(scores, right),
        preprocess=_said(looked.preprocess),
        images_per_s=len(read) / max(looked.seconds, 1e-9),
        against=_against(looked, reference) if reference else None,
        classes=_classes(looked, reference),
        answers=tuple(one.best[0] if one.best else -1 for one in looked.answers)
        if keep_answers
        else (),
    )


def _said(p: Preprocess) -> str:
    return f"resize {p.resize}, crop {p.size} ({p.crop}), {p.interpolation}, mean {p.mean}, std {p.std}"


def both(looked: Evaluation, reference: Evaluation) -> list[int]:
    """Pictures that both have answered. Raises RequestError where they were not asked about the same ones, or have other classes."""
    if [one.name for one in looked.samples] != [
        one.name for one in reference.samples
    ] or looked.labels != reference.labels:
        raise RequestError(
            f"{looked.given} and {reference.given} have other classes",
            "compare files of one model, or measure them apart",
        )
    return [
        i for i, (a, b) in enumerate(zip(looked.answers, reference.answers)) if a.best and b.best
    ]


def _against(looked: Evaluation, reference: Evaluation) -> ReferenceComparison:
    shared = both(looked, reference)
    same = sum(looked.answers[i].best[0] == reference.answers[i].best[0] for i in shared)
    worse = sum(bool(reference.right[i]) and not looked.right[i] for i in shared)
    better = sum(bool(looked.right[i]) and not reference.right[i] for i in shared)
    return ReferenceComparison(
        reference.given, 100 * same / max(1, len(shared)), worse, better, mcnemar(worse, better)
    )


def _classes(looked: Evaluation, reference: Evaluation | None) -> tuple[ClassAccuracy, ...]:
    """Each class that a picture is of, those that lost most against the reference first, or those least often right."""
    at: dict[int, list[int]] = {}
    for i, truth in enumerate(looked.truths):
        if looked.answers[i].best and (reference is None or reference.answers[i].best):
            at.setdefault(truth[0], []).append(i)

    def share(one: Evaluation, indices: list[int]) -> float:
        return 100 * sum(bool(one.right[i]) for i in indices) / len(indices)

    rows = []
    for index, indices in at.items():
        label = looked.labels[index]
        before = share(reference, indices) if reference else None
        rows.append(
            ClassAccuracy(label.name, label.wnid, len(indices), share(looked, indices), before)
        )
    return tuple(
        sorted(rows, key=lambda row: (row.top1 - (row.reference_top1 or 0), row.wnid, row.label))
    )
