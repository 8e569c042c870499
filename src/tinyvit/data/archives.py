"""Reading images from an uncompressed tar file without unpacking it."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from tinyvit.data.image_names import is_ignored_name, is_image_path
from tinyvit.data.listing import describe_skipped
from tinyvit.data.tar_members import TAR_ERRORS, iterate_members
from tinyvit.errors import RequestError
from tinyvit.files.regular_files import open_regular_file
from tinyvit.text.plurals import format_count

MAX_IMAGE_BYTES = 256 * 2**20
"""A larger image is read as an empty bytes object, whose decoding gives an error that names the
image."""

_MAX_LINK_STEPS = 8
"""Longest chain of links in a tar file that is followed."""


@dataclass(frozen=True)
class TarListing:
    """The images in a tar file, and what else is in it.

    Attributes:
        getters: A dict, sorted by name. Its keys are the names of the images, with "/" as
            separator. Its values are functions that read the bytes of one image from the tar file.
            They return an empty bytes object if the image is too large or cannot be read.
        notes: Clauses for messages about the members that are not images.
    """

    getters: dict[str, Callable[[], bytes]]
    notes: tuple[str, ...] = ()


@dataclass
class _Members:
    """The members of a tar file, as far as they have been read."""

    path: Path
    getters: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)
    other_count: int = 0

    def add(self, member: tarfile.TarInfo) -> None:
        """Add a member, or count it if it is neither an image nor a link that may lead to one."""
        name = member.name.removeprefix("./")
        entry = _find_ignored_entry(name)
        if entry is not None:
            self.ignored.add(entry)
        elif member.issym() or member.islnk():
            if is_image_path(Path(name)) or not Path(name).suffix:
                self.links[name] = _resolve_link(member, name)
            else:
                self.other_count += 1
        elif member.isreg() and member.sparse is None and is_image_path(Path(name)):
            if name in self.getters:
                raise RequestError(
                    f"{self.path} contains {name} twice",
                    "give a tar file in which every image has its own name",
                )
            self.getters[name] = partial(_read_member, self.path, member.offset_data, member.size)
        elif not member.isdir():
            self.other_count += 1


def index_tar(path: Path) -> TarListing:
    """List the images in an uncompressed tar file by reading its headers once.

    Hidden and system files and folders are skipped, as in `tinyvit.data.listing`. Links to images
    in the same tar file are followed. Other links are refused: their images would be missing.

    Args:
        path: The tar file.

    Raises:
        RequestError: The file is not an uncompressed tar, has no images or too many members, or
            contains two images of the same name.
    """
    members = _Members(path)
    try:
        with open_regular_file(path) as file:
            for member in iterate_members(file):
                members.add(member)
    except TAR_ERRORS as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise RequestError(
            f"{path} cannot be read as an uncompressed .tar file ({reason})",
            "give a folder of images, or an uncompressed .tar file of them",
        ) from error
    link_count = _follow_links(members.getters, members.links, path)
    if not members.getters:
        raise RequestError(f"{path} has no images", "give the tar file of the validation images")
    notes = describe_skipped(len(members.ignored), members.other_count)
    if link_count:
        notes.append(f"followed {format_count(link_count, 'link')}")
    return TarListing(dict(sorted(members.getters.items())), tuple(notes))


def _find_ignored_entry(name: str) -> str | None:
    """Return the path of the hidden or system entry that is the member or contains it.

    None is returned if the member is neither hidden nor in a hidden folder.
    """
    parts = PurePosixPath(name).parts
    for count, part in enumerate(parts, 1):
        # The parent folder ".." begins with a period but is not hidden.
        if part != ".." and is_ignored_name(part):
            return "/".join(parts[:count])
    return None


def _resolve_link(member: tarfile.TarInfo, name: str) -> str:
    """Return the name of the member to which a link leads."""
    if member.islnk():
        return member.linkname.removeprefix("./")
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))


def _follow_links(
    getters: dict[str, Callable[[], bytes]], links: dict[str, str], path: Path
) -> int:
    """Add the images to which links lead, and return their number.

    Raises:
        RequestError: A link leads to no image in the tar file.
    """
    count = 0
    for name, target in links.items():
        for _ in range(_MAX_LINK_STEPS):  # links can lead to links
            if target not in links:
                break
            target = links[target]
        if target in getters and name not in getters:
            getters[name] = getters[target]
            count += 1
        elif is_image_path(Path(name)) or not Path(target).suffix:
            raise RequestError(
                f"{path} contains the link {name}, which does not lead to an image in the tar file",
                "make the tar file with tar --dereference, which stores the images themselves",
            )
    return count


def _read_member(path: Path, offset: int, size: int) -> bytes:
    """Return the bytes of one member, or b"" if it is too large or cannot be read."""
    if size > MAX_IMAGE_BYTES:
        return b""
    try:
        with open_regular_file(path) as file:
            file.seek(offset)
            return file.read(size) or b""
    except OSError:
        return b""
