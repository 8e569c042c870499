"""Computes an artifact's accuracy, and compares its predictions with a reference artifact's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tinyvit.bench.accuracy.evaluate import Evaluation
from tinyvit.bench.accuracy.predictions import TOP_K
from tinyvit.bench.artifact_info import read_artifact_info
from tinyvit.bench.record import AccuracyResult, ClassAccuracy, ReferenceComparison
from tinyvit.errors import RequestError
from tinyvit.image_sizes import format_size
from tinyvit.metrics import (
    accuracy_per_class,
    compare_classes,
    expected_calibration_error,
    mcnemar_p_value,
    top_k_correct,
    wilson_interval,
)
from tinyvit.preprocess import Preprocess

_MIN_SECONDS = 1e-9
"""Shortest duration with which a throughput is computed, because a clock may return 0 seconds."""


def make_accuracy_result(
    evaluation: Evaluation, reference: Evaluation | None = None, keep_predictions: bool = False
) -> AccuracyResult:
    """Compute the accuracy of an artifact from its predictions.

    Args:
        evaluation: The predictions of the artifact.
        reference: The predictions of a reference artifact for the same images; None without one.
        keep_predictions: Whether the result includes the predicted class of every image, -1 for an
            image that could not be read.

    Raises:
        RequestError: No image could be read, or the reference was evaluated on other images or has
            other classes.
    """
    readable = _list_readable_images(evaluation)
    if not readable:
        raise RequestError("none of the images can be read", "check the files in --data")
    ranked_classes = _stack_ranked_classes(evaluation, readable)
    truths = [evaluation.truths[i] for i in readable]
    is_top1_correct = top_k_correct(ranked_classes, truths, k=1)
    is_top5_correct = top_k_correct(ranked_classes, truths, k=5)
    top1_count, top5_count = int(is_top1_correct.sum()), int(is_top5_correct.sum())
    scores = np.array([evaluation.predictions[i].score for i in readable])
    classified_count = len(readable)
    # The first `journal_count` predictions come from an earlier run; `seconds` is the time of the
    # others.
    newly_classified_count = sum(i >= evaluation.journal_count for i in readable)
    predicted_classes = [p.classes[0] if p.classes else -1 for p in evaluation.predictions]
    return AccuracyResult(
        artifact=read_artifact_info(evaluation.path, evaluation.engine),
        classified_count=classified_count,
        unreadable_count=len(evaluation.predictions) - classified_count,
        total_count=len(evaluation.samples),
        top1=100 * top1_count / classified_count,
        top5=100 * top5_count / classified_count,
        top1_interval=wilson_interval(top1_count, classified_count),
        top5_interval=wilson_interval(top5_count, classified_count),
        expected_calibration_error=expected_calibration_error(scores, is_top1_correct),
        preprocess=_describe_preprocess(evaluation.preprocess),
        images_per_s=newly_classified_count / max(evaluation.seconds, _MIN_SECONDS),
        reference=_compare_with_reference(evaluation, reference) if reference else None,
        classes=_compute_class_accuracies(evaluation, reference),
        predictions=tuple(predicted_classes) if keep_predictions else (),
    )


def find_shared_images(evaluation: Evaluation, reference: Evaluation) -> list[int]:
    """Return the indices of the images that were readable in both evaluations.

    Raises:
        RequestError: The evaluations are of different images or classes.
    """
    names = [sample.name for sample in evaluation.samples]
    reference_names = [sample.name for sample in reference.samples]
    if names != reference_names or evaluation.labels != reference.labels:
        raise RequestError(
            f"{evaluation.path} and {reference.path} have different classes or were measured on"
            " different images",
            "compare artifacts of one model, or measure them in separate runs",
        )
    readable_in_reference = set(_list_readable_images(reference))
    return [i for i in _list_readable_images(evaluation) if i in readable_in_reference]


def _list_readable_images(evaluation: Evaluation) -> list[int]:
    """Return the indices of the images that could be read."""
    return [i for i, prediction in enumerate(evaluation.predictions) if prediction.classes]


def _stack_ranked_classes(evaluation: Evaluation, indices: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return the predicted classes of the images with the given indices, best first.

    Returns:
        Class indices, (images, TOP_K); -1 fills the rows of a model with fewer than TOP_K classes.
    """
    ranked_classes = np.full((len(indices), TOP_K), -1, np.int64)
    for row, index in zip(ranked_classes, indices):
        classes = evaluation.predictions[index].classes[:TOP_K]
        row[: len(classes)] = classes
    return ranked_classes


def _compare_with_reference(evaluation: Evaluation, reference: Evaluation) -> ReferenceComparison:
    """Compare the predicted classes of the images that were readable in both evaluations."""
    shared = find_shared_images(evaluation, reference)
    comparison = compare_classes(
        _stack_ranked_classes(evaluation, shared)[:, 0],
        _stack_ranked_classes(reference, shared)[:, 0],
        [evaluation.truths[i] for i in shared],
    )
    return ReferenceComparison(
        path=reference.path,
        agreement=comparison.agreement,
        worse=comparison.worse,
        better=comparison.better,
        p_value=mcnemar_p_value(comparison.worse, comparison.better),
    )


def _compute_class_accuracies(
    evaluation: Evaluation, reference: Evaluation | None
) -> tuple[ClassAccuracy, ...]:
    """Return the accuracy of each class, in the order of `AccuracyResult.classes`.

    An image with several correct classes is counted for the first of them only.
    """
    if reference:
        images = find_shared_images(evaluation, reference)
    else:
        images = _list_readable_images(evaluation)
    rows = accuracy_per_class(
        _are_correct(evaluation, images),
        np.array([evaluation.truths[i][0] for i in images], np.int64),
        _are_correct(reference, images) if reference else None,
    )
    accuracies = []
    for row in rows:
        label = evaluation.labels[row.class_index]
        accuracies.append(
            ClassAccuracy(
                label=label.name,
                wnid=label.wnid,
                image_count=row.image_count,
                top1=row.top1,
                reference_top1=row.reference_top1,
            )
        )
    return tuple(sorted(accuracies, key=_sort_key))


def _are_correct(evaluation: Evaluation, indices: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return whether each of the images with the given indices is classified correctly."""
    return np.array([bool(evaluation.is_correct[i]) for i in indices], np.bool_)


def _sort_key(accuracy: ClassAccuracy) -> tuple[float, str, str]:
    """Return the sort key of a class: the change of its accuracy from that of the reference.

    Without a reference, it is the accuracy itself. The WordNet id and the label make the order of
    classes with equal numbers reproducible.
    """
    change = accuracy.top1 - (accuracy.reference_top1 or 0)
    return change, accuracy.wnid, accuracy.label


def _describe_preprocess(preprocess: Preprocess) -> str:
    return (
        f"resize {format_size(preprocess.resize)}, crop {format_size(preprocess.size)}"
        f" ({preprocess.crop}),"
        f" {preprocess.interpolation}, mean {preprocess.mean}, std {preprocess.std}"
    )
