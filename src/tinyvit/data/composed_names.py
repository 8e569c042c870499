"""Converts names to Unicode's composed form (NFC), in bounded time.

macOS stores the names of files in another form than most editors write, so names are compared in
this form.
"""

from __future__ import annotations

import unicodedata

MAX_PART_LENGTH = 256
"""Largest number of characters that are composed together. Python takes quadratic time for many
combining characters in a row. No file system allows longer names."""


def compose_name(name: str) -> str:
    """Return a name in the composed form.

    Args:
        name: A name or a path with "/" as separator. Parts of the path that are longer than
            MAX_PART_LENGTH stay as they are.
    """
    if name.isascii():
        return name
    if len(name) <= MAX_PART_LENGTH:
        return unicodedata.normalize("NFC", name)
    # No character is composed with "/".
    return "/".join(
        unicodedata.normalize("NFC", part) if len(part) <= MAX_PART_LENGTH else part
        for part in name.split("/")
    )
