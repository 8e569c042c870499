"""Downloads of images are limited in time and size, and lead only to http and https."""

from __future__ import annotations

import socket
import time

import pytest

from tests.helpers.image_server import Answer, serve
from tinyvit.errors import ImageError
from tinyvit.runtimes.commands.image_download import download_image, is_downloadable, name_download

REMEDY = "download it with a browser, and give the file"


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def find_error(url: str, **limits: float) -> str:
    """Return the message of the error of a download."""
    with pytest.raises(ImageError) as caught:
        download_image(url, **limits)
    return str(caught.value)


def test_a_file_is_downloaded_also_behind_a_redirect() -> None:
    answers = {
        "/cat.jpg": Answer(b"content"),
        "/moved": Answer(status=302, headers={"Location": "/cat.jpg"}),
    }
    with serve(answers) as server:
        assert download_image(f"{server}/cat.jpg?size=large") == b"content"
        assert download_image(f"{server}/moved") == b"content"


def test_errors_of_the_server_are_named() -> None:
    answers = {
        "/file": Answer(status=302, headers={"Location": "file:///etc/passwd"}),
        "/ftp": Answer(status=302, headers={"Location": "ftp://127.0.0.1/cat.jpg"}),
        "/loop": Answer(status=302, headers={"Location": "/loop"}),
    }
    with serve(answers) as server:
        assert find_error(f"{server}/none.jpg") == (
            f"{server}/none.jpg cannot be downloaded (the server answered with the status 404):"
            f" {REMEDY}"
        )
        for path in ("/file", "/ftp", "/loop"):
            error = find_error(f"{server}{path}")
            assert error.startswith(f"{server}{path} cannot be downloaded (")
            assert "root:" not in error


def test_a_file_that_is_too_large_is_not_read_to_its_end() -> None:
    with serve({"/large": Answer(bytes(2**20), repetitions=1000)}) as server:
        assert find_error(f"{server}/large") == (
            f"{server}/large cannot be downloaded (it is larger than 32 MiB): {REMEDY}"
        )


def test_a_file_that_ends_early_is_refused() -> None:
    answers = {
        "/cut.jpg": Answer(b"content", headers={"Content-Length": "8"}),
        "/whole.jpg": Answer(b"content", headers={"Content-Length": "7"}),
    }
    with serve(answers) as server:
        assert find_error(f"{server}/cut.jpg") == (
            f"{server}/cut.jpg cannot be downloaded (the connection ended before the end of the"
            f" file): {REMEDY}"
        )
        assert download_image(f"{server}/whole.jpg") == b"content"


def test_a_server_that_sends_nothing_or_byte_by_byte_is_given_up() -> None:
    with serve({"/slow": Answer(b"x" * 1000, delay_s=0.05)}) as server:
        start_s = time.monotonic()
        error = find_error(f"{server}/slow", timeout_s=0.5)
        assert "did not answer within 0.5 s" in error or "sends too slowly" in error
        assert time.monotonic() - start_s < 10
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/cat.jpg"
        error = find_error(url, answer_timeout_s=0.2)
        assert error == (
            f"{url} cannot be downloaded (the server did not answer within 0.2 s): {REMEDY}"
        )


def test_a_server_that_cannot_be_reached_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = find_error(f"http://127.0.0.1:{port}/cat.jpg")
    assert "refused" in error
    assert find_error("http://").startswith("http:// cannot be downloaded (")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.org/b.jpg", True),
        ("HTTP://a.org", True),
        ("file:///b.jpg", False),
        ("s3://a/b.jpg", False),
        ("http", False),
        ("b.jpg", False),
    ],
)
def test_only_http_and_https_are_downloaded(text: str, expected: bool) -> None:
    assert is_downloadable(text) == expected


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.org/photos/cat.jpg?x=1", "cat.jpg"),
        ("https://a.org/photos/", "photos"),
        ("https://a.org", "a.org"),
        ("https://[", "image"),
        ("https://a.org/a:b*.jpg", "a_b_.jpg"),
        ("https://a.org/x\\y.jpg", "x_y.jpg"),
        ("https://a.org/NUL.jpg", "_NUL.jpg"),
        ("https://a.org/com1", "_com1"),
        ("https://a.org/console.jpg", "console.jpg"),
        ("https://[::1]/", "__1"),
    ],
)
def test_a_download_is_named_after_the_end_of_its_path(url: str, name: str) -> None:
    assert name_download(url) == name
