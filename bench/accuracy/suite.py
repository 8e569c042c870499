"""Evaluates several artifacts on one dataset, and creates the accuracy record."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tinyvit.bench import machine
from tinyvit.bench.accuracy.evaluate import Evaluation, evaluate
from tinyvit.bench.accuracy.options import EvaluationOptions, read_labels
from tinyvit.bench.accuracy.preprocess_check import check_preprocess
from tinyvit.bench.accuracy.results import make_accuracy_result
from tinyvit.bench.artifact_info import hash_artifact
from tinyvit.bench.failures import Failures, collect_warnings
from tinyvit.bench.record import PACKAGE_VERSION, Record, current_time
from tinyvit.data.dataset import Dataset
from tinyvit.data.dataset_matching import match_dataset
from tinyvit.errors import RequestError, TinyViTError
from tinyvit.progress import Progress


@dataclass(frozen=True)
class SuiteConfig:
    """The options for evaluating several artifacts.

    Attributes:
        evaluation: How each artifact is evaluated. With several artifacts, each has its own
            journal: the hash of the artifact is appended to `journal_path`.
        reference: Path of the artifact with which the others are compared; None to compare them
            with the first artifact.
        device_name: Name of the device in the record; None for the name of the board or the host.
        keep_predictions: Whether the record includes the predicted class of every image.
    """

    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    reference: str | None = None
    device_name: str | None = None
    keep_predictions: bool = False


@dataclass(frozen=True)
class SuiteResult:
    """The accuracy record of several artifacts, and the evaluations that it summarizes.

    Attributes:
        record: The accuracy record.
        reference: The evaluation of the reference artifact; None if only one artifact could be
            evaluated and `SuiteConfig.reference` is None.
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
    """Evaluate artifacts on a dataset, and compare them with the reference artifact.

    Args:
        paths: Paths of the artifacts.
        dataset: The labeled images.
        config: The options.
        progress: Receives the number of classified images of each artifact; None to report
            nothing.

    Returns:
        The record and the evaluations. An artifact that cannot be evaluated is named in the
        record's `failures`.

    Raises:
        RequestError: The classes of the data are not those of one of the artifacts. This is found
            before the first artifact is evaluated.
        TinyViTError: The reference cannot be evaluated, or no artifact can.
    """
    date = current_time()
    with collect_warnings() as warning_messages:
        if not _is_single(paths, config):
            _require_matching_classes([*paths, config.reference or paths[0]], dataset, config)
        reference = None
        if config.reference:
            options = _with_own_journal(config.evaluation, config.reference)
            reference = evaluate(config.reference, dataset, options, progress)
        evaluations, failures = _evaluate_each(paths, dataset, config, progress)
        if reference is None and len(evaluations) > 1:
            reference = evaluations[0]
            if reference.path != paths[0]:
                warning_messages.append(
                    f"{paths[0]} cannot be evaluated, so the artifacts are compared with"
                    f" {reference.path} instead"
                )
        results = [
            make_accuracy_result(
                evaluation,
                reference=None if evaluation is reference else reference,
                keep_predictions=config.keep_predictions,
            )
            for evaluation in evaluations
        ]
    warning_messages += _describe_notes(evaluations)
    record = replace(
        _make_empty_record(dataset, config, date),
        warnings=tuple(dict.fromkeys(warning_messages)),
        failures=tuple(failures.messages),
        accuracy=tuple(results),
    )
    return SuiteResult(record, reference, tuple(evaluations))


def _describe_notes(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the notes about the evaluations; one that several artifacts share is stated once."""
    paths_by_note: dict[str, list[str]] = {}
    for evaluation in evaluations:
        for note in evaluation.notes:
            paths_by_note.setdefault(note, []).append(evaluation.path)
    all_count = len(evaluations)
    return [
        f"{'all artifacts' if 1 < len(paths) == all_count else ', '.join(paths)}: {note}"
        for note, paths in paths_by_note.items()
    ]


def _is_single(paths: Sequence[str], config: SuiteConfig) -> bool:
    """Return whether only one artifact is evaluated, and not compared with a reference."""
    return len(paths) == 1 and config.reference is None


def _evaluate_each(
    paths: Sequence[str], dataset: Dataset, config: SuiteConfig, progress: Progress | None
) -> tuple[list[Evaluation], Failures]:
    """Evaluate artifacts; raise TinyViTError if none can be evaluated."""
    evaluations, failures = list[Evaluation](), Failures()
    for path in paths:
        options = config.evaluation
        try:
            # A single artifact uses the journal under the name that the user gave.
            if not _is_single(paths, config):
                options = _with_own_journal(options, path)
            evaluations.append(evaluate(path, dataset, options, progress))
        except TinyViTError as error:
            failures.add(path, error)
    if not evaluations:
        raise failures.make_error()
    return evaluations, failures


def _require_matching_classes(paths: Sequence[str], dataset: Dataset, config: SuiteConfig) -> None:
    """Raise RequestError if the classes of the data are not those of one of the artifacts.

    An artifact that cannot be opened is left to the evaluation, which reports it.
    """
    for path in dict.fromkeys(paths):
        try:
            labels = read_labels(path, config.evaluation)
        except TinyViTError:
            continue
        try:
            match_dataset(dataset, labels, config.evaluation.only_known_classes)
        except RequestError as error:
            raise RequestError(f"{path}: {error.cause}", error.remedy) from error


def record_preprocess_check(
    path: str, dataset: Dataset, config: SuiteConfig, progress: Progress | None = None
) -> Record:
    """Check the preprocessing of an artifact, and create a record of the check.

    Args:
        path: Path of the artifact.
        dataset: The labeled images.
        config: The options. Those for the reference and the journal are ignored.
        progress: Receives the number of preprocessing candidates that were tried; None to report
            nothing.

    Returns:
        A record with the result of the artifact's own preprocessing, then one result per candidate.
        Its only warning is the conclusion of the check.
    """
    date = current_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        check = check_preprocess(path, dataset, config.evaluation, progress)
    return replace(
        _make_empty_record(dataset, config, date),
        warnings=(check.conclusion,),
        accuracy=check.results,
    )


def _with_own_journal(options: EvaluationOptions, path: str) -> EvaluationOptions:
    """Return the options with a separate journal file for an artifact, named by its hash."""
    if options.journal_path is None:
        return options
    name = f"{options.journal_path.name}.{hash_artifact(Path(path))[:12]}"
    return replace(options, journal_path=options.journal_path.with_name(name))


def _make_empty_record(dataset: Dataset, config: SuiteConfig, date: str) -> Record:
    """Create a record without results."""
    location = dataset.location
    return Record(
        kind="accuracy",
        date=date,
        package=PACKAGE_VERSION,
        device=machine.read_device_info(config.device_name),
        settings={
            "preprocess": config.evaluation.preprocess,
            "limit": location.limit if location else None,
            "only_known_classes": config.evaluation.only_known_classes,
        },
        warnings=(),
        dataset={
            "source": dataset.description,
            "names_and_classes_sha256": dataset.sha256,
            "images": len(dataset.samples),
        },
    )
