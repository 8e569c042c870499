"""Makes names of classes for tables and charts, in which every class needs a name of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tinyvit.errors import MissingDependencyError
from tinyvit.labels import Label
from tinyvit.text.safe_text import escape_text

_ELLIPSIS = "..."


def make_unique_names(labels: Sequence[Label], max_length: int | None = None) -> list[str]:
    """Return a name for each class that no other class has.

    Args:
        labels: The labels of the classes.
        max_length: Largest number of characters of a name. The middle of a longer name is replaced
            by "...", because similar names often differ at their ends. With None, no name is
            shortened.

    Returns:
        The names of the labels without control characters. If several classes have the same name,
        their indices are added, as in "crane #134"; such a name can have more characters.
    """
    names = [shorten_name(escape_text(label.name), max_length) for label in labels]
    counts = Counter(names)
    return [f"{name} #{index}" if counts[name] > 1 else name for index, name in enumerate(names)]


def make_drawable_names(labels: Sequence[Label], max_length: int | None = None) -> list[str]:
    """Return a name for each class that the font of the charts can draw.

    The font has Latin, Greek and Cyrillic letters, for example, but no Chinese characters.

    Args:
        labels: The labels of the classes.
        max_length: Largest number of characters of a name, as for `make_unique_names`.

    Returns:
        The names from `make_unique_names`. A name with characters that the font lacks is replaced
        by the index of the class, as in "class #3".

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    drawable = _list_drawable_characters()
    return [
        name if drawable.issuperset(map(ord, name)) else f"class #{index}"
        for index, name in enumerate(make_unique_names(labels, max_length))
    ]


def find_font() -> Path:
    """Return the font file of the charts, DejaVu Sans, which is a part of matplotlib.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingDependencyError.for_package("matplotlib", extra="train") from error
    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def shorten_name(name: str, max_length: int | None) -> str:
    """Return a name, in which "..." replaces the middle if it is too long.

    Args:
        name: The name.
        max_length: Largest number of characters, at least 5; None for no limit.
    """
    if max_length is None or len(name) <= max_length:
        return name
    tail_length = (max_length - len(_ELLIPSIS)) // 2
    head_length = max_length - len(_ELLIPSIS) - tail_length
    return name[:head_length] + _ELLIPSIS + name[-tail_length:]


@cache
def _list_drawable_characters() -> frozenset[int]:
    """Return the Unicode code points of all characters in the font of the charts."""
    font_file = find_font()
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(font_file)).get_charmap())
