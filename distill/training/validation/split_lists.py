"""Lists the images of a validation split in two text files, which the export reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tinyvit.data.image_lists import CLASS_SEPARATOR
from tinyvit.distill.training.run import folder as run_folder
from tinyvit.distill.training.task import TrainingTask
from tinyvit.files.file_io import write_atomically


def write_split_lists(task: TrainingTask) -> None:
    """Write the lists of the images to train on and of those held out for validation.

    `tinyvit-export` takes them as --calib-data and --val-data. The paths are relative to the folder
    of the run. Nothing is written if a path does not fit on a line of UTF-8 text.

    Args:
        task: The task of a run that holds out some of its training images.
    """
    images, selected, validation = task.data.images, task.data.selected, task.validation
    assert selected is not None
    assert validation is not None
    base = _find_relative_folder(images.folder, task.folder)
    training_paths = [f"{base}/{images.keys[index]}" for index in selected]
    validation_paths = [
        f"{base}/{file.relative_to(images.folder).as_posix()}" for file in validation.images.files
    ]
    labels = [task.labels[index] for index in validation.images.class_indices]
    class_names = [label.wnid or label.name for label in labels]
    if not all(map(_fits_on_a_line, (*training_paths, *validation_paths, *class_names))):
        return
    rows = [CLASS_SEPARATOR.join(row) for row in zip(validation_paths, class_names)]
    _write_lines(task.folder / run_folder.TRAINING_FILE, training_paths)
    _write_lines(task.folder / run_folder.VALIDATION_FILE, rows)


def has_split_lists(folder: Path) -> bool:
    """Return whether a run has written the lists.

    Args:
        folder: The folder of the run.
    """
    return (folder / run_folder.VALIDATION_FILE).is_file()


def _find_relative_folder(folder: Path, start: Path) -> str:
    """Return the path of a folder relative to another; the whole path on another drive."""
    try:
        # ".." after a symbolic link leads to the parent of its target.
        return Path(os.path.relpath(folder.resolve(), start.resolve())).as_posix()
    except ValueError:  # Windows has no relative path between two drives.
        return folder.resolve().as_posix()


def _fits_on_a_line(text: str) -> bool:
    """Return whether reading a list gives the text back."""
    is_single_line = text.strip().splitlines() == [text] and CLASS_SEPARATOR not in text
    # Python represents bytes of file names that are not UTF-8 as surrogates.
    return is_single_line and not any("\ud800" <= character <= "\udfff" for character in text)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
