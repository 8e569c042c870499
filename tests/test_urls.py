"""A URL is not taken for a path, whose second slash would be lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyvit.errors import RequestError
from tinyvit.urls import is_url, refuse_url


@pytest.mark.parametrize("text", ["https://a.org/b.pth", "s3://bucket", "file:///a", "HF+x://a"])
def test_urls_are_recognized(text: str) -> None:
    assert is_url(text)


@pytest.mark.parametrize("text", ["", "a.pth", "C://a", "https:/a", "a/b://c", "hf:repo", "://a"])
def test_paths_are_no_urls(text: str) -> None:
    assert not is_url(text)


def test_a_url_is_refused_with_a_remedy() -> None:
    with pytest.raises(RequestError) as caught:
        refuse_url("--data", "https://a.org/b")
    assert str(caught.value) == (
        "--data https://a.org/b is a URL, and a path is needed: give the path of a local file or"
        " folder; download a remote file first"
    )
    with pytest.raises(RequestError, match=r": leave out file://$"):
        refuse_url("--data", "file:///home/a")


def test_other_values_are_accepted() -> None:
    for value in (None, "a.pth", Path("a.pth"), ["https://a.org"]):
        refuse_url("labels", value)
