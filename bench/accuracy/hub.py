"""Reads labeled images from datasets of the Hugging Face Hub (extra "bench").

The parquet files of the validation split are read. As in all "imagefolder" datasets of the Hub,
their column "image" has values {"bytes", "path"}, and their column "label" has class numbers
(ImageNet-1k's numbers if the model's labels have WordNet ids).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tinyvit.data.dataset import Dataset, DatasetLocation, Sample, open_dataset
from tinyvit.errors import MissingDependencyError, RequestError

PREFIX = "hf:"
"""Prefix of --data that selects a dataset of the Hub."""
_SPLIT = "validation"


def open_labeled_images(location: DatasetLocation) -> Dataset:
    """List the labeled images of a local folder or .tar file, or of a Hub dataset ("hf:REPO").

    Args:
        location: The data, the truth file, and the number of images.

    Raises:
        RequestError: The location is invalid (see `tinyvit.data.dataset.open_dataset`), or the
            dataset cannot be downloaded.
        ImageError: A folder cannot be read, or has no images.
        MissingDependencyError: The data needs a package that is not installed.
    """
    return open_dataset(location, {PREFIX: open_hub_dataset})


def open_hub_dataset(repo: str) -> Dataset:
    """Download the validation split of a Hub dataset, or take it from the local cache of the Hub.

    Args:
        repo: Name of the dataset, such as "ILSVRC/imagenet-1k". To download this one, a user must
            have accepted its terms on the Hub and be logged in.

    Raises:
        RequestError: The dataset cannot be downloaded, or has other columns.
        MissingDependencyError: huggingface_hub or pyarrow is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingDependencyError.for_package("huggingface_hub", extra="bench") from error
    pattern = f"data/{_SPLIT}-*.parquet"
    try:
        folder = snapshot_download(repo, repo_type="dataset", allow_patterns=[pattern])
    # Errors of the Hub, the network and the file system have no common base class.
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

    Only the labels are read here. The image data of a row group is read when one of its images is.

    Args:
        files: Parquet files with the columns "image" and "label".
        name: Name of the dataset in its description and in error messages.

    Raises:
        RequestError: The files have other columns, or no images.
        MissingDependencyError: pyarrow is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependencyError.for_package("pyarrow", extra="bench") from error
    try:
        samples = [
            sample for file in files for sample in _list_samples(file, parquet.ParquetFile(file))
        ]
    except Exception as error:  # errors of pyarrow have no common base class
        raise RequestError(
            f"the dataset {name} does not have the columns of a Hub image dataset ({error})"[:300],
            "give a dataset with the columns image and label",
        ) from error
    if not samples:
        raise RequestError(
            f"the dataset {name} has no {_SPLIT} split",
            "give a dataset with the files data/validation-*.parquet",
        )
    return Dataset(f"{len(samples)} images, {_SPLIT} split of {name}", tuple(samples))


def _list_samples(file: Path, table: Any) -> list[Sample]:
    """List the images of a file. `table` is its pyarrow.parquet.ParquetFile."""
    samples = []
    for group in range(table.num_row_groups):
        labels = table.read_row_group(group, columns=["label"]).column(0).to_pylist()
        for row, label in enumerate(labels):
            name = f"{file.name}/{group}/{row}"
            read = partial(_read_image, file, group, row)
            samples.append(Sample(name, (f"#{int(label)}",), read))
    return samples


def _read_image(file: Path, group: int, row: int) -> bytes:
    """Return the bytes of an image file; b"" (unreadable) if the cell has no bytes."""
    cell: Any = _read_image_column(file, group)[row].as_py()
    data = cell.get("bytes") if isinstance(cell, dict) else None
    return data if isinstance(data, bytes) else b""


@lru_cache(maxsize=2)
def _read_image_column(file: Path, group: int) -> Any:
    """Return the column "image" of a row group, a pyarrow.ChunkedArray."""
    from pyarrow import parquet

    table = parquet.ParquetFile(file).read_row_group(group, columns=["image"])
    return table.column(0)
