"""Evaluating several artifacts on one dataset, and making the accuracy record."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tinyvit.bench import machine
from tinyvit.bench.accuracy.evaluate import Evaluation, evaluate
from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.bench.accuracy.preprocess_check import check_preprocess
from tinyvit.bench.accuracy.results import make_accuracy_result
from tinyvit.bench.artifact_info import hash_artifact
from tinyvit.bench.failures import Failures, collect_warnings
from tinyvit.bench.record import TOOL, Record, current_time
from tinyvit.data.dataset import Dataset
from tinyvit.errors import TinyViTError
from tinyvit.progress import Progress


@dataclass(frozen=True)
class SuiteConfig:
    """The options for evaluating several artifacts.

    Attributes:
        evaluation: How each artifact is evaluated. If several artifacts share a journal's name,
            each gets its own file, whose name ends with the artifact's hash.
        reference: Path of the artifact that the others are compared with; None for the first of
            several artifacts.
        device_name: Name of the device to record; None for its own name.
        keep_predictions: Whether the record has the predicted class of every image.
    """

    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    reference: str | None = None
    device_name: str | None = None
    keep_predictions: bool = False


@dataclass(frozen=True)
class SuiteResult:
    """The record of several artifacts, and the predictions behind it.

    Attributes:
        record: The accuracy record.
        reference: The evaluation of the reference artifact; None if a single artifact was
            evaluated without a reference.
        evaluations: The evaluation of each artifact that could be evaluated.
    """

    record: Record
    reference: Evaluation | None
    evaluations: tuple[Evaluation, ...]


def evaluate_all(
    paths: Sequence[str],
    dataset: Dataset,
    config: SuiteConfig,
    progress: Progress | None = None,
) -> SuiteResult:
    """Evaluate artifacts on a dataset.

    Args:
        paths: Paths of the artifacts.
        dataset: The labeled images.
        config: The options.
        progress: Receives the number of classified images of each artifact; None to report
            nothing.

    Returns:
        The results. Artifacts that cannot be evaluated are in the record's `failures`.

    Raises:
        TinyViTError: The reference cannot be evaluated, or none of the artifacts can; the error is
            then the first reason.
    """
    date = current_time()
    failures, evaluations = Failures(), list[Evaluation]()
    is_single = len(paths) == 1 and config.reference is None
    with collect_warnings() as messages:
        reference = None
        if config.reference:
            options = _with_own_journal(config.evaluation, config.reference)
            reference = evaluate(config.reference, dataset, options, progress)
        for path in paths:
            try:
                options = config.evaluation
                options = options if is_single else _with_own_journal(options, path)
                evaluations.append(evaluate(path, dataset, options, progress))
            except TinyViTError as error:
                failures.add(path, error)
        if not evaluations:
            raise failures.error()
        reference = reference or (evaluations[0] if len(evaluations) > 1 else None)
        results = [
            make_accuracy_result(e, None if e is reference else reference, config.keep_predictions)
            for e in evaluations
        ]
    messages += [f"{e.path}: {note}" for e in evaluations for note in e.notes]
    record = replace(
        _make_record(dataset, config, date),
        warnings=tuple(dict.fromkeys(messages)),
        failures=tuple(failures.lines),
        accuracy=tuple(results),
    )
    return SuiteResult(record, reference, tuple(evaluations))


def record_preprocess_check(
    path: str, dataset: Dataset, config: SuiteConfig, progress: Progress | None = None
) -> Record:
    """Check the preprocessing of an artifact, and record it.

    Args:
        path: Path of the artifact.
        dataset: The labeled images.
        config: The options; the reference and the journal are not used.
        progress: Receives the number of kinds of preprocessing that were tried; None to report
            nothing.

    Returns:
        A record with one result per kind of preprocessing, the artifact's own first, and with the
        conclusion as its only warning.
    """
    date = current_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        check = check_preprocess(path, dataset, config.evaluation, progress)
    return replace(
        _make_record(dataset, config, date), warnings=(check.conclusion,), accuracy=check.results
    )


def _with_own_journal(options: EvaluationOptions, path: str) -> EvaluationOptions:
    """Return the options with a journal whose name ends with the hash of the artifact."""
    if options.journal is None:
        return options
    name = f"{options.journal.name}.{hash_artifact(Path(path))[:12]}"
    return replace(options, journal=options.journal.with_name(name))


def _make_record(dataset: Dataset, config: SuiteConfig, date: str) -> Record:
    """Make a record without results."""
    location = dataset.location
    return Record(
        kind="accuracy",
        date=date,
        tool=TOOL,
        device=machine.read_device_info(config.device_name),
        settings={
            "preprocess": config.evaluation.preprocess,
            "limit": location.limit if location else None,
            "only_known": config.evaluation.only_known,
        },
        warnings=(),
        dataset={
            "source": dataset.source,
            "sha256": dataset.sha256,
            "images": len(dataset.samples),
        },
    )
