"""Collecting failures and warnings while the rest is measured, for the record."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from tinyvit.errors import RequestError, TinyViTError


class Failures:
    """Collects what could not be measured, with the reasons, while the rest is measured.

    Attributes:
        lines: One line per failure: the name of what failed, and the reason.
    """

    def __init__(self) -> None:
        """Start with an empty list of failures."""
        self.lines: list[str] = []
        self._first: TinyViTError | None = None

    def add(self, name: str, error: TinyViTError) -> None:
        """Add a failure.

        Args:
            name: Path of an artifact, or name of what was measured beside it. It is put before
                the reason unless the reason begins with it.
            error: The reason.
        """
        self._first = self._first or error
        is_named = str(error).startswith(name)
        self.lines.append(str(error) if is_named else f"{name}: {error}")

    def error(self) -> TinyViTError:
        """Return the error to raise when nothing is left to measure; needs at least one failure."""
        assert self._first is not None
        if len(self.lines) == 1:
            return self._first
        return RequestError(
            f"none of the {len(self.lines)} measurements is possible; the first fails because"
            f" {self._first.cause}",
            self._first.remedy,
        )


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect the texts of the warnings that are meant for users, instead of showing them.

    Yields:
        A list that holds the texts after the block has ended.
    """
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield messages
    messages += [
        str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)
    ]
