"""A contact sheet shows each image at its place, with its lines of text below."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.helpers.hostile_text import HOSTILE_TEXT
from tinyvit.images.contact_sheet import ContactSheet

RED, BLUE = (255, 0, 0), (0, 0, 255)


def decode(sheet: ContactSheet) -> Image.Image:
    return Image.open(io.BytesIO(sheet.encode_png()))


def test_images_are_placed_in_rows() -> None:
    sheet = ContactSheet(3, columns=2, caption_lines=1)
    for color in (RED, BLUE, RED):
        sheet.add(Image.new("RGB", (50, 50), color), ["text"])
    image = decode(sheet)
    # Cells of 176 x 198 pixels: a thumbnail of 168, a line of 14 and gaps of 8.
    assert image.size == (2 * 176 + 8, 2 * 198 + 8)
    centers = [(92, 92), (92 + 176, 92), (92, 92 + 198), (92 + 176, 92 + 198)]
    assert [image.getpixel(center) for center in centers] == [RED, BLUE, RED, (255, 255, 255)]


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((10, 5), (8, 50, 176, 134)),  # enlarged
        ((2000, 1000), (8, 50, 176, 134)),  # reduced
        ((3000, 1), (8, 91, 176, 92)),
        ((1, 3000), (91, 8, 92, 176)),
    ],
)
def test_an_image_fits_into_its_cell(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    sheet = ContactSheet(1, columns=5, caption_lines=0)
    sheet.add(Image.new("RGB", size, RED), [])
    is_red = (np.asarray(decode(sheet)) == RED).all(axis=2)
    rows, columns = np.nonzero(is_red)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == box


@pytest.mark.parametrize("line", ["x" * 100_000, HOSTILE_TEXT, "two\nlines", ""])
def test_text_stays_below_its_image(line: str) -> None:
    sheet = ContactSheet(1, columns=1, caption_lines=1)
    sheet.add(Image.new("RGB", (168, 168), RED), [line])
    is_text = (np.asarray(decode(sheet)) != 255).all(axis=2)
    rows, columns = np.nonzero(is_text)
    if line:
        assert rows.min() >= 8 + 168
        assert rows.max() < 8 + 168 + 16
        assert columns.max() < 8 + 168
    assert bool(len(rows)) == bool(line)
