"""Makes the scripts with which shells complete the arguments of commands, by means of shtab."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tinyvit.errors import MissingDependencyError


def make_completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Make the script for one program.

    Args:
        parser: The parser of the program. Its arguments for paths are marked as such.
        shell: "bash", "zsh" or "tcsh".

    Returns:
        The script, which the shell reads when it starts.

    Raises:
        MissingDependencyError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise MissingDependencyError.for_package("shtab", extra="completion") from error
    _mark_paths(parser, shtab.FILE)
    script: str = shtab.complete(parser, shell)
    return script


def _mark_paths(parser: argparse.ArgumentParser, completion: Any) -> None:
    """Let shells complete names of files for arguments that are paths.

    As for `CommandParser`, these are all arguments without a type, or with the type Path.
    """
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _mark_paths(subparser, completion)
        elif action.type in (None, Path) and action.nargs != 0 and not action.choices:
            action.complete = completion  # type: ignore[attr-defined]  # an attribute for shtab
