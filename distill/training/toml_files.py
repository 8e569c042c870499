"""Reads and writes TOML. Python has a reader from version 3.11 on, and no writer."""

from __future__ import annotations

import sys
from typing import Any

from tinyvit.errors import MissingDependencyError

if sys.version_info >= (3, 11):
    from tomllib import loads
else:
    from tomli import loads

__all__ = ["dumps", "loads"]


def dumps(tables: dict[str, Any]) -> str:
    """Write tables as TOML.

    Args:
        tables: The tables by name.

    Returns:
        The text of the TOML file.

    Raises:
        MissingDependencyError: tomli_w is not installed.
    """
    try:
        import tomli_w
    except ImportError as error:
        raise MissingDependencyError.for_package("tomli_w", extra="train") from error
    return tomli_w.dumps(tables)
