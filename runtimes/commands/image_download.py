"""Downloads images whose URLs are given to tinyvit-predict, with limits on time and size."""

from __future__ import annotations

import http.client
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from tinyvit import __version__
from tinyvit.errors import ImageError

MAX_DOWNLOAD_BYTES = 32 * 2**20
"""Largest size of a downloaded image. Photographs of phones have 2 to 15 MB."""

ANSWER_TIMEOUT_S = 10.0
"""Longest time in seconds in which a server may send nothing."""

DOWNLOAD_TIMEOUT_S = 60.0
"""Longest time in seconds for one image, with the search of the server's address and redirects."""

_SCHEMES = ("http", "https")
_BLOCK_BYTES = 2**16

_NOT_IN_FILE_NAMES = re.compile(r'[<>:"|?*\\\x00-\x1f]')
"""Characters that file names of Windows may not contain."""

_DEVICE_NAME = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
"""Names that lead to devices on Windows, with any suffix."""


def is_downloadable(text: str) -> bool:
    """Return whether a text is a URL that `download_image` accepts."""
    return text.partition("://")[0].lower() in _SCHEMES and "://" in text


def download_image(
    url: str, timeout_s: float = DOWNLOAD_TIMEOUT_S, answer_timeout_s: float = ANSWER_TIMEOUT_S
) -> bytes:
    """Download a file; whether it is an image is not checked.

    Args:
        url: URL of the scheme http or https. Redirects to other schemes are not followed.
        timeout_s: Longest time in seconds for everything.
        answer_timeout_s: Longest time in seconds in which the server may send nothing.

    Returns:
        The content of the file, at most `MAX_DOWNLOAD_BYTES`.

    Raises:
        ImageError: The server cannot be reached, is too slow, or sends an error or too much.
    """
    results: queue.Queue[bytes | ImageError] = queue.Queue()
    # A server can delay every byte of its answer, and no function of the standard library limits
    # the whole time. The thread ends with the process.
    thread = threading.Thread(
        target=lambda: results.put(_download(url, time.monotonic() + timeout_s, answer_timeout_s)),
        daemon=True,
    )
    thread.start()
    thread.join(timeout_s)
    try:
        result = results.get_nowait()
    except queue.Empty:
        result = _make_timeout_error(url, timeout_s)
    if isinstance(result, ImageError):
        raise result
    return result


def _download(url: str, deadline_s: float, answer_timeout_s: float) -> bytes | ImageError:
    """Download a file, and return its content or the error."""
    try:
        request = urllib.request.Request(
            url, headers={"User-Agent": f"tinyvit-edge/{__version__}", "Accept": "image/*"}
        )
        with _make_opener().open(request, timeout=answer_timeout_s) as answer:
            content = bytearray()
            while block := answer.read(_BLOCK_BYTES):
                content += block
                if len(content) > MAX_DOWNLOAD_BYTES:
                    return _make_error(url, f"it is larger than {MAX_DOWNLOAD_BYTES >> 20} MiB")
                if time.monotonic() > deadline_s:
                    return _make_error(url, "the server sends too slowly")
            if answer.length:  # the rest of the Content-Length
                return _make_error(url, "the connection ended before the end of the file")
    except urllib.error.HTTPError as error:
        return _make_error(url, f"the server answered with the status {error.code}")
    except TimeoutError:
        return _make_timeout_error(url, answer_timeout_s)
    except urllib.error.URLError as error:
        return _make_error(url, str(error.reason))
    # ValueError: the URL has no host or an impossible port.
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _make_error(url, str(error) or type(error).__name__)
    return bytes(content)


def _make_opener() -> urllib.request.OpenerDirector:
    """Make an opener that knows only http and https, so that no redirect leads to a local file."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def name_download(url: str) -> str:
    """Choose a file name for a downloaded image.

    Args:
        url: The URL.

    Returns:
        The last part of the URL's path, or its host. Characters that no file name of Windows may
        contain are replaced by "_", and names of its devices, such as "con", begin with "_".
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "image"
    name = parts.path.rstrip("/").rpartition("/")[2] or parts.hostname or "image"
    name = _NOT_IN_FILE_NAMES.sub("_", name)
    return f"_{name}" if _DEVICE_NAME.match(name) else name


def _make_timeout_error(url: str, timeout_s: float) -> ImageError:
    return _make_error(url, f"the server did not answer within {timeout_s:g} s")


def _make_error(url: str, reason: str) -> ImageError:
    return ImageError(
        f"{url} cannot be downloaded ({reason})", "download it with a browser, and give the file"
    )
