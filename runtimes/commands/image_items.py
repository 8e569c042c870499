"""The images on the command line of tinyvit-predict, and the result for each of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tinyvit.errors import ImageError
from tinyvit.text.safe_text import print_lines
from tinyvit.urls import is_url

Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageItem:
    """One image of the command.

    Attributes:
        name: Its path or URL, for the output.
        source: The file; or why there is none.
        saved_path: File of the annotated image; None if none is written.
    """

    name: str
    source: Path | ImageError
    saved_path: Path | None = None


@contextmanager
def list_image_items(arguments: Sequence[str]) -> Iterator[list[ImageItem]]:
    """List the images, of which those with URLs are downloaded and deleted at the end.

    The number of images in each folder, and what was skipped there, is printed on stderr.

    Args:
        arguments: Paths of images, folders, and URLs.

    Yields:
        The images. A folder without images, and a failed download, give an item with an error.
    """
    from tinyvit.files.staging import temporary_folder

    if not any(map(is_url, arguments)):
        yield _list_arguments(arguments, None)
        return
    with temporary_folder() as downloads:
        yield _list_arguments(arguments, downloads)


def pair_results(
    items: Sequence[ImageItem],
    run_each: Callable[[Iterable[Path]], Iterator[Result | ImageError]],
) -> Iterator[tuple[ImageItem, Result | ImageError]]:
    """Run a model on the images.

    Args:
        items: The images.
        run_each: Yields one result for each path, in the same order.

    Yields:
        Each image with its result, or with the reason why there is none.
    """
    paths = (item.source for item in items if isinstance(item.source, Path))
    results = run_each(paths)
    for item in items:
        if isinstance(item.source, ImageError):
            yield item, item.source
            continue
        result = next(results)
        if isinstance(result, ImageError):
            # A downloaded image has a path that the user does not know.
            result = ImageError(result.cause.replace(str(item.source), item.name), result.remedy)
        yield item, result


def _list_arguments(arguments: Sequence[str], downloads: Path | None) -> list[ImageItem]:
    """List the images; a folder without images, and a failed download, give an error."""
    from tinyvit.data.listing import read_listing
    from tinyvit.runtimes.image_arguments import find_folder

    items: list[ImageItem] = []
    for argument in arguments:
        folder = find_folder(argument)
        try:
            if is_url(argument):
                assert downloads is not None
                items.append(ImageItem(argument, _download(argument, downloads)))
            elif folder is None:
                items.append(ImageItem(argument, Path(argument)))
            else:
                listing = read_listing(folder)
                print_lines(f"{argument}: {listing.describe()}", stream=sys.stderr)
                items += [ImageItem(str(path), path) for path in listing.make_paths()]
        except ImageError as error:
            items.append(ImageItem(argument, error))
    return items


def _download(url: str, folder: Path) -> Path:
    """Download an image to a folder."""
    from tinyvit.images.diagnosis import make_image_url_error
    from tinyvit.runtimes.commands.image_download import download_image, is_downloadable

    if not is_downloadable(url):
        raise make_image_url_error(url)
    path = folder / str(len(list(folder.iterdir())))
    path.write_bytes(download_image(url))
    return path
