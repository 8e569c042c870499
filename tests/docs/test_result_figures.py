"""Figures on pages are copies of those in docs/results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from result_figures import fill_figures, list_pages

from tests.helpers.module_graph import ROOT

RESULTS = """\
# A machine

A processor (AVX2), 2 cores; 2026-01-02T03:04:05+00:00; tinyvit-edge 0.1.0.

A sentence about the page.

## Speed of two files

Measured in turns.

| file | ms | ratio |
|---|---|---|
| a | 1.5 | 1 |
| b | 3.0 | 2 |

## Other
"""

# Figures that only a measurement can give. Limits and options of commands are none of them.
HAND_TYPED = re.compile(
    r"\b\d+(?:\.\d+)? ms\b|\b0\.\d\d (?:of|times)\b|\b\d\d\.\d%|\btop-1 (?:of )?\d\d"
)
BLOCK = re.compile(r"<!-- figures: .*?<!-- end of figures -->", re.DOTALL)
CODE = re.compile(r"^```.*?^```|^    .*?$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
MEASURED_FOLDERS = ("results", "lab-notes")
"""Folders of docs/ whose pages are measurements, or dated notes about them."""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with one page of results."""
    (tmp_path / "page.md").write_text(RESULTS)
    return tmp_path


def test_a_block_shows_a_table_with_its_machine_and_date(results: Path) -> None:
    text = 'Before.\n\n<!-- figures: page.md "Speed" -->\nold\n<!-- end of figures -->\nAfter.\n'
    filled = fill_figures(text, results)
    assert filled == (
        'Before.\n\n<!-- figures: page.md "Speed" -->\n\n'
        "Measured on A processor (AVX2), 2 cores on 2026-01-02. Measured in turns.\n\n"
        "| file | ms | ratio |\n|---|---|---|\n| a | 1.5 | 1 |\n| b | 3.0 | 2 |\n\n"
        "<!-- end of figures -->\nAfter.\n"
    )
    assert fill_figures(filled, results) == filled


def test_a_block_can_show_some_columns(results: Path) -> None:
    text = '<!-- figures: page.md "Speed" columns 1 3 -->\n<!-- end of figures -->'
    assert "| file | ratio |\n| --- | --- |\n| a | 1 |\n| b | 2 |\n" in fill_figures(text, results)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('page.md "Size"', "has no section 'Size'"),
        ('page.md "Other"', "the section 'Other' has no table"),
        ('page.md "Speed" columns 4', "the table has no column 4"),
    ],
)
def test_a_block_of_figures_that_do_not_exist_is_refused(
    results: Path, arguments: str, message: str
) -> None:
    text = f"<!-- figures: {arguments} -->\n<!-- end of figures -->"
    with pytest.raises(ValueError, match=message):
        fill_figures(text, results)


@pytest.mark.parametrize("path", list(list_pages()), ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_show_the_present_figures(path: Path) -> None:
    """If this fails, run `python docs/tools/result_figures.py`."""
    text = path.read_text(encoding="utf-8")
    assert fill_figures(text) == text


@pytest.mark.parametrize(
    "path",
    [path for path in list_pages() if path.parent.name not in MEASURED_FOLDERS],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_measured_figure_is_typed_by_hand(path: Path) -> None:
    text = CODE.sub("", BLOCK.sub("", path.read_text(encoding="utf-8")))
    assert HAND_TYPED.findall(text) == []
