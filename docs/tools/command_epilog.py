"""Formats the end of a help text, which has examples and explanations, in Markdown."""

from __future__ import annotations

import html
import re
import textwrap

LINE_WIDTH = 80
"""Largest number of characters in a line of a block of commands: the site shows them at once."""

_MARKUP = re.compile(r"([\\`*_\[\]#|])")
_BREAK = re.compile(r" (?=--?\w|> )")
"""Where a command may be continued on the next line: before an option, and before its output."""


def escape_markdown(text: str) -> str:
    """Escape what Markdown and HTML would interpret in a plain text.

    Args:
        text: Plain text, such as a help text.

    Returns:
        Markdown that shows the text unchanged.
    """
    return _MARKUP.sub(r"\\\1", html.escape(text, quote=False))


def format_epilog(epilog: str) -> list[str]:
    """Format the end of a help text.

    Args:
        epilog: Blocks with an empty line between them. A block is a title with a colon at its end
            and indented lines, or a paragraph.

    Returns:
        The parts of a page: a heading and a block of code for each block with a title, commands if
        the title is "examples", and the paragraphs.
    """
    parts: list[str] = []
    for block in re.split(r"\n\s*\n", epilog.strip("\n")):
        title, _, body = block.partition("\n")
        if title.rstrip().endswith(":") and body.startswith(" "):
            name = title.strip().rstrip(":")
            is_commands = name.lower() == "examples"
            lines = textwrap.dedent(body).rstrip().splitlines()
            shown = [wrap_command(line) for line in lines] if is_commands else lines
            code = "\n".join(shown)
            parts += [
                f"## {escape_markdown(name.capitalize())}",
                f"```{'bash' if is_commands else 'text'}\n{code}\n```",
            ]
        else:
            parts.append(escape_markdown(" ".join(block.split())))
    return parts


def wrap_command(command: str) -> str:
    """Continue a command on further lines where it is longer than `LINE_WIDTH`.

    Args:
        command: A line of a command.
    """
    indent = " " * (len(command) - len(command.lstrip()))
    first, *others = _BREAK.split(command.strip())
    lines = [indent + first]
    for part in others:
        # Two characters are for the backslash.
        if len(lines[-1]) + 1 + len(part) > LINE_WIDTH - 2:
            lines.append(f"{indent or '    '}{part}")
        else:
            lines[-1] = f"{lines[-1]} {part}"
    return command if len(command) <= LINE_WIDTH else " \\\n".join(lines)
