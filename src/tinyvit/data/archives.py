"""Reading images from an uncompressed tar file without unpacking it."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

from tinyvit.data.listing import is_ignored_name, is_image_path
from tinyvit.errors import RequestError

MAX_IMAGE_BYTES = 256 * 2**20
"""A larger image is read as zero bytes. Decoding these gives an error that names the image."""

MAX_MEMBERS = 5_000_000
"""Tar files with more members (files and folders) are refused."""


def index_tar(path: Path) -> dict[str, Callable[[], bytes]]:
    """List the images in an uncompressed tar file by reading its headers once.

    Hidden and system files and folders are skipped, as in `tinyvit.data.listing`.

    Args:
        path: The tar file.

    Returns:
        A dict, sorted by name. Its keys are the names of the images, with "/" as separator. Its
        values are functions that read the bytes of one image from the tar file. They return zero
        bytes if the image is too large or cannot be read.

    Raises:
        RequestError: The file is not an uncompressed tar, has no images or too many members, or
            contains two images of the same name.
    """
    getters: dict[str, Callable[[], bytes]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for count, member in enumerate(archive):
                if count >= MAX_MEMBERS:
                    raise RequestError(
                        f"{path} has more than {MAX_MEMBERS} members",
                        "give a tar file of the validation images only",
                    )
                name = member.name.removeprefix("./")
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


def _read_member(path: Path, offset: int, size: int) -> bytes:
    """Return the bytes of one member, or zero bytes if it is too large or cannot be read."""
    if size > MAX_IMAGE_BYTES:
        return b""
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(size) or b""
    except OSError:
        return b""
