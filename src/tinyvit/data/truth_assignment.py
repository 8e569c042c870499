"""Finds the entry of a truth file that belongs to each image.

A file name in a truth file may have more or fewer folders than the image has in its dataset, or no
suffix. If that leaves several possible classes for an image, the file is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tinyvit.data.composed_names import compose_name
from tinyvit.data.folder_index import FolderIndex
from tinyvit.errors import RequestError


@dataclass(frozen=True, slots=True)
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
        composed_name = compose_name(name)
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
    """Return a function that finds the entries that can belong to an image.

    They are the ones that have most folders in common with it.
    """
    by_path: dict[str, list[TruthRow]] = defaultdict(list)
    by_file: dict[str, list[TruthRow]] = defaultdict(list)
    by_stem: dict[str, list[TruthRow]] = defaultdict(list)
    for row in rows:
        path = PurePosixPath(row.name)
        by_path[row.name].append(row)
        by_file[path.name].append(row)
        by_stem[path.stem].append(row)
    indexes: dict[int, FolderIndex[TruthRow]] = {}

    def find_candidates(name: str) -> Sequence[TruthRow]:
        if name in by_path:
            return by_path[name]
        path = PurePosixPath(name)
        groups = (by_file.get(path.name), by_file.get(path.stem), by_stem.get(path.stem))
        group = next((group for group in groups if group), [])
        if len(group) < 2:
            return group
        if id(group) not in indexes:
            index = indexes[id(group)] = FolderIndex()
            for row in group:
                index.add(PurePosixPath(row.name).parts[:-1], row)
        return indexes[id(group)].find_nearest(path.parts[:-1])

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
    for row in {row.name: row for row in reversed(unused_rows)}.values():
        entry = PurePosixPath(row.name)
        # The whole name of an entry can be the stem of an image, even with a dot in it.
        keys = {(entry.name, ""), (entry.stem, _unify_suffix(entry))}
        matches = [images[key].find_compatible(entry.parts[:-1]) for key in keys if key in images]
        most = max((count for count, _ in matches), default=0)
        nearest = [name for count, names in matches if count == most for name in names]
        # If an entry can be about several images, it is not certain that it contradicts one.
        if len(nearest) == 1 and used_rows[nearest[0]].classes != row.classes:
            raise _make_contradiction_error(nearest[0], used_rows[nearest[0]], row, path)


def _index_images(
    names: Iterable[str], rows: Sequence[TruthRow]
) -> dict[tuple[str, str], FolderIndex[str]]:
    """Index images by their stems and suffixes.

    Args:
        names: The names of the images. Those with other stems than the entries are left out.
        rows: The entries that will be looked up.
    """
    entries = [PurePosixPath(row.name) for row in rows]
    stems = {stem for entry in entries for stem in (entry.name, entry.stem)}
    images: dict[tuple[str, str], FolderIndex[str]] = defaultdict(FolderIndex)
    for name in names:
        image = PurePosixPath(compose_name(name))
        if image.stem in stems:
            # An entry without a suffix can be about every image with the same stem.
            for suffix in {"", _unify_suffix(image)}:
                images[image.stem, suffix].add(image.parts[:-1], name)
    return images


def _unify_suffix(path: PurePosixPath) -> str:
    """Return the suffix in lower case, and ".jpg" for every suffix of a JPEG file."""
    suffix = path.suffix.lower()
    return ".jpg" if suffix in (".jpeg", ".jpe") else suffix


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
    """Return the first of the entries that can belong to an image; all must have equal classes."""
    first = candidates[0]
    for row in candidates:
        if row.classes != first.classes:
            raise _make_contradiction_error(name, first, row, path)
    return first
