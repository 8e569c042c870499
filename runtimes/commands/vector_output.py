"""The results of tinyvit-predict for files that return embeddings or feature maps."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ImageError, RequestError
from tinyvit.files.file_io import explain_os_error, refuse_existing, write_atomically
from tinyvit.runtimes.commands.image_items import ImageItem, pair_results
from tinyvit.text.safe_text import print_error, print_lines

if TYPE_CHECKING:
    from tinyvit.outputs import OutputKind
    from tinyvit.runtimes.encoder import Encoder

MAX_OUTPUT_BYTES = 2**31
"""Largest file of embeddings or feature maps, in bytes, because all of it is in memory before it is
written."""


def write_embeddings(
    encoder: Encoder, items: Sequence[ImageItem], path: Path | None, arguments: argparse.Namespace
) -> int:
    """Write the embeddings of all images to an .npy file, or print them as JSON.

    Args:
        encoder: The opened file.
        items: The images.
        path: File to write: float32 (N, D), where the row of an unreadable image is NaN. None
            prints the embeddings.
        arguments: The parsed command line of tinyvit-predict.

    Returns:
        The exit code: 1 if any image could not be read.
    """
    size = encoder.size
    _check_bytes(len(items) * size)

    def embed_each(paths: Iterable[Path]) -> Iterator[npt.NDArray[np.float32] | ImageError]:
        return encoder.embed_each(paths, l2_normalize=arguments.l2_normalize)

    records: list[dict[str, Any]] = []
    rows: list[npt.NDArray[np.float32]] = []
    for item, result in pair_results(items, embed_each):
        if isinstance(result, ImageError):
            records.append(_report_error(item, result))
            rows.append(np.full(size, np.nan, np.float32))
            continue
        records.append({"image": item.name})
        rows.append(result)
        if path is None:
            records[-1]["embedding"] = result.tolist()
    if path is not None:
        buffer = io.BytesIO()
        array = np.array(rows, np.float32).reshape(len(rows), size)
        np.save(buffer, array, allow_pickle=False)
        _write(path, buffer.getvalue())
    _print_records(arguments, path, records)
    return _choose_exit_code(records)


def write_features(
    encoder: Encoder, items: Sequence[ImageItem], path: Path, arguments: argparse.Namespace
) -> int:
    """Write the feature maps of all images to an .npz file.

    Args:
        encoder: The opened file.
        items: The images.
        path: File to write, with one array for each output: float32, where the maps of an
            unreadable image are NaN.
        arguments: The parsed command line of tinyvit-predict.

    Returns:
        The exit code: 1 if any image could not be read.
    """
    shapes = {spec.name: tuple(map(int, spec.shape[1:])) for spec in encoder.outputs}
    _check_bytes(len(items) * sum(map(prod, shapes.values())))
    records: list[dict[str, Any]] = []
    maps: dict[str, list[npt.NDArray[np.float32]]] = {}
    for item, result in pair_results(items, encoder.features_each):
        if isinstance(result, ImageError):
            records.append(_report_error(item, result))
            result = {key: np.full(shape, np.nan, np.float32) for key, shape in shapes.items()}
        else:
            records.append({"image": item.name})
        for key, feature_map in result.items():
            maps.setdefault(key, []).append(feature_map)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {key: np.stack(values) for key, values in maps.items()}
    np.savez(buffer, **arrays)
    _write(path, buffer.getvalue())
    _print_records(arguments, path, records)
    return _choose_exit_code(records)


def choose_output_path(arguments: argparse.Namespace, kind: OutputKind) -> Path | None:
    """Choose the file to write, and check that it may be written.

    Args:
        arguments: The parsed command line of tinyvit-predict.
        kind: Kind of the outputs, "embedding" or "features".

    Returns:
        The path of -o; None if --json prints embeddings.

    Raises:
        RequestError: The path has another suffix or exists, or was not given.
    """
    is_embedding = kind == "embedding"
    if arguments.output is None:
        if is_embedding and arguments.json:
            return None
        file_name = Path(arguments.file).name
        if is_embedding:
            raise RequestError(
                f"{file_name} returns embeddings, and neither a file for them nor --json was given",
                "give -o FILE.npy, or --json to print them",
            )
        raise RequestError(
            f"{file_name} returns feature maps, and no file for them was given",
            "give -o FILE.npz",
        )
    path = Path(arguments.output).expanduser()
    suffix = ".npy" if is_embedding else ".npz"
    if path.suffix.lower() != suffix:
        raise RequestError(
            f"-o {arguments.output} does not end with {suffix}",
            f"name it {path.with_suffix(suffix)}",
        )
    refuse_existing(path, arguments.overwrite)
    return path


def _check_bytes(value_count: int) -> None:
    """Raise RequestError if float32 values take more than `MAX_OUTPUT_BYTES`."""
    if 4 * value_count > MAX_OUTPUT_BYTES:
        raise RequestError(
            f"the results of all images take {4 * value_count / 2**30:.1f} GiB, and the largest"
            f" file has {MAX_OUTPUT_BYTES >> 30}",
            "give fewer images, or call Encoder in Python, which yields results one by one",
        )


def _write(path: Path, content: bytes) -> None:
    """Write a file; raise RequestError if that is not possible."""
    try:
        write_atomically(path, content)
    except OSError as error:
        reason, remedy = explain_os_error(error)
        raise RequestError(f"{path} cannot be written ({reason})", f"{remedy} (-o)") from error


def _report_error(item: ImageItem, error: ImageError) -> dict[str, Any]:
    """Print why an image could not be read, and return its record."""
    print_error(error)
    return {"image": item.name, "error": str(error)}


def _print_records(
    arguments: argparse.Namespace, path: Path | None, records: list[dict[str, Any]]
) -> None:
    """Print which row belongs to which image, as text or JSON."""
    if arguments.json:
        output: dict[str, Any] = {"artifact": arguments.file, "results": records}
        if path is not None:
            output["output"] = str(path)
        print_lines(json.dumps(output))
        return
    print_lines(f"wrote {path}, one row for each image:")
    for row, record in enumerate(records):
        note = "  (not readable: NaN)" if "error" in record else ""
        print_lines(f"  {row:>6}  {record['image']}{note}")


def _choose_exit_code(records: Sequence[dict[str, Any]]) -> int:
    """Return 1 if an image could not be read."""
    return 1 if any("error" in record for record in records) else 0
