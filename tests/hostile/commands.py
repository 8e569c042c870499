"""Runs a command of the product in this process, and turns its error message into an exception."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import NoReturn

from tinyvit.errors import RequestError

_UNEXPECTED = ("unexpected ", "report this", "Traceback")
"""Texts that no message about a bad file may contain."""


def run_command(main: Callable[[Sequence[str]], int], arguments: Sequence[object]) -> str:
    """Run a command.

    Args:
        main: The function that runs the command, such as `tinyvit.bench.cli.main`.
        arguments: Its arguments.

    Returns:
        What the command printed on standard output. It is printed here too.

    Raises:
        RequestError: The command printed an error.
        AssertionError: The error is one that says that the product has a bug.
    """
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        exit_code = main([str(argument) for argument in arguments])
    print(output.getvalue(), end="")
    print(errors.getvalue(), end="", file=sys.stderr)
    for text in _UNEXPECTED:
        assert text not in errors.getvalue(), errors.getvalue()
    if exit_code and "error: " in errors.getvalue():
        raise RequestError(errors.getvalue(), "the message contains the remedy")
    assert exit_code in (0, 1), f"the exit code is {exit_code}"
    return output.getvalue()


def parse_strict_json(text: str) -> object:
    """Parse JSON as other programs do, which know neither NaN nor Infinity."""
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise AssertionError(f"the JSON output contains {name}")
