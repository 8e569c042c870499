"""Recognizes URLs that were given where the path of a local file is needed."""

from __future__ import annotations

import re

from tinyvit.errors import RequestError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
"""Matches the beginning of a URL. The scheme has two letters or more; one letter is a Windows
drive."""

_FILE_SCHEME = "file://"


def is_url(text: str) -> bool:
    """Return whether a text begins with a scheme and "://".

    The text must not come from a `Path`, which removes one of the two slashes.
    """
    return _URL.match(text) is not None


def make_url_error(name: str, url: str) -> RequestError:
    """Create the error for a URL that was given instead of a path.

    Args:
        name: The option or argument, such as "--checkpoint".
        url: The URL.

    Returns:
        The error; its remedy tells how to get a path.
    """
    if url.lower().startswith(_FILE_SCHEME):
        remedy = f"leave out {_FILE_SCHEME}"
    else:
        remedy = "give the path of a local file or folder; download a remote file first"
    return RequestError(f"{name} {url} is a URL, and a path is needed", remedy)


def refuse_url(name: str, value: object) -> None:
    """Check that a value is no URL.

    Args:
        name: The option or argument, such as "--checkpoint".
        value: The value, of any type. Only a string can be a URL.

    Raises:
        RequestError: The value is a URL.
    """
    if isinstance(value, str) and is_url(value):
        raise make_url_error(name, value)
