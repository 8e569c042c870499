"""Reads the labels of a parquet file in another process, which also reads all of its images once.

A few bytes of a parquet file can state gigabytes, because its pages are packed and may refer to one
value many times. pyarrow has no limit on memory, so a file is first read in a process that has one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tinyvit.files.regular_files import check_regular_file
from tinyvit.labels import MAX_CLASSES
from tinyvit.processes.limited_function import ProcessLimits, call_in_process

MAX_ROWS = 500_000
"""Largest number of images in a file. A file of a dataset of the Hub usually has some thousand."""

LIMITS = ProcessLimits(memory_bytes=4 * 2**30, seconds=600)
"""Limits on the process. Files of the Hub have half a gigabyte, in row groups of at most about 100
MB, and reading such a file takes seconds."""


def read_labels(path: Path) -> list[list[int]]:
    """Read the class numbers of all images in a file, and check that the images can be read.

    Args:
        path: A parquet file with the columns "image" and "label".

    Returns:
        For each row group (a block of rows), the class number of each row.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is damaged, or exceeds a limit of this module.
    """
    check_regular_file(path)
    result = call_in_process(read_all_groups, os.fsencode(path.absolute()), LIMITS)
    groups: list[list[int]] = json.loads(result)
    return groups


def read_all_groups(path: bytes) -> bytes:
    """Read all row groups of a file; the other process calls this function.

    Args:
        path: Path of the file, as the file system encodes it.

    Returns:
        The result of `read_labels` as JSON.

    Raises:
        Exception: pyarrow cannot read the file, or it has too many rows or a wrong label.
    """
    from pyarrow import parquet

    file = parquet.ParquetFile(os.fsdecode(path))
    if file.metadata.num_rows > MAX_ROWS:
        raise ValueError(f"it has {file.metadata.num_rows:,} rows, more than {MAX_ROWS:,}")
    groups = []
    for group in range(file.num_row_groups):
        labels = file.read_row_group(group, columns=["label"]).column(0).to_pylist()
        file.read_row_group(group, columns=["image"]).column(0)
        groups.append([_check_label(label) for label in labels])
    return json.dumps(groups).encode()


def _check_label(label: Any) -> int:
    """Return a class number; raise an error if it is none."""
    if not isinstance(label, int) or not 0 <= label < MAX_CLASSES:
        raise ValueError(f"a label is not a number from 0 to {MAX_CLASSES - 1}")
    return label
