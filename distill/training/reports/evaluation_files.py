"""Writes all files about one evaluation: accuracy by class, confusion matrix and mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tinyvit.distill.training.reports.class_accuracy import format_class_accuracy
from tinyvit.distill.training.reports.confusion_chart import draw_confusion_matrix
from tinyvit.distill.training.reports.confusion_matrix import (
    count_confusions,
    format_confusion_matrix,
)
from tinyvit.distill.training.reports.mistakes import MAX_MISTAKES, draw_mistakes, find_mistakes
from tinyvit.distill.training.validation.evaluate import ImagePredictions
from tinyvit.files.file_io import write_atomically
from tinyvit.labels import Label
from tinyvit.progress import NullProgress, Progress
from tinyvit.text.plurals import format_count

CLASS_ACCURACY_FILE = "class_accuracy.csv"
CONFUSION_CSV_FILE = "confusion_matrix.csv"
CONFUSION_CHART_FILE = "confusion_matrix.png"
MISTAKES_FILE = "mistakes.png"
EVALUATION_FILES = (
    CLASS_ACCURACY_FILE,
    CONFUSION_CSV_FILE,
    CONFUSION_CHART_FILE,
    MISTAKES_FILE,
)
"""Names of all files about an evaluation."""


@dataclass(frozen=True)
class WrittenEvaluation:
    """The files that were written about an evaluation.

    Attributes:
        paths: The files.
        mistake_count: Number of misclassified images. Without any, there is no contact sheet.
    """

    paths: tuple[Path, ...]
    mistake_count: int

    def describe(self) -> str:
        """Return the names of the files and the number of mistakes, as a message on one line."""
        names = ", ".join(path.name for path in self.paths)
        message = f"wrote to {self.paths[0].parent}: {names}"
        if self.mistake_count == 0:
            return f"{message}; no image is misclassified"
        shown_count = min(MAX_MISTAKES, self.mistake_count)
        if shown_count < self.mistake_count:
            shown = f"the {shown_count} most confident of {self.mistake_count} mistakes"
        else:
            shown = format_count(shown_count, "mistake")
        return f"{message}, which shows {shown}"


def write_evaluation(
    predictions: ImagePredictions,
    labels: Sequence[Label],
    folder: Path,
    progress: Progress = NullProgress(),
) -> WrittenEvaluation:
    """Write the files about an evaluation. Each is written completely or not at all.

    Args:
        predictions: The predictions for at least one image.
        labels: The labels of all classes of the network.
        folder: The folder of the files, which is created. Files with the same names are replaced,
            and a contact sheet is removed if there are no mistakes.
        progress: Receives the number of files that are finished.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OSError: A file cannot be written.
    """
    matrix, mistakes = count_confusions(predictions), find_mistakes(predictions)
    makers: dict[str, Callable[[], str | bytes]] = {
        CLASS_ACCURACY_FILE: partial(format_class_accuracy, predictions, labels),
        CONFUSION_CSV_FILE: partial(format_confusion_matrix, matrix, labels),
        CONFUSION_CHART_FILE: partial(draw_confusion_matrix, matrix, labels),
    }
    if mistakes:
        shown = mistakes[:MAX_MISTAKES]
        makers[MISTAKES_FILE] = partial(draw_mistakes, predictions, shown, labels)
    # All contents are made before the first file is replaced.
    contents = {}
    for number, (name, make_content) in enumerate(makers.items(), start=1):
        contents[name] = make_content()
        progress.advance("drawing the evaluation, files", number, len(makers))
    if not mistakes:
        (folder / MISTAKES_FILE).unlink(missing_ok=True)
    paths = [write_atomically(folder / name, content) for name, content in contents.items()]
    return WrittenEvaluation(tuple(paths), len(mistakes))
