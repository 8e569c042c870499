"""CSV text has one line per row, and no cell that a spreadsheet program evaluates."""

from __future__ import annotations

import csv
import io

import pytest

from tests.helpers.hostile_text import HOSTILE_TEXT, has_control_characters
from tinyvit.text.csv_text import format_csv


def test_cells_are_quoted_where_csv_requires_it() -> None:
    text = format_csv(["class", "images"], [['tabby, "tabby cat"', "3"], ["dog", "0"]])
    assert text == 'class,images\n"tabby, ""tabby cat""",3\ndog,0\n'


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("=cmd()", "'=cmd()"),
        ("-1+1", "'-1+1"),
        (" @x", "' @x"),
        ("a;=b", "a;'=b"),
        ("a-b", "a-b"),
        ("a\nb", "a\\u000ab"),
    ],
)
def test_a_cell_is_no_formula_and_has_no_line_break(cell: str, expected: str) -> None:
    assert format_csv([cell], [[cell]]) == f"{expected}\n{expected}\n"


def test_hostile_text_remains_one_cell() -> None:
    text = format_csv(["class"], [[HOSTILE_TEXT]])
    assert not has_control_characters(text)
    assert [len(row) for row in csv.reader(io.StringIO(text, newline=""))] == [1, 1]
