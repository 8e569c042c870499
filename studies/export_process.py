"""Runs tinyvit-export in another process, for the studies that need exported files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinyvit.processes.limited_program import ProcessLimitError, RunLimits, run_bounded
from tinyvit.processes.python_process import make_module_command, read_last_line

EXPORT_LIMITS = RunLimits(seconds=6 * 3600, output_bytes=2**24)
"""Limits on an export. An int8 export to all targets takes half an hour on two slow cores, and
prints a few kB."""

EXPORT_MODULE = "tinyvit.export.cli"
"""The module of the command tinyvit-export."""


def run_export(options: Sequence[str], environment: Mapping[str, str] | None = None) -> str | None:
    """Run tinyvit-export in another process.

    Args:
        options: Command-line options of tinyvit-export.
        environment: Environment variables of the process; those of this process if None.

    Returns:
        Why the export failed, as the last line that it printed; None if it succeeded.
    """
    command = make_module_command(EXPORT_MODULE, *options)
    try:
        process = run_bounded(command, EXPORT_LIMITS, environment=environment)
    except ProcessLimitError as error:
        return f"the process {error}"
    if process.exit_code == 0:
        return None
    exit_code = f"exit code {process.exit_code}"
    last_line = read_last_line(process.stderr, if_empty=exit_code, max_characters=None)
    # One line with the cause and the remedy of the export's own error.
    return last_line.removeprefix("error: ")
