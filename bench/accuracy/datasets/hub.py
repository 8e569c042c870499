"""ImageNet from the hub by name, where there is a network: the parquet files of its validation split (extra "bench")."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tinyvit.bench.accuracy.datasets import Dataset, Sample
from tinyvit.errors import MissingDependencyError, RequestError

PREFIX = "hf:"
_SPLIT = "validation"
_COLUMNS = ["image", "label"]
"""As datasets of the hub's "imagefolder" kind have them: {"bytes", "path"}, and an index in the order of WordNet ids."""


def open_hub(repo: str) -> Dataset:
    """The validation split of a dataset such as "ILSVRC/imagenet-1k", which needs its license to be accepted and a login."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingDependencyError.of("huggingface_hub", "bench") from error
    try:
        folder = Path(
            snapshot_download(
                repo, repo_type="dataset", allow_patterns=[f"data/{_SPLIT}-*.parquet"]
            )
        )
    except (
        Exception
    ) as error:  # the hub's, the network's and the file system's errors have no base in common
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
        remedy = "check the name and the network; for a gated dataset accept its terms on the hub, then: hf auth login"
        raise RequestError(f"{repo} cannot be had from the hub ({reason})", remedy) from error
    return from_parquet(sorted(folder.glob(f"data/{_SPLIT}-*.parquet")), repo)


def from_parquet(files: Sequence[Path], name: str) -> Dataset:
    """Parquet files of columns image and label. Only labels are read here; pictures row group by row group when they are asked for."""
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingDependencyError.of("pyarrow", "bench") from error
    samples: list[Sample] = []
    try:
        for file in files:
            table = parquet.ParquetFile(file)
            for group in range(table.num_row_groups):
                labels = table.read_row_group(group, columns=_COLUMNS[1:]).column(0).to_pylist()
                samples += [
                    Sample(
                        f"{file.name}/{group}/{row}",
                        (f"#{int(label)}",),
                        partial(_picture, file, group, row),
                    )
                    for row, label in enumerate(labels)
                ]
    except Exception as error:  # arrow's errors have no base of their own
        raise RequestError(
            f"{name} is not as a hub's dataset of images ({error})"[:300],
            "it must have columns image and label",
        ) from error
    if not samples:
        raise RequestError(
            f"{name} has no {_SPLIT} split", "give a dataset with data/validation-*.parquet"
        )
    return Dataset(f"{len(samples)} pictures, {_SPLIT} of {name}", tuple(samples))


def _picture(file: Path, group: int, row: int) -> bytes:
    cell: Any = _images(file, group)[row].as_py()
    return cell["bytes"] if isinstance(cell, dict) and isinstance(cell.get("bytes"), bytes) else b""


@lru_cache(maxsize=2)
def _images(file: Path, group: int) -> Any:
    import pyarrow.parquet as parquet

    return parquet.ParquetFile(file).read_row_group(group, columns=_COLUMNS[:1]).column(0)
