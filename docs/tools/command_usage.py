"""Formats the usage of a command in the same way in every version of Python."""

from __future__ import annotations

import argparse

USAGE_WIDTH = 76
"""Largest number of characters in a line of a usage: the site shows them at once."""


def format_usage(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> str:
    """Return the usage of a parser in lines of at most `USAGE_WIDTH` characters.

    Args:
        parser: The parser.
        words: The words that start the command.

    Returns:
        The options, with "|" between those that exclude each other, and then the other arguments.
    """
    options, values = [], []
    seen: set[int] = set()
    groups = {
        id(action): group
        for group in parser._mutually_exclusive_groups
        for action in group._group_actions
    }
    for action in parser._actions:
        group = groups.get(id(action))
        actions = group._group_actions if group else [action]
        shown = [member for member in actions if member.help is not argparse.SUPPRESS]
        if id(action) in seen or not shown:
            continue
        seen.update(map(id, actions))
        text = " | ".join(map(_format_in_usage, shown))
        if shown[0].option_strings or group:
            is_required = group.required if group else action.required
            is_single = is_required and len(shown) == 1
            options.append(text if is_single else f"({text})" if is_required else f"[{text}]")
        else:
            values.append(text)
    return _wrap_usage(" ".join(words), [*options, *values])


def _format_in_usage(action: argparse.Action) -> str:
    """Return the first name of an option with its value, or the placeholder of an argument."""
    value = format_value(action)
    return f"{action.option_strings[0]} {value}".rstrip() if action.option_strings else value


def _wrap_usage(program: str, parts: list[str]) -> str:
    """Join the parts of a usage, in as many lines as needed."""
    lines = [program]
    for part in parts:
        if len(lines[-1]) + 1 + len(part) > USAGE_WIDTH:
            lines.append(f"    {part}")
        else:
            lines[-1] = f"{lines[-1]} {part}"
    return "\n".join(lines)


def format_value(action: argparse.Action) -> str:
    """Return the placeholder of an argument's value.

    Args:
        action: The argument.

    Returns:
        The placeholder, such as "FILE [FILE ...]"; "" for an option without a value.
    """
    if action.nargs == 0:
        return ""
    formatter = argparse.HelpFormatter("")
    default = action.dest.upper() if action.option_strings else action.dest
    return formatter._format_args(action, default)
