"""The work of tinyvit-predict: classes of images, or their embeddings and feature maps."""

from __future__ import annotations

import argparse
import io
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ImageError, RequestError
from tinyvit.files import explain_os_error, refuse_existing, write_atomically
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.text_output import print_predictions
from tinyvit.safe_text import print_error, print_lines
from tinyvit.urls import is_url

if TYPE_CHECKING:
    from tinyvit.runtimes.classifier import Classifier
    from tinyvit.runtimes.encoder import Encoder

MAX_OUTPUT_BYTES = 2**31
"""Largest file of embeddings or feature maps, in bytes, because all of it is in memory before it is
written."""

DEFAULT_TOP_K = 5
"""Number of classes to show for each image."""

NamedImage = tuple[str, Path | ImageError]
"""An image of the command line: its name, and its path or why it cannot be read."""

Opened = TypeVar("Opened")
Result = TypeVar("Result")


def run_predict(arguments: argparse.Namespace) -> int:
    """Classify or encode the images of the command line, and print or write the results.

    Args:
        arguments: The parsed command line of tinyvit-predict.

    Returns:
        The exit code: 1 if any image could not be read.

    Raises:
        TinyViTError: The file cannot be used, or an option does not fit it.
    """
    manifest = read_artifact(arguments.file).manifest
    kind = "logits" if manifest is None else manifest.output_kind
    if kind == "logits":
        _refuse_options(arguments, ("output", "l2_normalize", "overwrite"), "returns logits")
        return _classify(arguments)
    _refuse_options(arguments, ("top_k",), "has no classes")
    if kind == "embedding":
        return _embed(arguments)
    _refuse_options(arguments, ("l2_normalize", "json"), "returns feature maps")
    return _write_features(arguments)


def _refuse_options(arguments: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    """Raise RequestError if an option was given that has no effect on the file."""
    flags = {"output": "-o"}
    for name in names:
        if getattr(arguments, name):
            flag = flags.get(name, f"--{name.replace('_', '-')}")
            raise RequestError(
                f"{flag} has no effect, because {Path(arguments.file).name} {reason}",
                f"leave out {flag}, or give another exported file",
            )


def _classify(arguments: argparse.Namespace) -> int:
    """Print the most probable classes of each image."""
    from tinyvit.runtimes.classifier import Classifier

    def open_classifier(**options: Any) -> Classifier:
        return Classifier(arguments.file, top_k=arguments.top_k or DEFAULT_TOP_K, **options)

    results: list[dict[str, Any]] = []
    with _open_with_warnings(open_classifier, arguments) as classifier:
        images = _list_image_arguments(arguments.images)
        for name, result in _pair_results(images, classifier.predict_each):
            if isinstance(result, ImageError):
                results.append({"image": name, "error": str(result)})
                continue
            predictions = [asdict(prediction) for prediction in result]
            results.append({"image": name, "predictions": predictions})
            if not arguments.json:
                print_predictions(name, result)
    if arguments.json:
        print_lines(json.dumps({"artifact": arguments.file, "results": results}))
    return _choose_exit_code(results)


def _embed(arguments: argparse.Namespace) -> int:
    """Write the embeddings of all images to an .npy file, or print them as JSON."""
    path = _check_output(arguments.output, ".npy", arguments.overwrite)
    if path is None and not arguments.json:
        raise RequestError(
            f"{Path(arguments.file).name} returns embeddings, and neither a file for them nor"
            " --json was given",
            "give -o FILE.npy, or --json to print them",
        )
    results: list[dict[str, Any]] = []
    rows: list[npt.NDArray[np.float32]] = []
    with _open_encoder(arguments) as encoder:
        images = _list_image_arguments(arguments.images)
        size = encoder.size
        _check_bytes(len(images) * size)

        def embed_each(paths: Iterable[Path]) -> Iterator[npt.NDArray[np.float32] | ImageError]:
            return encoder.embed_each(paths, l2_normalize=arguments.l2_normalize)

        for name, result in _pair_results(images, embed_each):
            if isinstance(result, ImageError):
                results.append({"image": name, "error": str(result)})
                rows.append(np.full(size, np.nan, np.float32))
                continue
            results.append({"image": name})
            rows.append(result)
            if path is None:
                results[-1]["embedding"] = result.tolist()
    if path is not None:
        _write(path, _encode_array(np.array(rows, np.float32).reshape(len(rows), size)))
    _print_vectors(arguments, path, results)
    return _choose_exit_code(results)


def _write_features(arguments: argparse.Namespace) -> int:
    """Write the feature maps of all images to an .npz file, one array for each output."""
    path = _check_output(arguments.output, ".npz", arguments.overwrite)
    if path is None:
        raise RequestError(
            f"{Path(arguments.file).name} returns feature maps, and no file for them was given",
            "give -o FILE.npz",
        )
    results: list[dict[str, Any]] = []
    maps: dict[str, list[npt.NDArray[np.float32]]] = {}
    with _open_encoder(arguments) as encoder:
        images = _list_image_arguments(arguments.images)
        shapes = {spec.name: tuple(map(int, spec.shape[1:])) for spec in encoder.outputs}
        _check_bytes(len(images) * sum(map(prod, shapes.values())))
        for name, result in _pair_results(images, encoder.features_each):
            if isinstance(result, ImageError):
                results.append({"image": name, "error": str(result)})
                result = {key: np.full(shape, np.nan, np.float32) for key, shape in shapes.items()}
            else:
                results.append({"image": name})
            for key, feature_map in result.items():
                maps.setdefault(key, []).append(feature_map)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {key: np.stack(values) for key, values in maps.items()}
    np.savez(buffer, **arrays)
    _write(path, buffer.getvalue())
    _print_vectors(arguments, path, results)
    return _choose_exit_code(results)


def _check_output(output: str | None, suffix: str, overwrite: bool) -> Path | None:
    """Return the path of -o, after a check that it has a suffix and may be written."""
    if output is None:
        return None
    path = Path(output).expanduser()
    if path.suffix.lower() != suffix:
        raise RequestError(
            f"-o {output} does not end with {suffix}", f"name it {path.with_suffix(suffix)}"
        )
    refuse_existing(path, overwrite)
    return path


def _check_bytes(value_count: int) -> None:
    """Raise RequestError if float32 values take more than `MAX_OUTPUT_BYTES`."""
    if 4 * value_count > MAX_OUTPUT_BYTES:
        raise RequestError(
            f"the results of all images take {4 * value_count / 2**30:.1f} GiB, and the largest"
            f" file has {MAX_OUTPUT_BYTES >> 30}",
            "give fewer images, or call Encoder in Python, which yields results one by one",
        )


def _encode_array(array: npt.NDArray[np.float32]) -> bytes:
    """Return the content of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    """Write a file; raise RequestError if that is not possible."""
    try:
        write_atomically(path, content)
    except OSError as error:
        reason, remedy = explain_os_error(error)
        raise RequestError(f"{path} cannot be written ({reason})", f"{remedy} (-o)") from error


def _print_vectors(
    arguments: argparse.Namespace, path: Path | None, results: list[dict[str, Any]]
) -> None:
    """Print which row belongs to which image, as text or JSON."""
    if arguments.json:
        record: dict[str, Any] = {"artifact": arguments.file, "results": results}
        if path is not None:
            record["output"] = str(path)
        print_lines(json.dumps(record))
        return
    print_lines(f"wrote {path}, one row for each image:")
    for row, result in enumerate(results):
        note = "  (not readable: NaN)" if "error" in result else ""
        print_lines(f"  {row:>6}  {result['image']}{note}")


def _pair_results(
    images: Sequence[NamedImage],
    run_each: Callable[[Iterator[Path]], Iterator[Result | ImageError]],
) -> Iterator[tuple[str, Result | ImageError]]:
    """Run a model on the images, and yield the name and the result of each; print each error."""
    paths = (image for _name, image in images if isinstance(image, Path))
    # One result for each path, in the same order.
    results = run_each(paths)
    for name, image in images:
        result = next(results) if isinstance(image, Path) else image
        if isinstance(result, ImageError):
            print_error(result)
        yield name, result


def _choose_exit_code(results: Sequence[dict[str, Any]]) -> int:
    """Return 1 if an image could not be read."""
    return 1 if any("error" in result for result in results) else 0


def _open_encoder(arguments: argparse.Namespace) -> Encoder:
    from tinyvit.runtimes.encoder import Encoder

    def open_encoder(**options: Any) -> Encoder:
        return Encoder(arguments.file, **options)

    return _open_with_warnings(open_encoder, arguments)


def _open_with_warnings(open_model: Callable[..., Opened], arguments: argparse.Namespace) -> Opened:
    """Open the file, and print each of its warnings as one line on stderr."""
    with warnings.catch_warnings(record=True) as caught_warnings:
        warnings.simplefilter("always", UserWarning)
        model = open_model(
            engine_name=arguments.runtime,
            device=arguments.device,
            threads=arguments.threads,
            precision=arguments.precision,
            cache=arguments.cache,
            allow_foreign_operators=arguments.allow_foreign_operators,
        )
    for warning in caught_warnings:
        print_lines(f"warning: {warning.message}", stream=sys.stderr)
    return model


def _list_image_arguments(arguments: list[str]) -> list[NamedImage]:
    """List the images, each as (name, path); a folder without images gives (name, error).

    The number of images in each folder, and what was skipped there, is printed on stderr.
    """
    from tinyvit.data.listing import read_listing
    from tinyvit.image_diagnosis import make_image_url_error
    from tinyvit.runtimes.image_arguments import find_folder

    images: list[NamedImage] = []
    for argument in arguments:
        folder = find_folder(argument)
        try:
            if is_url(argument):
                raise make_image_url_error(argument)
            if folder is None:
                images.append((argument, Path(argument)))
                continue
            listing = read_listing(folder)
            print_lines(f"{argument}: {listing.describe()}", stream=sys.stderr)
            images += [(str(file), file) for file in listing.images]
        except ImageError as error:
            images.append((argument, error))
    return images
