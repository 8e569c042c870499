"""Datasets whose training and validation images are in folders such as train/ and val/."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from tinyvit.data.listing import list_subfolders
from tinyvit.errors import RequestError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names, in lower case, that the folder of each split can have."""

_SPLIT_WORD = re.compile(
    r"(?:^|[^a-z])(train|val|test|dev|eval|pred)(?:ing|id|uation|iction|set|s)*(?:[^a-z]|$)"
)
"""Matches a name, in lower case, with a word that probably means a split, such as "dev",
"val_images" or "seg_train"."""


def find_splits(names: Collection[str], description: str) -> dict[str, str]:
    """Find the folders of splits among the subfolders of a dataset.

    "train" is also the name of a class, of railway trains. So there are splits only if a folder of
    training images is beside one of validation or test images, or if no other folder is there.

    Args:
        names: Names of the subfolders.
        description: The dataset, for error messages.

    Returns:
        "train", "val" and "test", as far as they are there, mapped to the names of their folders.
        It is empty if the subfolders are not splits.

    Raises:
        RequestError: Two folders can be the same split.
    """
    candidates = {
        split: [name for name in sorted(names) if name.lower() in split_names]
        for split, split_names in SPLIT_NAMES.items()
    }
    candidates = {split: folders for split, folders in candidates.items() if folders}
    candidate_count = sum(map(len, candidates.values()))
    has_other_folders = candidate_count < len(names)
    has_train_and_another_split = "train" in candidates and len(candidates) > 1
    if not candidates or (has_other_folders and not has_train_and_another_split):
        return {}
    for split, folders in candidates.items():
        if len(folders) > 1:
            raise RequestError(
                f"{description} has two folders that can contain the images of the split {split},"
                f" {' and '.join(folders)}",
                "give the folder of the split itself, or remove one of the two",
            )
    return {split: folders[0] for split, folders in candidates.items()}


def refuse_unknown_splits(folder: Path, keys: Sequence[str]) -> None:
    """Refuse a folder whose subfolders are splits with unusual names, not classes.

    Args:
        folder: The folder that should contain the class folders.
        keys: Paths of the images relative to `folder`, with "/" as separator.

    Raises:
        RequestError: There are several subfolders, all of them have names such as "dev" and
            "seg_train", and these mean different splits or all images are in folders inside them.
    """
    names = sorted({key.split("/")[0] for key in keys})
    words = [_SPLIT_WORD.search(name.lower()) for name in names]
    if len(names) < 2 or not all(words):
        return
    splits = {match[1] for match in words if match}
    if ("train" in splits and len(splits) > 1) or all(key.count("/") > 1 for key in keys):
        training = next((name for name in names if "train" in name.lower()), names[-1])
        raise RequestError(
            f"the subfolders of {folder}, {' and '.join(names[:4])}, seem to be splits and not"
            " classes",
            f"give the folder of one split, such as {folder / _find_class_level(training, keys)}",
        )


def _find_class_level(name: str, keys: Sequence[str]) -> str:
    """Return the folder in a folder that contains the class folders.

    Archives often contain one folder, with the same name as the archive.

    Args:
        name: The folder to search.
        keys: Paths of the images, with "/" as separator.
    """
    while True:
        inner_paths = [key[len(name) + 1 :] for key in keys if key.startswith(f"{name}/")]
        first_folders = {path.partition("/")[0] for path in inner_paths}
        if len(first_folders) != 1 or not all(path.count("/") > 1 for path in inner_paths):
            return name
        name = f"{name}/{first_folders.pop()}"


def list_splits(folder: Path) -> dict[str, Path]:
    """Find the folders of splits in a folder; see `find_splits`.

    A single folder with the name of a split, without folders inside, is not a split but a class.

    Args:
        folder: The folder of a dataset. If it is not a folder, it has no splits.
    """
    if not os.path.isdir(folder):
        return {}
    splits = find_splits(list_subfolders(folder), str(folder))
    paths = {split: folder / name for split, name in splits.items()}
    if len(paths) == 1 and not any(map(list_subfolders, paths.values())):
        return {}
    return paths


def find_split_folder(folder: str | Path, split: str) -> Path:
    """Return the subfolder of a split, or the folder itself if it contains no splits.

    Args:
        folder: A folder that may contain folders of splits, such as "train" and "val".
        split: "train" or "val".

    Raises:
        RequestError: The folder contains other splits, but not this one.
    """
    folder = Path(folder)
    splits = list_splits(folder)
    if splits and split not in splits:
        names = " and ".join(path.name for path in splits.values())
        raise RequestError(
            f"{folder} contains the folder {names}, but none that is named"
            f" {' or '.join(SPLIT_NAMES[split])}",
            f"give the folder of the images itself, such as {next(iter(splits.values()))}",
        )
    return splits.get(split, folder)
