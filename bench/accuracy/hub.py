"""Labeled images of the Hugging Face Hub, beside the local ones of `tinyvit.data`.

A dataset of the Hub is read from the parquet files of its validation split (extra "bench"). They
have a column "image" of {"bytes", "path"} and a column "label" of class numbers in the order of
WordNet ids, as the Hub's "imagefolder" datasets do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tinyvit.data.dataset import Dataset, DatasetLocation, Sample, open_dataset
from tinyvit.errors import MissingDependencyError, RequestError

PREFIX = "hf:"
_SPLIT = "validation"


def open_labeled_images(location: DatasetLocation) -> Dataset:
    """List the labeled images of a location on this machine or, as "hf:REPO", of the Hub.

    Args:
        location: The data, the truth file, and the number of images.

    Raises:
        RequestError: The location cannot be understood (see `tinyvit.data.dataset.open_dataset`),
            or the dataset cannot be downloaded.
        ImageError: A folder cannot be read, or has no images.
        MissingDependencyError: The data needs a package that is not installed.
    """
    return open_dataset(location, {PREFIX: open_hub_dataset})


def open_hub_dataset(repo: str) -> Dataset:
    """Download the validation split of a dataset of the Hub, unless it is in the Hub's cache.

    Args:
        repo: Name of the dataset, such as "ILSVRC/imagenet-1k", whose terms must be accepted on
            the Hub before it can be downloaded with a login.

    Raises:
        RequestError: The dataset cannot be downloaded, or has other columns.
        MissingDependencyError: huggingface_hub or pyarrow is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingDependencyError.of("huggingface_hub", "bench") from error
    pattern = f"data/{_SPLIT}-*.parquet"
    try:
        folder = snapshot_download(repo, repo_type="dataset", allow_patterns=[pattern])
    # The errors of the Hub, of the network and of the file system have no common base.
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
        raise RequestError(
            f"the dataset {repo} cannot be downloaded from the Hub ({reason})",
            "check the name and the network; if access to the dataset is restricted, accept its"
            " terms on the Hub, then run: hf auth login",
        ) from error
    return read_parquet_dataset(sorted(Path(folder).glob(pattern)), repo)


def read_parquet_dataset(files: Sequence[Path], name: str) -> Dataset:
    """List the labeled images of parquet files.

    Only the labels are read here. An image is read with its row group when it is needed.

    Args:
        files: Parquet files with the columns "image" and "label".
        name: Name of the dataset, for its description and for errors.

    Raises:
        RequestError: The files have other columns, or no images.
        MissingDependencyError: pyarrow is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependencyError.of("pyarrow", "bench") from error
    try:
        samples = [
            sample for file in files for sample in _list_samples(file, parquet.ParquetFile(file))
        ]
    except Exception as error:  # the errors of pyarrow have no common base
        raise RequestError(
            f"the dataset {name} does not have the form of an image dataset of the Hub ({error})"[
                :300
            ],
            "give a dataset with the columns image and label",
        ) from error
    if not samples:
        raise RequestError(
            f"the dataset {name} has no {_SPLIT} split",
            "give a dataset with the files data/validation-*.parquet",
        )
    return Dataset(f"{len(samples)} images, {_SPLIT} split of {name}", tuple(samples))


def _list_samples(file: Path, table: Any) -> list[Sample]:
    """List the images of a file, which is opened as a pyarrow.parquet.ParquetFile."""
    samples = []
    for group in range(table.num_row_groups):
        labels = table.read_row_group(group, columns=["label"]).column(0).to_pylist()
        for row, label in enumerate(labels):
            name = f"{file.name}/{group}/{row}"
            read = partial(_read_image, file, group, row)
            samples.append(Sample(name, (f"#{int(label)}",), read))
    return samples


def _read_image(file: Path, group: int, row: int) -> bytes:
    """Return the bytes of an image file; b"" if the cell has another form."""
    cell: Any = _read_image_column(file, group)[row].as_py()
    data = cell.get("bytes") if isinstance(cell, dict) else None
    return data if isinstance(data, bytes) else b""


@lru_cache(maxsize=2)
def _read_image_column(file: Path, group: int) -> Any:
    from pyarrow import parquet

    table = parquet.ParquetFile(file).read_row_group(group, columns=["image"])
    return table.column(0)
