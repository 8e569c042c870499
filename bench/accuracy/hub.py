"""Reads labeled images from datasets of the Hugging Face Hub.

The extra "bench" installs the packages that this module imports. The parquet files of a dataset's
validation split are read. As in all "imagefolder" datasets of the Hub, the column "image" of these
files has values {"bytes", "path"}, and the column "label" has class numbers. For a model whose
labels have WordNet ids, these must be the class numbers of ImageNet-1k. For any other model, they
must be positions in the model's list of labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tinyvit.bench.accuracy.parquet_files import read_labels
from tinyvit.bench.failures import shorten_reason
from tinyvit.data.dataset import Dataset, DatasetLocation, Sample, open_dataset
from tinyvit.errors import MissingDependencyError, RequestError

PREFIX = "hf:"
"""With this prefix, the value of --data is the name of a dataset of the Hub."""
_SPLIT = "validation"
_MAX_CAUSE_CHARACTERS = 300
"""Longest message that contains an error of pyarrow; such errors can be very long."""


def open_labeled_images(location: DatasetLocation) -> Dataset:
    """List the labeled images of a local folder or .tar file, or of a Hub dataset ("hf:REPO").

    Args:
        location: The data, the truth file (which lists the class of each image), and the number of
            images.

    Raises:
        RequestError: The location cannot be understood, as in `tinyvit.data.dataset.open_dataset`,
            or the dataset cannot be downloaded.
        ImageError: A folder cannot be read, or has no images.
        MissingDependencyError: The data needs a package that is not installed.
    """
    return open_dataset(location, {PREFIX: open_hub_dataset})


def open_hub_dataset(repo: str) -> Dataset:
    """Download the validation split of a Hub dataset, or use the copy in the Hub's local cache.

    Args:
        repo: Name of the dataset, such as "ILSVRC/imagenet-1k". Before downloading ImageNet, a user
            must accept its terms on the Hub and log in.

    Raises:
        RequestError: The dataset cannot be downloaded, or does not have the columns "image" and
            "label".
        MissingDependencyError: huggingface_hub or pyarrow is not installed.
    """
    for package in ("huggingface_hub", "pyarrow"):  # both, before anything is downloaded
        if find_spec(package) is None:
            raise MissingDependencyError.for_package(package, extra="bench")
    from huggingface_hub import snapshot_download

    pattern = f"data/{_SPLIT}-*.parquet"
    try:
        folder = snapshot_download(repo, repo_type="dataset", allow_patterns=[pattern])
    # Errors of the Hub, the network and the file system have no common base class.
    except Exception as error:
        raise RequestError(
            f"the dataset {repo} cannot be downloaded from the Hub ({shorten_reason(error)})",
            "check the name and the network; if access to the dataset is restricted, accept its"
            " terms on the Hub, then run: hf auth login",
        ) from error
    return read_parquet_dataset(sorted(Path(folder).glob(pattern)), repo)


def read_parquet_dataset(files: Sequence[Path], name: str) -> Dataset:
    """List the labeled images of parquet files.

    The labels are read here, in another process, which also tries to read the images. The images of
    a row group (a block of rows of a parquet file) are read again, together, when the first of them
    is needed.

    Args:
        files: Parquet files with the columns "image" and "label".
        name: Name of the dataset in its description and in error messages.

    Raises:
        RequestError: The files do not have these columns, or have no images.
        MissingDependencyError: pyarrow is not installed.
    """
    try:
        import pyarrow  # noqa: F401 (needed by another process)
    except ImportError as error:
        raise MissingDependencyError.for_package("pyarrow", extra="bench") from error
    try:
        samples = [sample for file in files for sample in _list_samples(file, read_labels(file))]
    except (OSError, ValueError) as error:
        cause = f"the dataset {name} does not have the columns of a Hub image dataset ({error})"
        raise RequestError(
            cause[:_MAX_CAUSE_CHARACTERS],
            "give a dataset with the columns image and label",
        ) from error
    if not samples:
        raise RequestError(
            f"the dataset {name} has no {_SPLIT} split",
            "give a dataset with the files data/validation-*.parquet",
        )
    return Dataset(f"{len(samples)} images, {_SPLIT} split of {name}", tuple(samples))


def _list_samples(file: Path, groups: Sequence[Sequence[int]]) -> list[Sample]:
    """List the images of a parquet file.

    Args:
        file: Path of the file.
        groups: The class numbers of the rows of each row group.
    """
    samples = []
    for group, labels in enumerate(groups):
        for row, label in enumerate(labels):
            name = f"{file.name}/{group}/{row}"
            read = partial(_read_image, file, group, row)
            class_name = f"#{label}"  # how `Sample.classes` states a class number
            samples.append(Sample(name, (class_name,), read))
    return samples


def _read_image(file: Path, group: int, row: int) -> bytes:
    """Return the content of an image file; b"" (an unreadable image) if the cell has no bytes."""
    cell: Any = _read_image_column(file, group)[row].as_py()
    data = cell.get("bytes") if isinstance(cell, dict) else None
    return data if isinstance(data, bytes) else b""


@lru_cache(maxsize=2)
def _read_image_column(file: Path, group: int) -> Any:
    """Return the column "image" of a row group, as a `pyarrow.ChunkedArray`.

    Images are read in order, so that it is enough to keep the last two row groups in memory.
    """
    from pyarrow import parquet

    table = parquet.ParquetFile(file).read_row_group(group, columns=["image"])
    return table.column(0)
