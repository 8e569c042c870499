"""The command-line options of tinyvit-export that belong to single targets."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tinyvit.export.targets import Target, get_target, target_names


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one group of options for each target that has its own options.

    An option that several targets have, such as --soc, is in the group of the first one, and its
    help names the others.

    Args:
        parser: The parser of the command.
    """
    targets = [target for target in map(get_target, target_names()) if target.options]
    seen: set[str] = set()
    for target in targets:
        group = parser.add_argument_group(f"options of --target {target.name}")
        for option in target.options:
            if option.name in seen:
                continue
            seen.add(option.name)
            help_text = _join_help(option.name, targets)
            if option.is_flag:
                group.add_argument(option.flag, action="store_const", const="yes", help=help_text)
                continue
            group.add_argument(
                option.flag,
                choices=option.choices,
                metavar=None if option.choices else option.metavar,
                help=help_text,
            )


def read_target_options(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the options of targets that were given: name -> value.

    Args:
        arguments: Arguments parsed by a parser that `add_target_arguments` has extended.
    """
    names = [option.name for name in target_names() for option in get_target(name).options]
    values = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _join_help(name: str, targets: Sequence[Target]) -> str:
    """Return the help of an option, with that of all targets that have an option of this name."""
    texts = {
        target.name: option.help
        for target in targets
        for option in target.options
        if option.name == name
    }
    if len(texts) == 1:
        return next(iter(texts.values()))
    return " ".join(f"{target}: {text}" for target, text in texts.items())
