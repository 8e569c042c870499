"""Draws a contact sheet of the images that an artifact misclassifies."""

from __future__ import annotations

from pathlib import Path

from tinyvit.bench.accuracy.evaluate import Evaluation
from tinyvit.bench.accuracy.results import find_shared_images
from tinyvit.files.file_io import write_atomically
from tinyvit.images.contact_sheet import ContactSheet
from tinyvit.images.decoding import open_image

MAX_IMAGES = 48
"""Maximum number of images on the sheet."""
_COLUMNS = 6


def find_misclassified_images(evaluation: Evaluation, reference: Evaluation | None) -> list[int]:
    """Return the indices of misclassified images, those with the most confident prediction first.

    Args:
        evaluation: The predictions of the artifact.
        reference: The predictions of a reference artifact; images that the reference misclassifies
            too are left out. None without a reference.

    Returns:
        At most `MAX_IMAGES` indices.

    Raises:
        RequestError: The two evaluations are of different images or classes.
    """
    if reference:
        shared = find_shared_images(evaluation, reference)
        candidates = [i for i in shared if reference.is_correct[i]]
    else:
        candidates = list(range(len(evaluation.predictions)))
    # `is_correct` is None for an image that could not be read.
    misclassified = [i for i in candidates if evaluation.is_correct[i] is False]
    return sorted(misclassified, key=lambda i: -evaluation.predictions[i].score)[:MAX_IMAGES]


def write_contact_sheet(evaluation: Evaluation, reference: Evaluation | None, path: Path) -> int:
    """Draw the images of `find_misclassified_images`, with their correct and predicted classes.

    Args:
        evaluation: The predictions of the artifact.
        reference: The predictions of a reference artifact; None without one.
        path: The PNG file to write. Nothing is written if no image is misclassified.

    Returns:
        The number of images on the sheet.

    Raises:
        RequestError: The two evaluations are of different images or classes.
    """
    shown_indices = find_misclassified_images(evaluation, reference)
    if not shown_indices:
        return 0
    sheet = ContactSheet(len(shown_indices), _COLUMNS, caption_lines=3 if reference else 2)
    for index in shown_indices:
        # The EXIF orientation is ignored, as in `predict_samples`.
        image = open_image(evaluation.samples[index].get_source(), exif=False)
        sheet.add(image, _make_caption(evaluation, reference, index))
    write_atomically(path, sheet.encode_png())
    return len(shown_indices)


def _make_caption(evaluation: Evaluation, reference: Evaluation | None, index: int) -> list[str]:
    """Return the lines below an image: its first correct class and the predicted classes."""
    truth = evaluation.labels[evaluation.truths[index][0]].name
    lines = [f"is {truth}", f"predicted {_describe_prediction(evaluation, index)}"]
    if reference:
        lines.append(f"reference {_describe_prediction(reference, index)}")
    return lines


def _describe_prediction(evaluation: Evaluation, index: int) -> str:
    prediction = evaluation.predictions[index]
    return f"{evaluation.labels[prediction.classes[0]].name} ({prediction.score:.0%})"
