"""Makes commands that run another Python process, which imports nothing from its current folder."""

from __future__ import annotations

import sys

_REMOVE_CURRENT_FOLDER = "import sys; sys.path[:] = filter(None, sys.path)\n"
"""Python code that removes the current folder, which is "", from the folders with modules.

Python adds it in front of all others with `-c` and with `-m`. In a folder with a stranger's files,
a file called numpy.py would be executed instead of the package. The option `-P`, which prevents
that, needs Python 3.11.
"""


def make_python_command(code: str, *arguments: str) -> list[str]:
    """Make the command that executes code in a new Python process.

    Args:
        code: Python code. The module `sys` is imported already when it is executed.
        arguments: `sys.argv[1:]` of the new process. Python parses none of them as its option.

    Returns:
        The words of the command.
    """
    return [sys.executable, "-c", _REMOVE_CURRENT_FOLDER + code, *arguments]


def make_module_command(module: str, *arguments: str) -> list[str]:
    """Make the command that runs a module as a script in a new Python process.

    Args:
        module: Full name of the module, such as "tinyvit.bench.cli".
        arguments: Arguments of the script.

    Returns:
        The words of the command.
    """
    code = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return make_python_command(code, *arguments)
