"""Labels from rows of cells: names, and possibly indices and WordNet ids in further columns.

The columns are recognized by their cells and by their titles, if there are any. If that leaves
several possibilities, the table is refused, because a wrong guess would not be noticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tinyvit.labels.imagenet import Label
from tinyvit.labels.label_construction import make_labels, order_by_index
from tinyvit.labels.label_keys import normalize_key

INDEX = re.compile(r"\d{1,9}")
WNID = re.compile(r"n\d{8}")

INDEX_TITLES = frozenset(
    (
        "",
        "index",
        "idx",
        "id",
        "class",
        "class_id",
        "class_idx",
        "class_index",
        "class_number",
        "label",
        "label_id",
        "label_idx",
        "label_index",
        "number",
        "target",
        "key",
    )
)
"""Titles, in lower case and with "_" for spaces, of a column of indices."""

WNID_TITLES = frozenset(("wnid", "synset", "wordnet_id", "class_id", "class", "id", "label", "key"))
"""Titles of a column of WordNet ids."""

NAME_TITLES = frozenset(
    (
        "name",
        "names",
        "label",
        "labels",
        "class",
        "classes",
        "class_name",
        "class_names",
        "label_name",
        "category",
        "text",
        "value",
        "words",
    )
)
"""Titles of a column of names."""

_SCORE_TITLES = frozenset(
    ("score", "scores", "confidence", "conf", "probability", "prob", "logit", "percent")
)
"""Titles of a column of scores. The rows of a table with scores are often in their order."""

_TITLES = INDEX_TITLES | WNID_TITLES | NAME_TITLES
_MAX_UNTITLED_COLUMNS = 3
"""A table with more columns needs a row of titles: an index, a WordNet id and a name are three."""

_UNCLEAR_COLUMNS = (
    "its rows do not all have one column, or all two, and no titles tell which column has the names"
)


def parse_rows(rows: Sequence[Sequence[str]], *, may_have_titles: bool = True) -> tuple[Label, ...]:
    """Return labels from a table.

    Args:
        rows: The cells of each row.
        may_have_titles: Whether the first row can be a row of titles.

    Returns:
        The labels in the order of the indices, or in that of the rows if there are no indices.

    Raises:
        ValueError: The table does not show without doubt which column has the names, or the indices
            are not 0, 1, 2, ...
    """
    rows = [[cell.strip() for cell in row] for row in rows]
    if not rows:
        return ()
    column_count = len(rows[0])
    if column_count > 1:  # spreadsheets may write rows of empty cells
        rows = [row for row in rows if any(row)]
    if any(len(row) != column_count for row in rows):
        raise ValueError(_UNCLEAR_COLUMNS)
    titles: list[str] | None = None
    if rows and may_have_titles and (is_title_row(rows[0]) or _has_index_title(rows)):
        titles, rows = [normalize_key(cell) for cell in rows[0]], rows[1:]
    if not rows:
        return ()
    columns = list(zip(*rows))
    if column_count == 1:
        return make_labels(columns[0])
    return parse_columns(columns, titles)


def is_title_row(row: Sequence[str]) -> bool:
    """Return whether a row seems to contain the titles of columns, one of which has the names.

    Args:
        row: The cells of the first row.
    """
    titles = [normalize_key(cell) for cell in row]
    has_name_title = any(title in NAME_TITLES for title in titles)
    known_count = sum(title in _TITLES for title in titles)
    if len(titles) > 2:  # other titles are allowed beside known ones
        is_certain = known_count > 1 or len(titles) > _MAX_UNTITLED_COLUMNS
        return has_name_title and is_certain and not any(map(INDEX.fullmatch, titles))
    return has_name_title and known_count == len(titles)


def _has_index_title(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row has two titles, one of which is the title of the indices.

    The column below this title, and only this column, must contain only indices. The title of the
    names can then be any text.
    """
    titles, following_rows = [normalize_key(cell) for cell in rows[0]], rows[1:]
    if len(titles) != 2 or not following_rows:
        return False
    indices = [i for i in (0, 1) if all(INDEX.fullmatch(row[i]) for row in following_rows)]
    return len(indices) == 1 and titles[indices[0]] in INDEX_TITLES - {""}


def parse_columns(
    columns: Sequence[tuple[str, ...]], titles: Sequence[str] | None
) -> tuple[Label, ...]:
    """Return labels from the columns of a table.

    Args:
        columns: The cells of each column, without the titles. Empty columns are ignored.
        titles: The titles of the columns in the form of `normalize_key`; None without titles.

    Returns:
        The labels in the order of the indices, or in that of the rows if there are no indices.

    Raises:
        ValueError: As in `parse_rows`.
    """
    filled = [i for i, cells in enumerate(columns) if any(cells)]
    columns = [columns[i] for i in filled]
    titles = [titles[i] for i in filled] if titles is not None else None
    indices = [i for i, cells in enumerate(columns) if all(map(INDEX.fullmatch, cells))]
    wnids = [i for i, cells in enumerate(columns) if all(map(WNID.fullmatch, cells))]
    texts = [i for i in range(len(columns)) if i not in indices and i not in wnids]
    if titles is None:
        if len(columns) > _MAX_UNTITLED_COLUMNS:
            raise ValueError(_UNCLEAR_COLUMNS)
    else:
        indices, wnids, texts = _choose_by_title(titles, indices, wnids, texts)
        indices = _merge_index_columns(indices, columns, titles)
    if not indices:
        refuse_scores(titles or ())
    if max(len(indices), len(wnids), len(texts)) > 1:
        if titles is None and len(columns) == 2:
            reason = "both columns have" if indices else "no column has"
            raise ValueError(f"its indices are not 0, 1, 2, ...: {reason} only numbers")
        raise ValueError(_UNCLEAR_COLUMNS)
    if not texts and not wnids:
        raise ValueError("it has no names")
    names = columns[(texts or wnids)[0]]
    # The column of WordNet ids is also that of the names if there is no other one.
    ids = columns[wnids[0]] if wnids and texts else ("",) * len(names)
    labels = [Label(name, wnid) if wnid else name for name, wnid in zip(names, ids)]
    if indices:
        pairs = list(zip(map(int, columns[indices[0]]), labels))
        if titles is not None:  # a table of images repeats the classes
            pairs = _remove_repetitions(pairs)
        labels = order_by_index(pairs)
    return make_labels(labels)


def refuse_scores(titles: Iterable[str]) -> None:
    """Raise ValueError if one of the titles is that of scores.

    Args:
        titles: The titles of the columns, or the keys of the entries, in the form of
            `normalize_key`.
    """
    title = next((title for title in titles if title in _SCORE_TITLES), None)
    if title is not None:
        raise ValueError(
            f"it has the {title} of each class but no index, so it may be sorted by the {title}"
        )


def _choose_by_title(
    titles: Sequence[str], indices: list[int], wnids: list[int], texts: list[int]
) -> tuple[list[int], list[int], list[int]]:
    """Choose among several columns of the same kind those whose titles fit that kind.

    Args:
        titles: The titles of all columns.
        indices: Numbers of the columns in which all cells are indices.
        wnids: Numbers of the columns in which all cells are WordNet ids.
        texts: Numbers of all other columns.

    Returns:
        The chosen columns of each kind, in the order of the arguments.
    """
    if len(indices) > 1 and not texts and not wnids:
        # The names are numbers too, as in the row "0,7" below the titles "index,name".
        texts = [i for i in indices if titles[i] in NAME_TITLES and titles[i] != "class"]
        indices = [i for i in indices if i not in texts]
    return (
        _narrow(indices, titles, INDEX_TITLES),
        _narrow(wnids, titles, WNID_TITLES),
        _narrow(texts, titles, NAME_TITLES),
    )


def _merge_index_columns(
    indices: list[int], columns: Sequence[tuple[str, ...]], titles: Sequence[str]
) -> list[int]:
    """Return one of several columns of indices with known titles if they state the same.

    A column without a title, in which pandas writes the numbers of the rows, is left out.

    Raises:
        ValueError: Two columns state different indices.
    """
    titled = [i for i in indices if titles[i]]
    if len(indices) < 2 or any(titles[i] not in INDEX_TITLES for i in titled):
        return indices
    for i in titled[1:]:
        if list(map(int, columns[i])) != list(map(int, columns[titled[0]])):
            raise ValueError(
                f"its columns {titles[titled[0]]} and {titles[i]} state different indices"
            )
    return titled[:1]


def _remove_repetitions(pairs: Sequence[tuple[int, str | Label]]) -> list[tuple[int, str | Label]]:
    """Remove pairs of an index and a name that occur several times.

    Raises:
        ValueError: An index has two names.
    """
    names: dict[int, str | Label] = {}
    for index, name in pairs:
        if names.setdefault(index, name) != name:
            first, second = (x.name if isinstance(x, Label) else x for x in (names[index], name))
            raise ValueError(f"the index {index} has two names, {first[:80]!r} and {second[:80]!r}")
    return list(names.items())


def _narrow(columns: list[int], titles: Sequence[str], known_titles: frozenset[str]) -> list[int]:
    """Return those of several columns that have known titles; all columns if none has one."""
    if len(columns) < 2:
        return columns
    titled = [i for i in columns if titles[i] in known_titles]
    return titled or columns
