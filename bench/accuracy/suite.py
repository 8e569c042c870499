"""Files and labeled pictures -> an accuracy record: each file's figures, beside the reference's where there is one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinyvit.bench import machine
from tinyvit.bench.accuracy.datasets import Dataset
from tinyvit.bench.accuracy.evaluate import Evaluation, accuracy_result, evaluate
from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.bench.accuracy.preprocess_check import check
from tinyvit.bench.artifact_info import Refusals, digest
from tinyvit.bench.record import TOOL, AccuracyResult, Record, now
from tinyvit.errors import TinyViTError


@dataclass(frozen=True)
class EvaluationSuite:
    """A record, and the answers behind it: of the reference, where there is one, and of every file."""

    record: Record
    reference: Evaluation | None
    looked: tuple[Evaluation, ...]


def evaluate_all(
    paths: Sequence[str],
    dataset: Dataset,
    asked: EvaluationOptions,
    *,
    reference: str | None = None,
    name: str | None = None,
    keep_answers: bool = False,
) -> EvaluationSuite:
    """Ask each file about every picture. reference: another file, or the first of several. name: of the device, instead of its own.

    Files that cannot be asked are in `refusals`. Raises the first reason where none can, and what `evaluate` raises of the reference.
    """
    date = now()
    refusals, looked = Refusals(), list[Evaluation]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        against = (
            evaluate(reference, dataset, _journal(asked, reference, several=True))
            if reference
            else None
        )
        for path in paths:
            try:
                looked.append(
                    evaluate(
                        path,
                        dataset,
                        _journal(asked, path, several=len(paths) > 1 or reference is not None),
                    )
                )
            except TinyViTError as error:
                refusals.add(path, error)
        if not looked:
            raise refusals.error()
        against = against or (looked[0] if len(looked) > 1 else None)
        results = [
            accuracy_result(one, None if one is against else against, keep_answers)
            for one in looked
        ]
    said = [str(each.message) for each in caught if issubclass(each.category, UserWarning)]
    said += [f"{one.given}: {note}" for one in looked for note in one.notes]
    record = _record(dataset, asked, date, name, said, refusals.lines, results)
    return EvaluationSuite(record, against, tuple(looked))


def checked(
    path: str, dataset: Dataset, asked: EvaluationOptions, name: str | None = None
) -> Record:
    """The record of `preprocess_check.check`: one result a way to prepare the pictures, and what they say as the only warning."""
    date = now()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        results, said = check(path, dataset, asked)
    return _record(dataset, asked, date, name, [said], [], results)


def _journal(asked: EvaluationOptions, path: str, several: bool) -> EvaluationOptions:
    """Each of several files has its own, named by its content."""
    if asked.journal is None or not several:
        return asked
    return replace(
        asked, journal=asked.journal.with_name(f"{asked.journal.name}.{digest(Path(path))[:12]}")
    )


def _record(
    dataset: Dataset,
    asked: EvaluationOptions,
    date: str,
    name: str | None,
    said: Sequence[str],
    refusals: Sequence[str],
    results: Sequence[AccuracyResult],
) -> Record:
    place = dataset.place
    return Record(
        kind="accuracy",
        date=date,
        tool=TOOL,
        device=machine.read_device_info(name),
        settings={
            "preprocess": asked.preprocess,
            "limit": place.limit if place else None,
            "only_known": asked.only_known,
        },
        warnings=tuple(dict.fromkeys(said)),
        refusals=tuple(refusals),
        accuracy=tuple(results),
        data={"source": dataset.source, "sha256": dataset.sha256, "pictures": len(dataset.samples)},
    )
