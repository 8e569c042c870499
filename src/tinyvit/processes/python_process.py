"""Makes commands that start other Python processes, and finds the last line of their output.

Python looks for modules in the current folder first if it is started with `-c` or `-m`. In a folder
with files of strangers, a file called numpy.py would be executed instead of the package. The
processes that are started with these functions do not look there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_REMOVE_CURRENT_FOLDER = "import sys; sys.path[:] = filter(None, sys.path)\n"
"""Python code that removes the current folder, which is "", from the folders with modules.

The option `-P`, which prevents that Python adds it, needs Python 3.11.
"""

_SAFE_PATH_VARIABLE = "PYTHONSAFEPATH"
"""Environment variable with the same effect as `-P`, which needs Python 3.11 too."""

MAX_LINE_CHARACTERS = 300
"""Default of the number of characters to which `read_last_line` shortens a line."""


def make_python_command(code: str, *arguments: str) -> list[str]:
    """Make the command that executes code in a new process of the Python of this process.

    The new process looks for modules in the same folders as this one, except the current folder.

    Args:
        code: Python code. The module `sys` is imported already when it is executed.
        arguments: `sys.argv[1:]` of the new process. Python parses none of them as its option.

    Returns:
        The words of the command.
    """
    folders = [folder for folder in sys.path if os.path.isabs(folder)]
    return [sys.executable, "-c", f"import sys; sys.path[:] = {folders!r}\n{code}", *arguments]


def make_module_command(module: str, *arguments: str) -> list[str]:
    """Make the command that runs a module as a script; see `make_python_command`.

    Args:
        module: Full name of the module, such as "tinyvit.bench.cli".
        arguments: Arguments of the script.

    Returns:
        The words of the command.
    """
    return make_python_command(_make_module_code(module), *arguments)


def make_options_for_code(code: str) -> list[str]:
    """Make the options with which another Python, such as that of a device, executes code.

    It looks for modules where it does by itself, except the current folder.

    Args:
        code: Python code for Python 3.10 or later.

    Returns:
        The words that follow the name of the program. Further words are `sys.argv[1:]`.
    """
    return ["-c", _REMOVE_CURRENT_FOLDER + code]


def make_options_for_module(module: str) -> list[str]:
    """Make the options with which another Python runs a module; see `make_options_for_code`.

    Args:
        module: Full name of the module, such as "pip".

    Returns:
        The words that follow the name of the program. Further words are arguments of the script.
    """
    return make_options_for_code(_make_module_code(module))


@contextmanager
def protect_worker_processes() -> Iterator[None]:
    """Let Python processes that libraries start in the block not look in the current folder.

    The module multiprocessing starts workers with `-c` unless it forks this process. They get the
    folders of this process, but only after they have imported modules of the standard library.

    Yields:
        Nothing.
    """
    if sys.version_info < (3, 11):
        with _isolate_workers_of_multiprocessing():
            yield
        return
    previous_value = os.environ.get(_SAFE_PATH_VARIABLE)
    os.environ[_SAFE_PATH_VARIABLE] = "1"
    try:
        yield
    finally:
        if previous_value is None:
            os.environ.pop(_SAFE_PATH_VARIABLE, None)
        else:
            os.environ[_SAFE_PATH_VARIABLE] = previous_value


def read_last_line(
    output: str | bytes, if_empty: str, max_characters: int | None = MAX_LINE_CHARACTERS
) -> str:
    """Return the last line of what a program printed, which usually states why it failed.

    Args:
        output: What the program printed, such as its standard error. Bytes are decoded as UTF-8.
        if_empty: The result if there is no line other than blank ones.
        max_characters: Number of characters to which the line is shortened; None to keep all.

    Returns:
        The last line that is not blank, without spaces around it.
    """
    text = output.decode("utf-8", "replace") if isinstance(output, bytes) else output
    lines = text.strip().splitlines() or [if_empty]
    return lines[-1].strip()[:max_characters]


def _make_module_code(module: str) -> str:
    """Return the code that runs a module as a script."""
    return f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"


@contextmanager
def _isolate_workers_of_multiprocessing() -> Iterator[None]:
    """Start the workers of multiprocessing with the option -I, which leaves out all user folders.

    In Python 3.10, there is no other option for that. The workers get the folders of this process
    when they begin.
    """
    from multiprocessing import util

    name = "_args_from_interpreter_flags"
    list_options = getattr(util, name)
    setattr(util, name, lambda: [*list_options(), "-I"])
    try:
        yield
    finally:
        setattr(util, name, list_options)
