"""Collects failures and warnings for a benchmark record, and shortens messages of other packages.

If one artifact (exported model file) cannot be measured, the others are measured nevertheless.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from tinyvit.errors import RequestError, TinyViTError

_MAX_REASON_CHARACTERS = 200
"""Longest part of another package's error that is shown; such errors can be very long."""


class Failures:
    """A list of the artifacts and baselines that could not be measured, with the reasons.

    Attributes:
        messages: One line per failure: the name of the artifact or baseline, and the reason.
    """

    def __init__(self) -> None:
        """Start with an empty list of failures."""
        self.messages: list[str] = []
        self._first_error: TinyViTError | None = None

    def add(self, name: str, error: TinyViTError) -> None:
        """Add a failure.

        Args:
            name: Path of the artifact, or name of the baseline. The message begins with this name.
            error: The reason.
        """
        self._first_error = self._first_error or error
        begins_with_name = str(error).startswith(name)
        self.messages.append(str(error) if begins_with_name else f"{name}: {error}")

    def make_error(self) -> TinyViTError:
        """Return the error to raise after every measurement has failed.

        At least one failure must have been added before.
        """
        assert self._first_error is not None
        if len(self.messages) == 1:
            return self._first_error
        return RequestError(
            f"all {len(self.messages)} measurements failed; the first one failed because"
            f" {self._first_error.cause}",
            self._first_error.remedy,
        )


def shorten_reason(error: Exception) -> str:
    """Return the first line of another package's error, at most 200 characters of it.

    Args:
        error: The error; the name of its type is returned if it has no message.
    """
    first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return first_line[:_MAX_REASON_CHARACTERS]


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect the messages of all UserWarnings in a `with` block, instead of showing them.

    Warnings of other categories are neither collected nor shown.

    Yields:
        A list, which stays empty until the block ends and then contains the messages.
    """
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught_warnings:
        warnings.simplefilter("always", UserWarning)
        yield messages
    messages += [
        str(warning.message)
        for warning in caught_warnings
        if issubclass(warning.category, UserWarning)
    ]
