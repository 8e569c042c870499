"""Classifies all images of a dataset with one artifact (exported model file)."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

from tinyvit.bench.accuracy.class_numbering import check_class_numbering
from tinyvit.bench.accuracy.cluster import predict_on_cluster
from tinyvit.bench.accuracy.journal import Journal, PredictionLimits, open_journal
from tinyvit.bench.accuracy.options import EvaluationOptions, open_classifier
from tinyvit.bench.accuracy.prediction_table import PredictionTable
from tinyvit.bench.accuracy.predictions import ImagePrediction, predict_samples
from tinyvit.bench.artifact_info import hash_artifact
from tinyvit.data.dataset import Dataset, Sample
from tinyvit.data.dataset_matching import MatchedDataset, match_dataset
from tinyvit.errors import RequestError
from tinyvit.labels import Label
from tinyvit.preprocess import Preprocess
from tinyvit.processes.stop_signals import restore_interrupt
from tinyvit.progress import NullProgress, Progress
from tinyvit.runtimes.base import RuntimeInfo
from tinyvit.runtimes.classifier import Classifier

MAX_UNREADABLE_SHARE = 0.01
"""Largest allowed share of unreadable images. With more of them, the accuracy on the readable
images would not represent the dataset."""
_MAX_NAMED_IMAGES = 10
"""Maximum number of unreadable images that are named in the notes."""


@dataclass(frozen=True)
class Evaluation:
    """The predictions of one artifact for all images of a dataset.

    Attributes:
        path: Path of the artifact.
        labels: Class labels of the model, in the order of the logits.
        samples: The images.
        truths: For each image the indices of all correct classes in `labels`.
        predictions: The prediction for each image.
        seconds: Duration of the evaluation, without the earlier run that wrote the journal.
        engine: Engine, version, device, threads and precision, as the engine reports them.
        preprocess: The preprocessing that was applied to the images.
        notes: Sentences about images that were skipped or could not be read, and about class
            numbers that seem to be wrong.
        journal_count: Number of the predictions, at the beginning of `predictions`, that were in
            the journal of an earlier run.
    """

    path: str
    labels: tuple[Label, ...]
    samples: tuple[Sample, ...]
    truths: tuple[tuple[int, ...], ...]
    predictions: Sequence[ImagePrediction]
    seconds: float
    engine: RuntimeInfo
    preprocess: Preprocess
    notes: tuple[str, ...] = ()
    journal_count: int = 0

    @cached_property
    def is_correct(self) -> tuple[bool | None, ...]:
        """Whether the predicted class of each image is correct; None for an unreadable image."""
        return tuple(
            prediction.classes[0] in truth if prediction.classes else None
            for prediction, truth in zip(self.predictions, self.truths)
        )


def evaluate(
    path: str,
    dataset: Dataset,
    options: EvaluationOptions,
    progress: Progress | None = None,
) -> Evaluation:
    """Classify all images of a dataset with an artifact.

    Args:
        path: Path of the artifact.
        dataset: The labeled images.
        options: How to evaluate. Predictions that are already in the journal, the file
            `options.journal_path`, are not computed again.
        progress: Receives the number of classified images; None to report nothing.

    Returns:
        The predictions, with notes (see `Evaluation.notes`).

    Raises:
        RequestError: A class of the data is not a class of the model, too many images cannot be
            read (`MAX_UNREADABLE_SHARE`), or the journal belongs to another run.
        TinyViTError: The artifact cannot be opened or run.
        KeyboardInterrupt: The user interrupted the run. The exception's argument is a message that
            states the number of classified images and how to continue.
    """
    with open_classifier(path, options) as classifier:
        matched = match_dataset(dataset, classifier.labels, options.only_known_classes)
        start_s = time.perf_counter()
        journal_context: AbstractContextManager[Journal | None] = nullcontext()
        if options.journal_path:
            settings = _list_journal_settings(path, dataset, matched, classifier)
            limits = PredictionLimits(len(matched.samples), len(classifier.labels))
            journal_context = open_journal(options.journal_path, settings, limits)
        with journal_context as journal:
            done_count = len(journal.initial_predictions) if journal else 0
            if options.ray_address is None:
                new_predictions = predict_samples(classifier, matched.samples[done_count:])
            else:
                end = len(matched.samples)
                new_predictions = predict_on_cluster(path, dataset, options, done_count, end)
            collector = _PredictionCollector(path, matched, options, progress or NullProgress())
            predictions = collector.collect(new_predictions, journal)
        seconds = time.perf_counter() - start_s
        notes = (
            *matched.notes,
            *_describe_unreadable(matched.samples, predictions),
            *_check_numbering(matched, predictions),
        )
        evaluation = make_evaluation(path, classifier, matched, predictions, seconds)
        return replace(evaluation, notes=notes, journal_count=done_count)


def make_evaluation(
    path: str,
    classifier: Classifier,
    matched: MatchedDataset,
    predictions: Sequence[ImagePrediction],
    seconds: float,
) -> Evaluation:
    """Create the `Evaluation` of an opened artifact from its predictions.

    Args:
        path: Path of the artifact.
        classifier: The opened artifact.
        matched: The images, and for each of them the indices of the correct classes.
        predictions: One prediction per image.
        seconds: Duration of the evaluation.

    Returns:
        An evaluation without notes.
    """
    return Evaluation(
        path=path,
        labels=classifier.labels,
        samples=matched.samples,
        truths=matched.class_indices,
        predictions=predictions,
        seconds=seconds,
        engine=classifier.describe().runtime,
        preprocess=classifier.preprocess,
    )


class _PredictionCollector:
    """Collects the predictions of one artifact, and reports the progress.

    If the user interrupts the run, the message of the interruption states the accuracy so far.
    """

    def __init__(
        self, path: str, matched: MatchedDataset, options: EvaluationOptions, progress: Progress
    ) -> None:
        self._artifact_name = Path(path).name
        self._truths = matched.class_indices
        self._journal_path = options.journal_path
        self._progress = progress
        self._correct_count = 0

    def collect(
        self, new_predictions: Iterator[ImagePrediction], journal: Journal | None
    ) -> PredictionTable:
        """Collect the predictions of an earlier run from the journal, then the new ones.

        Args:
            new_predictions: Predictions for the images that are not in the journal yet. They are
                appended to the journal.
            journal: The open journal; None without one.

        Returns:
            The prediction for every image.
        """
        earlier_predictions = journal.initial_predictions if journal else []
        predictions = PredictionTable()
        total = len(self._truths)
        try:
            with restore_interrupt():
                for prediction in chain(earlier_predictions, new_predictions):
                    is_new = len(predictions) >= len(earlier_predictions)
                    if journal and is_new:
                        journal.add(prediction)
                    self._count(prediction, self._truths[len(predictions)])
                    predictions.append(prediction)
                    self._progress.advance(self._artifact_name, len(predictions), total)
        except KeyboardInterrupt as interrupt:
            interrupt.args = (self._describe_interruption(len(predictions), total),)
            raise
        return predictions

    def _count(self, prediction: ImagePrediction, truth: Collection[int]) -> None:
        """Count a prediction if its first class is one of the correct classes."""
        self._correct_count += bool(prediction.classes) and prediction.classes[0] in truth

    def _describe_interruption(self, done_count: int, total_count: int) -> str:
        """Return the number of classified images, their accuracy, and the way to continue."""
        accuracy = ""
        if done_count:
            accuracy = f" (top-1 of these: {100 * self._correct_count / done_count:.2f}%)"
        continuation = (
            f"repeat the command to continue from {self._journal_path}"
            if self._journal_path
            else "use --resume FILE to be able to continue an interrupted run"
        )
        return (
            f"{self._artifact_name} classified {done_count} of {total_count} images{accuracy};"
            f" {continuation}"
        )


def _check_numbering(
    matched: MatchedDataset, predictions: Sequence[ImagePrediction]
) -> tuple[str, ...]:
    """Return a note if the class numbers of the data do not seem to be those of the model."""
    numbers = matched.class_numbers
    if numbers is None:
        return ()
    truths = [tuple(numbers[index] for index in indices) for indices in matched.class_indices]
    predicted = [
        numbers[prediction.classes[0]] if prediction.classes else None for prediction in predictions
    ]
    return check_class_numbering(truths, predicted, class_count=max(numbers) + 1)


def _describe_unreadable(
    samples: Sequence[Sample], predictions: Sequence[ImagePrediction]
) -> list[str]:
    """Return notes about unreadable images; raise RequestError if there are too many."""
    unreadable = [
        f"{sample.name}: {prediction.error}"
        for sample, prediction in zip(samples, predictions)
        if not prediction.classes
    ]
    if len(unreadable) > MAX_UNREADABLE_SHARE * len(samples):
        raise RequestError(
            f"{len(unreadable)} of the {len(samples)} images cannot be read, such as"
            f" {unreadable[0]}",
            f"replace them; at most {MAX_UNREADABLE_SHARE:.0%} of the images may be unreadable",
        )
    notes = [f"this image could not be read: {line}" for line in unreadable[:_MAX_NAMED_IMAGES]]
    if len(unreadable) > _MAX_NAMED_IMAGES:
        notes.append(f"{len(unreadable) - _MAX_NAMED_IMAGES} more images could not be read")
    return notes


def _list_journal_settings(
    path: str, dataset: Dataset, matched: MatchedDataset, classifier: Classifier
) -> dict[str, str]:
    """Return everything on which the predictions depend, by name."""
    engine = classifier.describe().runtime
    return {
        "artifact": hash_artifact(Path(path)),
        "data": dataset.sha256,
        "images": str(len(matched.samples)),
        "preprocess": str(asdict(classifier.preprocess)),
        "engine": engine.engine,
        "version": engine.version,
        "device": engine.device,
        "precision": engine.precision,
    }
