"""Reading images from an uncompressed tar file without unpacking it."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

from tinyvit.data.image_names import is_ignored_name, is_image_path
from tinyvit.errors import RequestError

MAX_IMAGE_BYTES = 256 * 2**20
"""A larger image is read as an empty bytes object, whose decoding gives an error that names the
image."""

MAX_MEMBERS = 5_000_000
"""Tar files with more members (files and folders) are refused."""

_MAX_LINK_STEPS = 8
"""Longest chain of links in a tar file."""


def index_tar(path: Path) -> dict[str, Callable[[], bytes]]:
    """List the images in an uncompressed tar file by reading its headers once.

    Hidden and system files and folders are skipped, as in `tinyvit.data.listing`. Links to images
    in the same tar file are followed. Other links are refused: their images would be missing.

    Args:
        path: The tar file.

    Returns:
        A dict, sorted by name. Its keys are the names of the images, with "/" as separator. Its
        values are functions that read the bytes of one image from the tar file. They return an
        empty bytes object if the image is too large or cannot be read.

    Raises:
        RequestError: The file is not an uncompressed tar, has no images or too many members, or
            contains two images of the same name.
    """
    getters: dict[str, Callable[[], bytes]] = {}
    links: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for count, member in enumerate(archive):
                if count >= MAX_MEMBERS:
                    raise RequestError(
                        f"{path} has more than {MAX_MEMBERS} members",
                        "give a tar file of the validation images only",
                    )
                name = member.name.removeprefix("./")
                if _is_relevant_link(member, name):
                    links[name] = _resolve_link(member, name)
                if not _is_image_member(member, name):
                    continue
                if name in getters:
                    raise RequestError(
                        f"{path} contains {name} twice",
                        "give a tar file in which every image has its own name",
                    )
                getters[name] = partial(_read_member, path, member.offset_data, member.size)
    except (OSError, tarfile.TarError, ValueError, EOFError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise RequestError(
            f"{path} cannot be read as an uncompressed .tar file ({reason})",
            "give a folder of images, or an uncompressed .tar file of them",
        ) from error
    _follow_links(getters, links, path)
    if not getters:
        raise RequestError(f"{path} has no images", "give the tar file of the validation images")
    return dict(sorted(getters.items()))


def _is_image_member(member: tarfile.TarInfo, name: str) -> bool:
    """Return whether a member is an image file and is in no hidden or system folder."""
    if not member.isreg() or member.sparse is not None:
        return False
    # The parent folder ".." begins with a period but is not hidden.
    folders = [folder for folder in PurePosixPath(name).parts[:-1] if folder != ".."]
    return is_image_path(Path(name)) and not any(map(is_ignored_name, folders))


def _is_relevant_link(member: tarfile.TarInfo, name: str) -> bool:
    """Return whether a member is a link that may lead to an image or to a folder of images."""
    is_link = member.issym() or member.islnk()
    parts = [part for part in PurePosixPath(name).parts if part != ".."]
    is_hidden = any(map(is_ignored_name, parts))
    return is_link and not is_hidden and (is_image_path(Path(name)) or not Path(name).suffix)


def _resolve_link(member: tarfile.TarInfo, name: str) -> str:
    """Return the name of the member to which a link leads."""
    if member.islnk():
        return member.linkname.removeprefix("./")
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))


def _follow_links(
    getters: dict[str, Callable[[], bytes]], links: dict[str, str], path: Path
) -> None:
    """Add the images to which links lead; raise RequestError for a link that leads elsewhere."""
    for name, target in links.items():
        for _ in range(_MAX_LINK_STEPS):  # links can lead to links
            if target not in links:
                break
            target = links[target]
        if target in getters and name not in getters:
            getters[name] = getters[target]
        elif is_image_path(Path(name)) or not Path(target).suffix:
            raise RequestError(
                f"{path} contains the link {name}, which does not lead to an image in the tar file",
                "make the tar file with tar --dereference, which stores the images themselves",
            )


def _read_member(path: Path, offset: int, size: int) -> bytes:
    """Return the bytes of one member, or b"" if it is too large or cannot be read."""
    if size > MAX_IMAGE_BYTES:
        return b""
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(size) or b""
    except OSError:
        return b""
