"""The command tinyvit-predict, which prints the most probable classes of images."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.command_parser import CommandParser
from tinyvit.errors import ImageError, RequestError
from tinyvit.files import refuse_existing, write_atomically
from tinyvit.progress import make_progress
from tinyvit.runtimes.engine_arguments import add_engine_arguments, add_file_argument
from tinyvit.runtimes.text_output import print_predictions
from tinyvit.safe_text import print_error, print_lines
from tinyvit.urls import is_url

if TYPE_CHECKING:
    from tinyvit.runtimes.classifier import Classifier
    from tinyvit.runtimes.predictions import Prediction


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
        "Classify images with a model that tinyvit-export exported.\n\n"
        "If an image cannot be read, the others are still classified, and the exit code is 1.",
        f"  {prog} tinyvit_5m.onnx cat.jpg\n"
        f"  {prog} demo https://example.org/cat.jpg --save annotated/\n"
        f"  {prog} tinyvit_5m.xml photos/ --top-k 3 --threads 4 --csv > photos.csv",
    )
    add_file_argument(parser)
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        type=str,  # may be a URL
        help="An image; a folder, of which all images are classified and other files are skipped;"
        " or an http or https URL of an image of at most 32 MiB, which is downloaded.",
    )
    parser.add_argument(
        "--top-k",
        type=positive_int,
        default=5,
        metavar="COUNT",
        help="Number of classes to show for each image (default: 5).",
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="DIR",
        help="Write each image, with its classes below it, to a .jpg file in this folder.",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace existing files in --save."
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
    add_engine_arguments(parser)
    return parser


@dataclass(frozen=True)
class _ImageItem:
    """One image of the command.

    Attributes:
        name: Its path or URL, for the output.
        source: The file; or why there is none.
        saved_path: File of the annotated image; None if none is written.
    """

    name: str
    source: Path | ImageError
    saved_path: Path | None = None


def _run_predict(arguments: argparse.Namespace) -> int:
    from tinyvit.runtimes.image_arguments import find_folder
    from tinyvit.runtimes.model_argument import resolve_model
    from tinyvit.runtimes.predict_results import PredictResults

    is_text = not arguments.json and not arguments.csv
    file = resolve_model(arguments.file, make_progress(json_output=not is_text))
    with _open_classifier(file, arguments) as classifier, _list_images(arguments) as items:
        results = PredictResults(arguments.file)
        for item, result in _classify(classifier, items):
            results.add(item.name, result)
            if isinstance(result, ImageError):
                print_error(result)
            elif is_text:
                print_predictions(item.name, result)
    if arguments.json:
        print_lines(results.format_json())
    elif arguments.csv:
        print_lines(*results.format_csv())
    elif any(map(find_folder, arguments.images)):
        print_lines(results.format_summary())
    return 1 if results.has_errors else 0


def _classify(
    classifier: Classifier, items: Sequence[_ImageItem]
) -> Iterator[tuple[_ImageItem, list[Prediction] | ImageError]]:
    """Yield each image with its result, and write its annotated image if there is a path for it."""
    paths = (item.source for item in items if isinstance(item.source, Path))
    # One result for each path, in the same order.
    results_of_paths = classifier.predict_each(paths)
    for item in items:
        if isinstance(item.source, ImageError):
            yield item, item.source
            continue
        result = next(results_of_paths)
        if isinstance(result, ImageError):
            # A downloaded image has a path that the user does not know.
            result = ImageError(result.cause.replace(str(item.source), item.name), result.remedy)
        if item.saved_path is not None and not isinstance(result, ImageError):
            result = _save(item.source, result, item.saved_path)
        yield item, result


def _save(
    source: Path, predictions: list[Prediction], saved_path: Path
) -> list[Prediction] | ImageError:
    """Write the annotated image; return the predictions, or the error if the image has changed."""
    from tinyvit.images import open_image
    from tinyvit.runtimes.annotated_image import annotate_image

    try:
        image = open_image(source)
    except ImageError as error:
        return error
    write_atomically(saved_path, annotate_image(image, predictions))
    return predictions


def _open_classifier(file: str, arguments: argparse.Namespace) -> Classifier:
    """Open the classifier, and print each of its warnings as one line on stderr."""
    from tinyvit.runtimes.classifier import Classifier

    with warnings.catch_warnings(record=True) as caught_warnings:
        warnings.simplefilter("always", UserWarning)
        classifier = Classifier(
            file,
            engine_name=arguments.runtime,
            device=arguments.device,
            threads=arguments.threads,
            top_k=arguments.top_k,
            precision=arguments.precision,
            cache=arguments.cache,
            allow_foreign_operators=arguments.allow_foreign_operators,
        )
    for warning in caught_warnings:
        print_lines(f"warning: {warning.message}", stream=sys.stderr)
    return classifier


@contextmanager
def _list_images(arguments: argparse.Namespace) -> Iterator[list[_ImageItem]]:
    """List the images, of which those with URLs are downloaded and deleted at the end.

    The number of images in each folder, and what was skipped there, is printed on stderr.
    """
    from tinyvit.staging import temporary_folder

    if not any(map(is_url, arguments.images)):
        yield _choose_saved_paths(_list_arguments(arguments.images, None), arguments)
        return
    with temporary_folder() as downloads:
        yield _choose_saved_paths(_list_arguments(arguments.images, downloads), arguments)


def _list_arguments(arguments: Sequence[str], downloads: Path | None) -> list[_ImageItem]:
    """List the images; a folder without images, and a failed download, give an error."""
    from tinyvit.data.listing import read_listing
    from tinyvit.runtimes.image_arguments import find_folder

    items: list[_ImageItem] = []
    for argument in arguments:
        folder = find_folder(argument)
        try:
            if is_url(argument):
                assert downloads is not None
                items.append(_ImageItem(argument, _download(argument, downloads)))
            elif folder is None:
                items.append(_ImageItem(argument, Path(argument)))
            else:
                listing = read_listing(folder)
                print_lines(f"{argument}: {listing.describe()}", stream=sys.stderr)
                items += [_ImageItem(str(file), file) for file in listing.images]
        except ImageError as error:
            items.append(_ImageItem(argument, error))
    return items


def _download(url: str, folder: Path) -> Path:
    """Download an image to a folder."""
    from tinyvit.image_diagnosis import make_image_url_error
    from tinyvit.runtimes.image_download import download_image, is_downloadable

    if not is_downloadable(url):
        raise make_image_url_error(url)
    path = folder / str(len(list(folder.iterdir())))
    path.write_bytes(download_image(url))
    return path


def _choose_saved_paths(items: list[_ImageItem], arguments: argparse.Namespace) -> list[_ImageItem]:
    """Add the paths of annotated images; refuse to replace files unless that is requested."""
    from tinyvit.runtimes.image_download import name_download
    from tinyvit.runtimes.predict_results import choose_saved_names

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
        chosen.append(_ImageItem(item.name, item.source, folder / name))
    return chosen
