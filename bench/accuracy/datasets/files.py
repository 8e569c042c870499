"""Picture files by name, in a folder or in a tar that stays packed."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tinyvit.errors import RequestError
from tinyvit.images import ImageSource, is_image_path, list_images

MAX_PICTURE_BYTES = 256 * 2**20
_MAX_MEMBERS = 5_000_000


@dataclass(frozen=True)
class Files:
    """pictures: relative name, with "/", -> reads it, in order of name. empty: folders right below the top with no picture in them."""

    pictures: dict[str, Callable[[], ImageSource]]
    empty: tuple[str, ...] = ()


def in_folder(folder: Path) -> Files:
    """The pictures in a folder, at any depth; raises ImageError where there are none."""
    found = {path.relative_to(folder).as_posix(): _this(path) for path in list_images(folder)}
    tops = {name.partition("/")[0] for name in found if "/" in name}
    folders = {
        each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")
    }
    return Files(dict(sorted(found.items())), tuple(sorted(folders - tops)) if tops else ())


def in_tar(path: Path) -> Files:
    """The pictures in an uncompressed tar, indexed once and read by their place in it; raises RequestError for anything else."""
    found: dict[str, Callable[[], ImageSource]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for count, member in enumerate(archive):
                if count >= _MAX_MEMBERS:
                    raise RequestError(
                        f"{path} has more than {_MAX_MEMBERS} members",
                        "give the validation images alone",
                    )
                name = member.name.removeprefix("./")
                if not member.isreg() or member.sparse is not None or not is_image_path(Path(name)):
                    continue
                if name in found:
                    raise RequestError(
                        f"{path} has {name} twice",
                        "give a tar in which every picture has its own name",
                    )
                found[name] = partial(_read, path, name, member.offset_data, member.size)
    except FileNotFoundError as error:
        raise RequestError(
            f"{path} does not exist", "give a folder of images, a .tar of them, or hf:REPO"
        ) from error
    except (OSError, tarfile.TarError, ValueError, EOFError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise RequestError(
            f"{path} is no readable .tar ({reason})",
            "give a folder of images, or an uncompressed .tar of them",
        ) from error
    if not found:
        raise RequestError(f"{path} has no pictures in it", "give the tar of the validation images")
    return Files(dict(sorted(found.items())))


def _this(path: Path) -> Callable[[], ImageSource]:
    return lambda: path


def _read(path: Path, name: str, offset: int, size: int) -> bytes:
    """A member's bytes; what is too large, or cut short, is left to the decoder to refuse by its name."""
    if size > MAX_PICTURE_BYTES:
        return b""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            file.seek(offset)
            return file.read(size) or b""
    except OSError:
        return b""
