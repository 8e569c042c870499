"""Computes the accuracy of an evaluation, and its comparison with a reference artifact's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tinyvit.bench.accuracy.evaluate import Evaluation
from tinyvit.bench.accuracy.predictions import TOP_K
from tinyvit.bench.artifact_info import read_artifact_info
from tinyvit.bench.record import AccuracyResult, ClassAccuracy, ReferenceComparison
from tinyvit.errors import RequestError
from tinyvit.metrics import (
    accuracy_per_class,
    compare_classes,
    expected_calibration_error,
    mcnemar_p_value,
    top_k_correct,
    wilson_interval,
)
from tinyvit.preprocess import Preprocess


def make_accuracy_result(
    evaluation: Evaluation, reference: Evaluation | None = None, keep_predictions: bool = False
) -> AccuracyResult:
    """Compute the accuracy of an artifact from its predictions.

    Args:
        evaluation: The predictions of the artifact.
        reference: The predictions of a reference artifact for the same images.
        keep_predictions: Whether the result includes the predicted class of every image.

    Raises:
        RequestError: No image could be read, or the reference was evaluated on other images or has
            other classes.
    """
    readable = [i for i, p in enumerate(evaluation.predictions) if p.classes]
    if not readable:
        raise RequestError("none of the images can be read", "check the files in --data")
    ranked = _ranked_classes(evaluation, readable)
    truths = [evaluation.truths[i] for i in readable]
    is_correct = top_k_correct(ranked, truths, 1)
    top1_correct, top5_correct = int(is_correct.sum()), int(top_k_correct(ranked, truths, 5).sum())
    scores = np.array([evaluation.predictions[i].score for i in readable])
    classified_count = len(readable)
    predicted = [p.classes[0] if p.classes else -1 for p in evaluation.predictions]
    return AccuracyResult(
        artifact=read_artifact_info(evaluation.path, evaluation.engine),
        classified_count=classified_count,
        unreadable_count=len(evaluation.predictions) - classified_count,
        total_count=len(evaluation.samples),
        top1=100 * top1_correct / classified_count,
        top5=100 * top5_correct / classified_count,
        top1_interval=wilson_interval(top1_correct, classified_count),
        top5_interval=wilson_interval(top5_correct, classified_count),
        expected_calibration_error=expected_calibration_error(scores, is_correct),
        preprocess=_describe_preprocess(evaluation.preprocess),
        images_per_s=classified_count / max(evaluation.seconds, 1e-9),
        reference=_compare_with_reference(evaluation, reference) if reference else None,
        classes=_class_accuracies(evaluation, reference),
        predictions=tuple(predicted) if keep_predictions else (),
    )


def find_shared_images(evaluation: Evaluation, reference: Evaluation) -> list[int]:
    """Return the indices of the images that were readable in both evaluations.

    Raises:
        RequestError: The evaluations are of different images or classes.
    """
    names, reference_names = ([s.name for s in e.samples] for e in (evaluation, reference))
    if names != reference_names or evaluation.labels != reference.labels:
        raise RequestError(
            f"{evaluation.path} and {reference.path} have different classes",
            "compare artifacts of one model, or measure them in separate runs",
        )
    pairs = zip(evaluation.predictions, reference.predictions)
    return [i for i, (p, r) in enumerate(pairs) if p.classes and r.classes]


def _ranked_classes(evaluation: Evaluation, indices: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return the best classes of images, (n, TOP_K), padded with -1 for models of fewer classes."""
    ranked = np.full((len(indices), TOP_K), -1, np.int64)
    for row, index in zip(ranked, indices):
        classes = evaluation.predictions[index].classes[:TOP_K]
        row[: len(classes)] = classes
    return ranked


def _compare_with_reference(evaluation: Evaluation, reference: Evaluation) -> ReferenceComparison:
    shared = find_shared_images(evaluation, reference)
    comparison = compare_classes(
        _ranked_classes(evaluation, shared)[:, 0],
        _ranked_classes(reference, shared)[:, 0],
        [evaluation.truths[i] for i in shared],
    )
    return ReferenceComparison(
        path=reference.path,
        agreement=comparison.agreement,
        worse=comparison.worse,
        better=comparison.better,
        p_value=mcnemar_p_value(comparison.worse, comparison.better),
    )


def _class_accuracies(
    evaluation: Evaluation, reference: Evaluation | None
) -> tuple[ClassAccuracy, ...]:
    """Return the accuracy of each class, in the order of `AccuracyResult.classes`.

    An image with several correct classes is counted for the first of them only.
    """
    if reference:
        images = find_shared_images(evaluation, reference)
    else:
        images = [i for i, p in enumerate(evaluation.predictions) if p.classes]
    rows = accuracy_per_class(
        _select_correct(evaluation, images),
        np.array([evaluation.truths[i][0] for i in images], np.int64),
        _select_correct(reference, images) if reference else None,
    )
    accuracies = []
    for row in rows:
        label = evaluation.labels[row.class_index]
        accuracies.append(
            ClassAccuracy(label.name, label.wnid, row.image_count, row.top1, row.reference_top1)
        )
    return tuple(sorted(accuracies, key=_class_order))


def _select_correct(evaluation: Evaluation, images: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return whether each of the images with the given indices is classified correctly."""
    return np.array([bool(evaluation.is_correct[i]) for i in images], np.bool_)


def _class_order(accuracy: ClassAccuracy) -> tuple[float, str, str]:
    """Return the sort key: the loss against the reference, or the accuracy without a reference."""
    gain = accuracy.top1 - (accuracy.reference_top1 or 0)
    return gain, accuracy.wnid, accuracy.label


def _describe_preprocess(preprocess: Preprocess) -> str:
    return (
        f"resize {preprocess.resize}, crop {preprocess.size} ({preprocess.crop}),"
        f" {preprocess.interpolation}, mean {preprocess.mean}, std {preprocess.std}"
    )
