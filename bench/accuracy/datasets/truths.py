"""Which class each picture file shows: by its folder, or by a truth file of one of the kinds that ImageNet's come with.

ILSVRC2012_devkit_t12.tar.gz       as downloaded: ground truth and what its numbers mean (needs scipy)
LOC_val_solution.csv               Kaggle's: ImageId,PredictionString, the latter beginning with a WordNet id
*.csv                              a file's name (with or without folder and suffix) and its class: WordNet id, label or index
real.json                          ImageNet-Real's: a list of classes a picture, in order of name; of none, the picture is left out
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tinyvit.bench.accuracy.datasets import Dataset, Sample
from tinyvit.bench.accuracy.datasets.files import Files
from tinyvit.errors import MissingDependencyError, RequestError

MAX_BYTES = 64 * 2**20
KINDS = "give --truth ILSVRC2012_devkit_t12.tar.gz, LOC_val_solution.csv, a .csv of file and class, or ImageNet-Real's real.json"
_HEADS = ("imageid", "image", "file", "filename", "name", "path")


def labeled(files: Files, name: str, truth: Path | None) -> Dataset:
    """The files with their classes. Raises RequestError where a class has no picture, or a picture no class."""
    if truth is not None:
        return _by_truth(files, name, truth)
    loose = [each for each in files.pictures if "/" not in each]
    if loose:
        raise RequestError(
            f"{len(loose)} of the {len(files.pictures)} pictures in {name} are in no class folder, such as {loose[0]}",
            KINDS,
        )
    if files.empty:
        raise RequestError(
            f"the class folder {files.empty[0]} of {name} has no pictures",
            "fill it, or take it away",
        )
    samples = tuple(
        Sample(each, (_class_folder(each),), picture) for each, picture in files.pictures.items()
    )
    return Dataset(f"{len(samples)} pictures in class folders of {name}", samples)


def _class_folder(name: str) -> str:
    """The first folder on the way, but the last where all is in one called as a split is."""
    parts = name.split("/")[:-1]
    return (
        parts[1]
        if len(parts) > 1 and parts[0].lower() in ("val", "validation", "test", "train")
        else parts[0]
    )


def _by_truth(files: Files, name: str, truth: Path) -> Dataset:
    if not truth.is_file():
        raise RequestError(f"{truth} does not exist", KINDS)
    ordered = list(files.pictures)
    if truth.name.endswith((".tar.gz", ".tgz")):
        classes = _in_order(ordered, _devkit(truth), truth)
    elif truth.suffix.lower() == ".json":
        classes = _in_order(ordered, _real(truth), truth)
    elif truth.suffix.lower() == ".csv":
        classes = _csv(ordered, truth)
    else:
        raise RequestError(f"{truth} is of no known kind", KINDS)
    samples = tuple(
        Sample(each, classes[each], picture)
        for each, picture in files.pictures.items()
        if classes[each]
    )
    left = len(ordered) - len(samples)
    note = f", {left} left out that it gives no class" if left else ""
    return Dataset(f"{len(samples)} pictures of {name}, classes by {truth.name}{note}", samples)


def _in_order(
    names: Sequence[str], classes: Sequence[tuple[str, ...]], truth: Path
) -> dict[str, tuple[str, ...]]:
    if len(names) != len(classes):
        raise RequestError(
            f"{truth} is of {len(classes)} pictures, there are {len(names)}",
            "give all pictures that it was made for, or a .csv by name",
        )
    return dict(zip(names, classes))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read ({error})", KINDS) from error


def _real(path: Path) -> list[tuple[str, ...]]:
    try:
        rows = json.loads(_text(path))
        if not isinstance(rows, list) or not all(
            isinstance(row, list) and all(type(index) is int for index in row) for row in rows
        ):
            raise ValueError("it is no list of lists of whole numbers")
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not as ImageNet-Real's labels ({error})", KINDS) from error
    return [tuple(f"#{index}" for index in row) for row in rows]


def _csv(names: Sequence[str], path: Path) -> dict[str, tuple[str, ...]]:
    try:
        rows = [row for row in csv.reader(io.StringIO(_text(path)), strict=True) if row]
    except csv.Error as error:
        raise RequestError(f"{path} is no table ({error})", KINDS) from error
    if rows and rows[0][0].strip().lower() in _HEADS:
        rows = rows[1:]
    if not rows or any(len(row) != 2 or not row[1].split() for row in rows):
        raise RequestError(f"{path} has rows of more or less than a file and a class", KINDS)
    known = {
        Path(row[0].strip()).name.rpartition(".")[0] or row[0].strip(): _class(row[1])
        for row in rows
    } | {row[0].strip(): _class(row[1]) for row in rows}
    classes = {
        name: known.get(name) or known.get(Path(name).name) or known.get(Path(name).stem)
        for name in names
    }
    if missing := [name for name, found in classes.items() if found is None]:
        raise RequestError(
            f"{path} does not name {len(missing)} of the {len(names)} pictures, such as {missing[0]}",
            "add them, or take them away",
        )
    return {name: (found or "",) for name, found in classes.items()}


def _class(cell: str) -> str:
    """A class as typed; Kaggle's is followed by a box of four numbers for each object."""
    words = cell.split()
    if len(words) % 5 == 0 and words[0][:1] == "n" and words[0][1:].isdigit():
        return words[0]
    text = cell.strip()
    return f"#{text}" if text.isdigit() else text


def _devkit(path: Path) -> list[tuple[str, ...]]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingDependencyError.of("scipy", "bench") from error
    try:
        with tarfile.open(path) as archive:
            numbers = (
                _member(archive, "ILSVRC2012_validation_ground_truth.txt").decode("ascii").split()
            )
            synsets = loadmat(io.BytesIO(_member(archive, "meta.mat")), squeeze_me=True)["synsets"]
        wnids = {int(each["ILSVRC2012_ID"]): str(each["WNID"]) for each in synsets}
        return [(wnids[int(number)],) for number in numbers]
    except (
        Exception
    ) as error:  # a damaged archive or table: the libraries' errors have no base in common
        raise RequestError(
            f"{path} is not as ILSVRC2012's devkit ({type(error).__name__}: {error})"[:300], KINDS
        ) from error


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    for member in archive:
        if member.isreg() and Path(member.name).name == name and member.size <= MAX_BYTES:
            file = archive.extractfile(member)
            assert file is not None
            return file.read()
    raise ValueError(f"it has no {name}")
