"""Text of strangers stays plain text in Markdown."""

from __future__ import annotations

import pytest

from tests.helpers.hostile_text import HOSTILE_TEXT, has_control_characters
from tinyvit.text.markdown_text import escape_markdown, format_markdown_row


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("African elephant", "African elephant"),
        ("a_b*c`d|e[f](g)~h$", "a\\_b\\*c\\`d\\|e\\[f\\](g)\\~h\\$"),
        ("<script>&amp;", "&lt;script&gt;&amp;amp;"),
        ("back\\slash", "back\\\\slash"),
        ("two\nlines\tand  spaces", "two lines and spaces"),
        ("https://evil.org", "https\\://evil.org"),
        ("see www.evil.org, WWW.EVIL.ORG", "see www\\.evil.org, WWW\\.EVIL.ORG"),
        ("me@evil.org", "me\\@evil.org"),
        ("\x1b[2J", "\\\\u001b\\[2J"),
    ],
)
def test_markup_is_escaped(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped


def test_hostile_text_has_no_control_characters() -> None:
    assert not has_control_characters(escape_markdown(HOSTILE_TEXT))


def test_a_cell_cannot_end_its_row() -> None:
    assert format_markdown_row(("a|b", "c\nd")) == "| a\\|b | c d |"
