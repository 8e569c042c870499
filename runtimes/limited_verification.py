"""Verifies an artifact in another process, which is stopped after a time.

A hostile file can contain a loop that never ends, or end the process that runs it.
"""

from __future__ import annotations

import subprocess
import sys

from tinyvit.errors import ArtifactError
from tinyvit.processes.limited_program import describe_crash
from tinyvit.processes.python_process import make_python_command

_CODE = "from tinyvit.runtimes import cli; sys.exit(cli.verify_in_this_process(sys.argv[1:]))"
"""What the other process runs."""


def verify_with_timeout(file_name: str, words: list[str], timeout_s: float) -> int:
    """Run tinyvit-verify in another process, which writes to the same standard streams.

    Args:
        file_name: The file to verify, for messages.
        words: Command-line arguments of tinyvit-verify.
        timeout_s: Time after which the process is stopped, in seconds, including its start.

    Returns:
        Exit code of tinyvit-verify.

    Raises:
        ArtifactError: If the process does not finish in time, or crashes.
    """
    sys.stdout.flush()
    try:
        process = subprocess.run(make_python_command(_CODE, *words), timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(
            f"the check of {file_name} did not finish in {timeout_s:g} s",
            "give a larger --timeout; if the file is small, do not use it, because it may be"
            " hostile",
        ) from error
    crash = describe_crash(process.returncode)
    if crash is not None:
        raise ArtifactError(
            f"{file_name} ended the process that checked it ({crash})",
            "the file is damaged or hostile: export it again",
        )
    return process.returncode
