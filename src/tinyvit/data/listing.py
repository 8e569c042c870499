"""Listing the image files under a folder. The whole project uses these functions.

Files and folders that are hidden, or that an operating system or a storage device creates, are
skipped. Symbolic links to folders are followed. Each folder is read only once, so cyclic links are
harmless.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from tinyvit.data.image_names import IMAGE_SUFFIXES, is_ignored_name, is_image_name
from tinyvit.errors import ImageError
from tinyvit.text.plurals import format_count

MAX_ENTRIES = 5_000_000
"""Folders with more files and folders, at any depth and with those of links, are refused."""

_KERNEL_FOLDERS = ("/proc/", "/sys/", "/dev/")
"""Links to folders of Linux in which there are no files, but thousands of folders."""


@dataclass(frozen=True)
class ImageListing:
    """The image files under a folder, and what else was found there.

    Attributes:
        folder: The folder.
        keys: The paths of the images relative to the folder, with "/" as separator, sorted folder
            by folder. A string takes a quarter of the memory of a Path, and there may be a million.
        ignored_count: Number of hidden and system files and folders that were skipped.
        other_count: Number of other files that are not images by their names.
        followed_links: Links to folders that were followed.
        repeated_links: Links to folders that had been read before, so they were not read again.
        broken_links: Links that lead to nothing, to themselves, to "/" or to the kernel.
    """

    folder: Path
    keys: tuple[str, ...]
    ignored_count: int
    other_count: int
    followed_links: tuple[Path, ...]
    repeated_links: tuple[Path, ...]
    broken_links: tuple[Path, ...]

    def make_paths(self) -> tuple[Path, ...]:
        """Return the sorted paths of the images, each beginning with the folder."""
        return tuple(Path(self.folder, key) for key in self.keys)

    def describe(self) -> str:
        """Return the number of images and the notes, for messages."""
        return "; ".join((format_count(len(self.keys), "image"), *self.notes))

    @property
    def notes(self) -> tuple[str, ...]:
        """Return clauses for messages about everything that is not an image in a normal folder."""
        notes = describe_skipped(self.ignored_count, self.other_count)
        if self.followed_links:
            count = format_count(len(self.followed_links), "linked folder")
            notes.append(f"followed {count} ({self.followed_links[0].name})")
        if self.repeated_links:
            count = format_count(len(self.repeated_links), "linked folder")
            notes.append(
                f"skipped {count} that had been read before ({self.repeated_links[0].name})"
            )
        if self.broken_links:
            count = format_count(len(self.broken_links), "broken link")
            notes.append(f"skipped {count} ({self.broken_links[0].name})")
        return tuple(notes)


def describe_skipped(ignored_count: int, other_count: int) -> list[str]:
    """Return a clause for messages about the entries that were skipped; [] if there are none.

    Args:
        ignored_count: Number of hidden and system files and folders.
        other_count: Number of other files that are not images by their names.
    """
    skipped = [
        format_count(count, noun, plural)
        for count, noun, plural in (
            (ignored_count, "hidden or system entry", "hidden or system entries"),
            (other_count, "file that is not an image", "files that are not images"),
        )
        if count
    ]
    return [f"skipped {' and '.join(skipped)}"] if skipped else []


def list_images(folder: Path) -> list[Path]:
    """List the image files under a folder, at any depth.

    Args:
        folder: As for `read_listing`.

    Returns:
        The sorted paths of the images, each beginning with `folder`.

    Raises:
        ImageError: A folder cannot be read, or there are no images.
    """
    return list(read_listing(folder).make_paths())


def read_listing(folder: Path) -> ImageListing:
    """List the image files under a folder, at any depth, and count everything else.

    Hidden and system files and folders are skipped. Links to folders are followed, and each folder
    is read once. If a folder can be reached directly and through a link, its direct path is used.
    Links to "/" and to folders of the kernel are not followed.

    Args:
        folder: The folder to search, which may itself be hidden.

    Raises:
        ImageError: A folder cannot be read, or there are no images.
    """
    walk = _Walk(folder)
    try:
        walk.run()
    except OSError as error:
        raise _make_unreadable_error(folder, error) from error
    if not walk.keys:
        raise ImageError(
            f"the folder {folder} has no images{_format_notes(walk.listing().notes)}",
            f"put images in it, whose names end with one of {' '.join(sorted(IMAGE_SUFFIXES))}",
        )
    return walk.listing()


def _make_unreadable_error(folder: Path, error: OSError) -> ImageError:
    return ImageError(
        f"the folder {error.filename or folder} cannot be read ({error.strerror})",
        "check the path and its permissions",
    )


def _format_notes(notes: tuple[str, ...]) -> str:
    return f" ({'; '.join(notes)})" if notes else ""


def list_subfolders(folder: Path) -> list[str]:
    """List the names of the direct subfolders of a folder, including links to folders.

    Args:
        folder: An existing folder.

    Returns:
        The sorted names, without hidden and system folders.

    Raises:
        ImageError: The folder cannot be read.
    """
    try:
        return [
            entry.name
            for entry in _scan(folder)
            if not is_ignored_name(entry.name) and _is_folder(entry)
        ]
    except OSError as error:
        raise _make_unreadable_error(folder, error) from error


class _Walk:
    """Reads a folder and its subfolders. Linked folders are read after all others."""

    def __init__(self, folder: Path) -> None:
        self.keys: list[str] = []
        self._ignored_count = 0
        self._other_count = 0
        self._followed_links: list[Path] = []
        self._repeated_links: list[Path] = []
        self._broken_links: list[Path] = []
        self._visited: set[object] = set()
        self._root = folder
        self._entry_count = 0
        self._links: deque[Path] = deque()

    def run(self) -> None:
        """Read all folders; raise OSError if one cannot be read."""
        self._read_tree(self._root)
        while self._links:
            link = self._links.popleft()
            if _leads_out_of_data(link):
                self._broken_links.append(link)
                continue
            is_new = self._read_tree(link)
            (self._followed_links if is_new else self._repeated_links).append(link)

    def listing(self) -> ImageListing:
        """Return the images and counts that were found."""
        return ImageListing(
            folder=self._root,
            keys=tuple(sorted(self.keys, key=_separate_folders)),
            ignored_count=self._ignored_count,
            other_count=self._other_count,
            followed_links=tuple(sorted(self._followed_links)),
            repeated_links=tuple(sorted(self._repeated_links)),
            broken_links=tuple(sorted(self._broken_links)),
        )

    def _read_tree(self, start: Path) -> bool:
        """Read a folder and the folders in it; return False if it was read before."""
        is_new = _identify_folder(start) not in self._visited
        pending = deque([start])
        while pending:
            current = pending.popleft()
            identity = _identify_folder(current)
            if identity not in self._visited:
                self._visited.add(identity)
                pending.extend(self._read_folder(current))
        return is_new

    def _read_folder(self, folder: Path) -> list[Path]:
        """Collect the files of one folder; return the folders in it that are not links."""
        subfolders: list[Path] = []
        entries = _scan(folder)
        self._entry_count += len(entries)
        if self._entry_count > MAX_ENTRIES:
            raise OSError(errno.E2BIG, f"more than {MAX_ENTRIES} entries", str(self._root))
        prefix = "" if folder == self._root else f"{folder.relative_to(self._root).as_posix()}/"
        for entry in entries:
            if is_ignored_name(entry.name):
                self._ignored_count += 1
            elif _is_folder(entry):
                (self._links if entry.is_symlink() else subfolders).append(folder / entry.name)
            elif entry.is_symlink() and not _leads_to_file(folder / entry.name):
                self._broken_links.append(folder / entry.name)
            # A pipe or a device can have the name of an image.
            elif is_image_name(entry.name) and entry.is_file():
                self.keys.append(f"{prefix}{entry.name}")
            else:
                self._other_count += 1
        return subfolders


def _separate_folders(key: str) -> str:
    """Return a key whose order is that of the names of its folders, whatever they contain."""
    return key.replace("/", "\0")


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """Return the files and folders in a folder, sorted by name."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=_get_entry_name)


def _get_entry_name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; False for a link to itself."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def _leads_to_file(link: Path) -> bool:
    """Return whether the target of a link exists; False for a link to itself."""
    try:
        return link.exists()
    except (OSError, RuntimeError):  # Python before 3.13 raises for some cycles of links.
        return False


def _leads_out_of_data(link: Path) -> bool:
    """Return whether a link leads to all files of the computer, or to folders of the kernel."""
    target = os.path.realpath(link)
    return target == os.path.dirname(target) or f"{target}/".startswith(_KERNEL_FOLDERS)


def _identify_folder(folder: Path) -> object:
    """Return a value that is equal for all paths that lead to the same folder."""
    status = os.stat(folder)
    # Some network file systems report inode 0 for every file. By inode, all folders would then
    # be the same one, so their real paths are compared instead.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)
