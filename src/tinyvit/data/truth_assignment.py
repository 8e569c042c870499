"""Finds the entry of a truth file that belongs to each image.

A file name in a truth file may have more or fewer folders than the image has in its dataset, or no
suffix. If that leaves several possible classes for an image, the file is refused.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tinyvit.errors import RequestError

_INDEXED_FOLDERS = 4
"""Images are found by at most this many of their last folders, so that the files of many folders
with equal names are not all compared with each other."""


@dataclass(frozen=True)
class TruthRow:
    """An entry of a truth file.

    Attributes:
        line: Where the entry is, such as "line 3".
        name: The file name in the entry, with "/" as separator, in Unicode's composed form (NFC).
        classes: The correct classes: WordNet ids, labels, or "#7" for class number 7.
    """

    line: str
    name: str
    classes: tuple[str, ...]


def assign_rows(
    names: Sequence[str], rows: Sequence[TruthRow], path: Path
) -> tuple[dict[str, tuple[str, ...]], int]:
    """Find the entry of each image.

    An entry with the same file name (the last component of the path) is preferred to one without a
    suffix, and that one to an entry with another suffix. Among equal ones, the entry that has most
    folders in common with the image is preferred.

    Args:
        names: The names of all images of the dataset, with "/" as separator.
        rows: The entries of the truth file.
        path: The truth file, for error messages.

    Returns:
        The classes of each image, and the number of entries that belong to no image.

    Raises:
        RequestError: Two entries give different classes for one image, which they can name in two
            spellings, such as "val/1.jpg" and "1"; an image has no entry; or one entry can belong
            to several images.
    """
    _refuse_contradictions(rows, path)
    used_rows = _find_rows(names, rows, path)
    # A repetition of a used entry counts as used.
    used_names = {row.name for row in used_rows.values()}
    unused_rows = [row for row in rows if row.name not in used_names]
    _refuse_other_spellings(unused_rows, used_rows, path)
    return {name: row.classes for name, row in used_rows.items()}, len(unused_rows)


def _find_rows(names: Sequence[str], rows: Sequence[TruthRow], path: Path) -> dict[str, TruthRow]:
    """Return the entry of each image, by the name of the image.

    Raises:
        RequestError: An image has no entry, several entries of an image have different classes, or
            one entry can belong to several images.
    """
    find_candidates = _index_rows(rows)
    used_rows: dict[str, TruthRow] = {}
    images_by_row_id: dict[int, str] = {}
    for name in names:
        composed_name = unicodedata.normalize("NFC", name)
        candidates = find_candidates(composed_name)
        if not candidates:
            continue
        row = _choose_row(composed_name, candidates, path)
        if id(row) in images_by_row_id:
            raise RequestError(
                f"{row.line} of the truth file {path} can be about two images,"
                f" {images_by_row_id[id(row)]} and {name}",
                "write the folders of both images into the file, or remove one of the images",
            )
        images_by_row_id[id(row)] = name
        used_rows[name] = row
    missing = [name for name in names if name not in used_rows]
    if missing:
        raise RequestError(
            f"the truth file {path} does not name {len(missing)} of the {len(names)} images,"
            f" such as {missing[0]}",
            "add the images to the file, or remove them from the folder",
        )
    return used_rows


def _index_rows(rows: Sequence[TruthRow]) -> Callable[[str], Sequence[TruthRow]]:
    """Return a function that finds the entries that can belong to an image."""
    indexes: dict[str, dict[object, list[TruthRow]]] = {
        kind: defaultdict(list) for kind in ("path", "folder and file", "file", "stem")
    }
    for row in rows:
        path = PurePosixPath(row.name)
        keys = {
            "path": row.name,
            "folder and file": path.parts[-2:],
            "file": path.name,
            "stem": path.stem,
        }
        for kind, key in keys.items():
            indexes[kind][key].append(row)

    def find_candidates(name: str) -> Sequence[TruthRow]:
        path = PurePosixPath(name)
        lookups = (
            ("path", name),
            ("folder and file", path.parts[-2:]),
            ("file", path.name),
            ("file", path.stem),
            ("stem", path.stem),
        )
        results = (indexes[kind].get(key) for kind, key in lookups)
        return next((candidates for candidates in results if candidates), [])

    return find_candidates


def _refuse_contradictions(rows: Sequence[TruthRow], path: Path) -> None:
    """Raise RequestError if two entries with the same path have different classes."""
    first_rows: dict[str, TruthRow] = {}
    for row in rows:
        first = first_rows.setdefault(row.name, row)
        if first.classes != row.classes:
            raise _make_contradiction_error(row.name, first, row, path)


def _refuse_other_spellings(
    unused_rows: Sequence[TruthRow], used_rows: Mapping[str, TruthRow], path: Path
) -> None:
    """Raise RequestError if an unused entry names an image in another spelling with other classes.

    Args:
        unused_rows: The entries that belong to no image.
        used_rows: The entry of each image, by the name of the image.
        path: The truth file, for error messages.
    """
    images = _index_images(used_rows, unused_rows)
    for row in unused_rows:
        entry = PurePosixPath(row.name)
        same_files: set[str] = set()
        for ending in _list_possible_endings(entry.parts[:-1]):
            # The whole name of an entry can be the stem of an image, even with a dot in it.
            same_files |= {*images.get((entry.name, "", ending), ())}
            same_files |= {*images.get((entry.stem, _unify_suffix(entry), ending), ())}
        common_counts = {
            name: _count_common_folders(name, row.name)
            for name in same_files
            if _have_same_folders(name, row.name)
        }
        most = max(common_counts.values(), default=0)
        nearest = [name for name, count in common_counts.items() if count == most]
        # If an entry can be about several images, it is not certain that it contradicts one.
        if len(nearest) == 1 and used_rows[nearest[0]].classes != row.classes:
            raise _make_contradiction_error(nearest[0], used_rows[nearest[0]], row, path)


def _index_images(
    names: Iterable[str], rows: Sequence[TruthRow]
) -> dict[tuple[str, str, tuple[str, ...]], list[str]]:
    """Index images by their stems, their suffixes and their last folders.

    Args:
        names: The names of the images. Those with other stems than the entries are left out.
        rows: The entries that will be looked up.
    """
    entries = [PurePosixPath(row.name) for row in rows]
    stems = {stem for entry in entries for stem in (entry.name, entry.stem)}
    images: dict[tuple[str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    for name in names:
        image = PurePosixPath(unicodedata.normalize("NFC", name))
        if image.stem not in stems:
            continue
        folders = ("/", *image.parts[:-1])
        for count in range(min(len(folders), _INDEXED_FOLDERS) + 1):
            ending = folders[len(folders) - count :]
            # An entry without a suffix can be about every image with the same stem.
            images[image.stem, "", ending].append(name)
            images[image.stem, _unify_suffix(image), ending].append(name)
    return images


def _list_possible_endings(folders: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the last folders that an image can have if one path may begin with more folders.

    "/" before the folders means that the image has no others.
    """
    last = tuple(folders[-_INDEXED_FOLDERS:])
    return [last, *(("/", *last[len(last) - count :]) for count in range(len(last)))]


def _unify_suffix(path: PurePosixPath) -> str:
    """Return the suffix in lower case, and ".jpg" for every suffix of a JPEG file."""
    suffix = path.suffix.lower()
    return ".jpg" if suffix in (".jpeg", ".jpe") else suffix


def _have_same_folders(first: str, second: str) -> bool:
    """Return whether two paths have the same folders, except that one may begin with more."""
    depth = min(len(PurePosixPath(path).parts) - 1 for path in (first, second))
    return _count_common_folders(first, second) == depth


def _make_contradiction_error(
    name: str, first: TruthRow, second: TruthRow, path: Path
) -> RequestError:
    described = [
        f"{row.line} ({row.name}: {', '.join(c.removeprefix('#') for c in row.classes)})"
        for row in (first, second)
    ]
    return RequestError(
        f"the truth file {path} gives different classes for {name}: {described[0]} and"
        f" {described[1]}",
        "keep the right one of the two",
    )


def _choose_row(name: str, candidates: Sequence[TruthRow], path: Path) -> TruthRow:
    """Return the entry with the most folders in common with an image."""
    most = max(_count_common_folders(name, row.name) for row in candidates)
    best = [row for row in candidates if _count_common_folders(name, row.name) == most]
    for row in best:
        if row.classes != best[0].classes:
            raise _make_contradiction_error(name, best[0], row, path)
    return best[0]


def _count_common_folders(first: str, second: str) -> int:
    """Return how many of the last folders of two paths are equal."""
    pairs = zip(
        reversed(PurePosixPath(first).parts[:-1]), reversed(PurePosixPath(second).parts[:-1])
    )
    count = 0
    for first_folder, second_folder in pairs:
        if first_folder != second_folder:
            break
        count += 1
    return count
