"""The command tinyvit-predict: classes of images, or their embeddings and feature maps."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.command_parser import CommandParser
from tinyvit.errors import ImageError, RequestError
from tinyvit.files.file_io import refuse_existing, write_atomically
from tinyvit.progress import make_progress
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.commands.engine_arguments import (
    add_engine_arguments,
    add_file_argument,
    add_streams_argument,
)
from tinyvit.runtimes.commands.image_items import ImageItem, list_image_items, pair_results
from tinyvit.runtimes.commands.text_output import print_predictions
from tinyvit.text.safe_text import print_error, print_lines
from tinyvit.urls import is_url

if TYPE_CHECKING:
    from tinyvit.outputs import OutputKind
    from tinyvit.runtimes.classifier import Classifier
    from tinyvit.runtimes.predictions import Prediction

DEFAULT_TOP_K = 5
"""Number of classes to show for each image."""

Opened = TypeVar("Opened")


def predict(argv: Sequence[str] | None = None, prog: str = "tinyvit-predict") -> int:
    """Run tinyvit-predict.

    Args:
        argv: Command-line arguments; None for those of the process.
        prog: Name of the program in messages.

    Returns:
        Exit code; 1 if any image could not be read.
    """
    arguments = make_predict_parser(prog).parse_args(argv)
    return run_guarded(lambda: _run_predict(arguments))


def make_predict_parser(prog: str) -> CommandParser:
    """Make the parser of tinyvit-predict.

    Args:
        prog: Name of the program in messages.
    """
    parser = make_parser(
        prog,
        "Classify images with a model that tinyvit-export exported. For a file that was exported\n"
        "with --output embedding or --output features, write its vectors or feature maps.\n\n"
        "If an image cannot be read, the others are still processed, and the exit code is 1.",
        f"  {prog} tinyvit_5m.onnx cat.jpg\n"
        f"  {prog} demo https://example.org/cat.jpg --save annotated/\n"
        f"  {prog} tinyvit_5m.xml photos/ --top-k 3 --threads 4 --csv > photos.csv\n"
        f"  {prog} tinyvit_5m.embedding.onnx photos/ -o photos.npy",
    )
    add_file_argument(parser)
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        type=str,  # may be a URL
        help="An image; a folder, of which all images are used and other files are skipped;"
        " or an http or https URL of an image of at most 32 MiB, which is downloaded.",
    )
    parser.add_argument(
        "--top-k",
        type=positive_int,
        metavar="COUNT",
        help=f"Number of classes to show for each image (default: {DEFAULT_TOP_K}).",
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="DIR",
        help="Write each image, with its classes below it, to a .jpg file in this folder.",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace existing files in --save, and -o."
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--json", action="store_true", help="Print one JSON object instead of text."
    )
    output.add_argument(
        "--csv",
        action="store_true",
        help="Print a table with a line for each predicted class instead of text.",
    )
    _add_vector_arguments(parser)
    add_engine_arguments(parser)
    add_streams_argument(parser)
    parser.suggest_option = _suggest_redirection
    return parser


def _suggest_redirection(word: str) -> str | None:
    """Return how a table is written to a file, for a word such as "out.csv"."""
    suffix = Path(word).suffix.lower()
    return f"{suffix.replace('.', '--')} > {word}" if suffix in (".csv", ".json") else None


def _add_vector_arguments(parser: CommandParser) -> None:
    """Add the options for files that return embeddings or feature maps."""
    group = parser.add_argument_group("embeddings and feature maps")
    group.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="File to write. For embeddings, an .npy file with one row of float32 for each image; "
        "for feature maps, an .npz file with one array for each output. The row of an image that "
        "cannot be read is NaN.",
    )
    group.add_argument(
        "--l2-normalize",
        action="store_true",
        help="Divide each embedding by its length, so that dot products are cosine similarities.",
    )


def _run_predict(arguments: argparse.Namespace) -> int:
    from tinyvit.runtimes.commands.model_argument import resolve_model

    is_text = not arguments.json and not arguments.csv
    file = resolve_model(arguments.file, make_progress(json_output=not is_text))
    manifest = read_artifact(file).manifest
    kind: OutputKind = "logits" if manifest is None else manifest.output_kind
    if kind == "logits":
        _refuse_options(arguments, ("output", "l2_normalize"), "returns logits")
        return _classify(file, arguments)
    _refuse_options(arguments, ("top_k", "save", "csv"), "has no classes")
    if kind == "features":
        _refuse_options(arguments, ("l2_normalize", "json"), "returns feature maps")
    return _encode(file, kind, arguments)


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


def _classify(file: str, arguments: argparse.Namespace) -> int:
    """Print the most probable classes of each image."""
    from tinyvit.runtimes.classifier import Classifier
    from tinyvit.runtimes.commands.predict_results import PredictResults
    from tinyvit.runtimes.image_arguments import find_folder

    def open_classifier(**options: Any) -> Classifier:
        return Classifier(file, top_k=arguments.top_k or DEFAULT_TOP_K, **options)

    is_text = not arguments.json and not arguments.csv
    with (
        _open_with_warnings(open_classifier, arguments) as classifier,
        list_image_items(arguments.images) as items,
    ):
        results = PredictResults(arguments.file)
        for item, result in _classify_items(classifier, _choose_saved_paths(items, arguments)):
            results.add(item.name, result)
            if isinstance(result, ImageError):
                print_error(result)
            elif is_text:
                print_predictions(item.name, result)
    if arguments.json:
        print_lines(results.format_json())
    elif arguments.csv:
        print_lines(*results.format_csv())
    if not arguments.json and any(map(find_folder, arguments.images)):
        # The summary is no row of a table.
        stream = sys.stderr if arguments.csv else None
        print_lines(results.format_summary(), stream=stream)
    return 1 if results.has_errors else 0


def _classify_items(
    classifier: Classifier, items: Sequence[ImageItem]
) -> Iterator[tuple[ImageItem, list[Prediction] | ImageError]]:
    """Yield each image with its result, and write its annotated image if there is a path for it."""
    for item, result in pair_results(items, classifier.predict_each):
        if item.saved_path is None or isinstance(result, ImageError):
            yield item, result
            continue
        assert isinstance(item.source, Path)
        yield item, _save(item.source, result, item.saved_path)


def _save(
    source: Path, predictions: list[Prediction], saved_path: Path
) -> list[Prediction] | ImageError:
    """Write the annotated image; return the predictions, or the error if the image has changed."""
    from tinyvit.images.decoding import open_image
    from tinyvit.runtimes.commands.annotated_image import annotate_image

    try:
        image = open_image(source)
    except ImageError as error:
        return error
    write_atomically(saved_path, annotate_image(image, predictions))
    return predictions


def _encode(file: str, kind: OutputKind, arguments: argparse.Namespace) -> int:
    """Write the embeddings or feature maps of all images, or print embeddings as JSON."""
    from tinyvit.runtimes.commands.vector_output import (
        choose_output_path,
        write_embeddings,
        write_features,
    )
    from tinyvit.runtimes.encoder import Encoder

    def open_encoder(**options: Any) -> Encoder:
        return Encoder(file, **options)

    path = choose_output_path(arguments, kind)
    with (
        _open_with_warnings(open_encoder, arguments) as encoder,
        list_image_items(arguments.images) as items,
    ):
        if kind == "embedding" or path is None:
            return write_embeddings(encoder, items, path, arguments)
        return write_features(encoder, items, path, arguments)


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
            streams=arguments.streams,
        )
    for warning in caught_warnings:
        print_lines(f"warning: {warning.message}", stream=sys.stderr)
    return model


def _choose_saved_paths(items: list[ImageItem], arguments: argparse.Namespace) -> list[ImageItem]:
    """Add the paths of annotated images; refuse to replace files unless that is requested."""
    from tinyvit.runtimes.commands.image_download import name_download
    from tinyvit.runtimes.commands.predict_results import choose_saved_names

    folder: Path | None = arguments.save
    if folder is None:
        return items
    names = choose_saved_names(
        [name_download(item.name) if is_url(item.name) else item.name for item in items]
    )
    resolved = folder.resolve()
    chosen = []
    for item, name in zip(items, names):
        if isinstance(item.source, Path) and item.source.resolve().parent == resolved:
            raise RequestError(
                f"--save {folder} is the folder of {item.name}", "give another folder"
            )
        refuse_existing(folder / name, arguments.overwrite)
        chosen.append(replace(item, saved_path=folder / name))
    return chosen
