"""Explanations of why something is not an image: what it is instead, and what to do about it."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from tinyvit.errors import ImageError
from tinyvit.files.file_io import expand_home, explain_os_error
from tinyvit.images.arrays import describe_array, is_array_like
from tinyvit.install_command import format_packages_command
from tinyvit.urls import is_url

HEAD_BYTES = 512
"""Number of bytes at the beginning of a file that `explain_unknown_format` needs."""

_MAX_NAME_LENGTH = 500
"""Longer strings are not repeated in messages: they are no path, or one that nobody reads."""

_FORMAT_REMEDY = "give a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM file"
_NOT_MISSING = (errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.ESTALE)
"""Numbers of the errors that `os.stat` also raises for files that exist."""

_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]{64,}=*")
_HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())
_HEIF_SUFFIXES = (".heic", ".heif", ".hif")
_AVIF_BRANDS = frozenset(b"avif avis".split())


def describe_source(source: object) -> str:
    """Describe an image for an error message.

    Args:
        source: The object that was passed as an image, of any type.

    Returns:
        Its path if it has one, otherwise its type and size. A text that is too long for a path is
        described by its length and its first characters.
    """
    if isinstance(source, (str, os.PathLike)):
        text = os.fsdecode(source)
        if len(text) <= _MAX_NAME_LENGTH:
            return text
        return f"the text of {len(text)} characters that begins with {text[:40]!r}"
    if isinstance(source, bytes):
        return f"the image of {len(source)} bytes"
    if isinstance(source, Image.Image):
        path = str(getattr(source, "filename", ""))
        return path or f"the {source.mode} image of {source.width} x {source.height}"
    if is_array_like(source):
        return describe_array(source)
    return f"the object of type {type(source).__name__}"


def find_file(source: str | os.PathLike[str]) -> Path:
    """Find the file that a path leads to, and check that it is not empty.

    Args:
        source: The path, or any other text that a caller passed as one. "~" at its beginning is
            the user's home folder.

    Returns:
        The path of an existing file.

    Raises:
        ImageError: There is no such file. The message says what the text is instead, for example a
            URL.
    """
    name = describe_source(source)
    if not name:
        raise ImageError("the path is empty", "give the path of an image file")
    try:
        path = expand_home(os.fsdecode(source))
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise _explain_missing_file(os.fsdecode(source), name, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{name} is a folder", "give the path of an image file")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{name} is not a file", "check the path")
    if status.st_size == 0:
        raise ImageError(f"{name} is empty: 0 bytes", "replace the file")
    return path


def explain_unreadable(name: str, error: OSError) -> ImageError:
    """Return the error for a file that exists and cannot be read.

    Args:
        name: Description of the file.
        error: The error that the operating system raised.
    """
    reason, remedy = explain_os_error(error)
    return ImageError(f"{name} cannot be read ({reason})", remedy)


def is_heif(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of HEIF, the format of iPhone photos.

    Args:
        head: The first `HEAD_BYTES` bytes.
    """
    brands = _read_brands(head)
    return bool(brands & _HEIF_BRANDS) and not brands & _AVIF_BRANDS


def explain_unknown_format(head: bytes, name: str) -> ImageError:
    """Return the error for a file that Pillow cannot identify.

    Args:
        head: The first `HEAD_BYTES` bytes of the file.
        name: Description of the file.
    """
    may_be_heif = is_heif(head) or name.lower().endswith(_HEIF_SUFFIXES)
    if may_be_heif and find_spec("pillow_heif") is None:
        return ImageError(
            f"{name} is a HEIC photo, which Pillow cannot decode by itself",
            f"{format_packages_command('pillow-heif')}, or convert it to JPEG",
        )
    # Pillow registers the decoder of AVIF (in Image.OPEN) even if it was built without the codec,
    # but the encoder (in Image.SAVE) only with it.
    if _read_brands(head) & _AVIF_BRANDS and "AVIF" not in Image.SAVE:
        return ImageError(
            f"{name} is an AVIF image, which this version of Pillow cannot decode",
            f"{format_packages_command('pillow>=11.3')}, or convert it to JPEG",
        )
    for description, is_format, remedy in _OTHER_FORMATS:
        if is_format(head):
            return ImageError(f"{name} is {description}, not an image", remedy)
    return ImageError(f"{name} is not an image, or has an unknown format", _FORMAT_REMEDY)


def _read_brands(head: bytes) -> frozenset[bytes]:
    """Return the format codes (brands) of an ISO media file, such as b"heic"; none for others."""
    if head[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return frozenset(head[start : start + 4] for start in (8, *range(16, end, 4)))


def _starts_with(*prefixes: bytes) -> Callable[[bytes], bool]:
    """Return a function that tells whether a file begins with one of some lower-case prefixes.

    The function ignores a byte order mark, white space before the text, and upper case.
    """

    def is_format(head: bytes) -> bool:
        return head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(prefixes)

    return is_format


def _is_path(head: bytes) -> bool:
    """Return whether the bytes are the path of a file; TensorFlow's datasets have such paths."""
    return len(head) < HEAD_BYTES and b"\0" not in head and os.path.isfile(head)


_OTHER_FORMATS: tuple[tuple[str, Callable[[bytes], bool], str], ...] = (
    (
        "a Git LFS pointer",
        _starts_with(b"version https://git-lfs"),
        "download the file itself with git lfs pull",
    ),
    (
        "a web page",
        _starts_with(b"<!doctype html", b"<html"),
        "download the image itself: the server answered with a page, such as a login or an error",
    ),
    ("an SVG drawing", _starts_with(b"<svg", b"<?xml"), "convert it to PNG"),
    ("a PDF document", _starts_with(b"%pdf"), "convert its pages to PNG"),
    (
        "base64 text",
        _starts_with(b"data:image/", b"/9j/", b"ivborw0kggo"),
        "decode it with base64.b64decode, for a data URL after removing the part up to the comma",
    ),
    ("the path of a file as bytes", _is_path, "give the path as a str: os.fsdecode(path)"),
)
"""Description, test of the first bytes, and remedy, for files that are often taken for images."""


def make_image_url_error(name: str) -> ImageError:
    """Return the error for a URL that was given as an image.

    Args:
        name: The URL, or a description of it.
    """
    return ImageError(
        f"{name} is a URL, not a file", "download it, and give the path or the bytes of the file"
    )


def _explain_missing_file(text: str, name: str, error: OSError | ValueError) -> ImageError:
    """Return the error for a text for which `os.stat` failed with `error`; `name` describes it."""
    if text.startswith("data:"):
        return ImageError(
            f"the data URL of {len(text)} characters is not an image file",
            "give its bytes: base64.b64decode(url.partition(',')[2])",
        )
    if is_url(text):
        return make_image_url_error(name)
    if isinstance(error, ValueError):
        return ImageError(
            f"{name} does not exist, and contains a character that no path may contain",
            "give the path of an image file, or the bytes of an image",
        )
    if error.errno in _NOT_MISSING:
        return explain_unreadable(name, error)
    folder_exists = os.path.isdir(os.path.dirname(text))
    if _BASE64.fullmatch(text.rstrip()) and not folder_exists:
        return ImageError(
            f"{name} is not the path of an image",
            "check the path; if it is base64 text, give its bytes: base64.b64decode(text)",
        )
    if error.errno == errno.ENAMETOOLONG:
        return ImageError(
            f"{name} is not an image: it has {len(text)} characters, which is too long for a path",
            "give the path of an image file, or the bytes of an image",
        )
    return ImageError(f"{name} does not exist", _find_path_remedy(text))


def _find_path_remedy(text: str) -> str:
    """Return what to do about a path that does not exist."""
    if text != text.strip():
        return "the text begins or ends with white space: remove it with strip()"
    if any(char in text for char in "*?["):
        return "give the files that the pattern matches: glob.glob(pattern)"
    return "check the path"
