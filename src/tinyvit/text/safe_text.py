"""Printing of text that may come from a hostile file, without control characters.

Names of files, labels, keys of JSON objects, names of tensors and messages of exceptions can
contain characters that act instead of being shown: escape sequences that move the cursor, change
the title of the terminal or write to its clipboard; line breaks that imitate another message; and
marks that reverse the order of the following characters. `escape_text` replaces them by visible
text. Everything that this package prints, and every error and report, goes through it.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import traceback
from contextlib import suppress
from typing import TextIO

_SAFE_ON_WINDOWS = re.compile(r"[\w.:/\\=+-]+", re.ASCII)
"""Words that need no quotes in cmd and PowerShell."""

_CHANGED_ON_WINDOWS = re.compile(r"""["$`%!]""")
"""Characters that have a meaning in double quotes, in cmd or in PowerShell."""


def escape_text(text: str) -> str:
    r"""Replace every character that is not printable by its code, such as "\u001b" for ESC.

    Such characters are all control characters (C0, DEL and C1, so also tabs and line breaks), the
    marks of bidirectional text and other invisible format characters, spaces other than " ", and
    the surrogates by which Python represents bytes of a file name that are not UTF-8. Backslashes
    stay as they are, so that escaping a text twice is the same as escaping it once.

    Args:
        text: Any text.

    Returns:
        The text on one line, in which `str.isprintable` holds for every character.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else _format_code(character) for character in text
    )


def quote_argument(argument: str | os.PathLike[str]) -> str:
    """Quote an argument of a command that a message suggests, so that users can copy the command.

    Args:
        argument: The argument, for example the path of a file.

    Returns:
        One word for the shell, see `quote_word`. If the argument begins with a hyphen, "./" is put
        before it, so that no program takes it for an option.
    """
    text = os.fspath(argument)
    return quote_word(f"./{text}" if text.startswith("-") else text)


def quote_word(text: str, is_windows: bool = os.name == "nt") -> str:
    """Quote a word of a command that a message suggests.

    Args:
        text: The word.
        is_windows: Whether the command is for the shells of Windows.

    Returns:
        One word for a POSIX shell, which interprets no character of it. On Windows, one word for
        cmd and PowerShell, in double quotes if necessary. Where they would replace a part of it,
        such as "$x" or "%x%", it is in single quotes, which only PowerShell knows.
    """
    if not is_windows:
        return shlex.quote(text)
    if _SAFE_ON_WINDOWS.fullmatch(text):
        return text
    if _CHANGED_ON_WINDOWS.search(text) is None:
        return f'"{text}"'
    return "'" + text.replace("'", "''") + "'"


def print_lines(*lines: str, stream: TextIO | None = None) -> None:
    """Print lines of text, each escaped with `escape_text`.

    Args:
        lines: The lines. A line break inside a line is escaped like other control characters.
        stream: Stream to print to; standard output if None. Characters that its encoding lacks are
            replaced by their codes.
    """
    if stream is not None and stream is sys.stderr and sys.stdout is not None:
        # If both lead to one file or pipe, the lines must appear in the order of the calls. An
        # error of the flush is reported when standard output is used again.
        with suppress(OSError, ValueError):
            sys.stdout.flush()
    for line in lines:
        print(escape_for_stream(line, stream or sys.stdout), file=stream)


def escape_for_stream(text: str, stream: TextIO) -> str:
    """Escape text with `escape_text`, and replace characters that a stream cannot encode.

    Args:
        text: Any text.
        stream: The stream to which the text will be written.

    Returns:
        The text on one line, in which the codes of characters replace those that the encoding of
        the stream lacks.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return escape_text(text).encode(encoding, "backslashreplace").decode(encoding)


def print_error(message: object) -> None:
    """Print a line to standard error that begins with "error: ".

    Args:
        message: The error, or its message.
    """
    print_lines(f"error: {message}", stream=sys.stderr)


def print_traceback() -> None:
    """Print the traceback of the exception that is being handled to standard error."""
    print_lines(*traceback.format_exc().splitlines(), stream=sys.stderr)


def _format_code(character: str) -> str:
    r"""Return the code of a character as Python writes it: "\uXXXX" or "\UXXXXXXXX"."""
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
