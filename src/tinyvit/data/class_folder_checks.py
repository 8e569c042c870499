"""Checks of folders with one subfolder for each class: errors, and notes about what is unusual."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tinyvit.data.image_names import is_image_path
from tinyvit.data.label_matching import normalize_class_name
from tinyvit.data.listing import ImageListing, list_subfolders
from tinyvit.errors import RequestError
from tinyvit.text.plurals import format_count

_COPY = re.compile(r"\s+(?:copy(?:\s*\d+)?|\(\d+\))+$")
"""Matches the end of the name of a copied folder, after `normalize_class_name`."""


def require_filled_class_folders(folder: Path, keys: Iterable[str], listing: ImageListing) -> None:
    """Refuse a folder in which a class folder gives no images.

    Otherwise, a network would be trained or measured without this class, and nothing would show it.

    Args:
        folder: The folder that contains the class folders.
        keys: Paths of the images relative to `folder`, with "/" as separator.
        listing: The listing of `folder`.

    Raises:
        RequestError: A class folder is empty, or is a link that leads to nothing or to a folder
            that another path leads to as well.
    """
    for link in listing.broken_links:
        if link.parent == folder and not is_image_path(link):
            raise RequestError(
                f"the class folder {link.name} of {folder.name} is a link that leads to nothing",
                "correct the link, or remove it",
            )
    filled = {key.partition("/")[0] for key in keys}
    repeated = {link for link in listing.repeated_links if link.parent == folder}
    for name in list_subfolders(folder):
        if name in filled:
            continue
        if folder / name in repeated:
            raise RequestError(
                f"the class folder {name} of {folder.name} is a link to a folder whose images are"
                " already used through another path",
                "give each class a folder of its own, or remove the link",
            )
        raise RequestError(
            f"the class folder {name} of {folder.name} has no images",
            "put images in it, or remove it",
        )


def require_class_level(folder: Path, keys: Sequence[str]) -> None:
    """Refuse a folder if the class folders are one level deeper, inside its only subfolder.

    Args:
        folder: The folder that should contain the class folders.
        keys: Paths of the images relative to `folder`, with "/" as separator.

    Raises:
        RequestError: All images are in several subfolders of one subfolder.
    """
    first_folders = {key.split("/")[0] for key in keys}
    is_nested = all(key.count("/") > 1 for key in keys)
    second_folders = {key.split("/")[1] for key in keys if key.count("/") > 1}
    if len(first_folders) == 1 and is_nested and len(second_folders) > 1:
        inner = folder / next(iter(first_folders))
        raise RequestError(
            f"{folder} has only one class folder, {inner.name}, and all images are in"
            f" {len(second_folders)} folders inside it",
            f"give {inner} if those are the class folders",
        )


def note_inner_folders(keys: Iterable[str]) -> tuple[str, ...]:
    """Write a note about images in folders inside class folders, such as "cat/masks/1.png".

    Args:
        keys: Paths of the images relative to the folder that contains the class folders, with "/"
            as separator.

    Returns:
        The note, a clause for messages, as the only item; () if there are no such images.
    """
    inner_folders = [key.rpartition("/")[0] for key in keys if key.count("/") > 1]
    if not inner_folders:
        return ()
    count = format_count(len(inner_folders), "image")
    verb = "is" if len(inner_folders) == 1 else "are"
    return (
        f"{count} {verb} in folders inside the class folders, such as {min(inner_folders)}, whose"
        " names are not used as classes",
    )


def note_similar_names(names: Iterable[str]) -> tuple[str, ...]:
    """Write a note about class folders that may be of one class, such as "Cat" and "cat - Copy".

    Args:
        names: The names of the class folders.

    Returns:
        The note, a clause for messages, as the only item; () if there are no such folders.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_COPY.sub("", normalize_class_name(name)), []).append(name)
    similar = [group for group in groups.values() if len(group) > 1]
    if not similar:
        return ()
    folders = " and ".join(map(repr, similar[0]))
    return (f"{folders} were read as different classes, although their names are similar",)
