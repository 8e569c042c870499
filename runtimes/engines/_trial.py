"""Runs a file once in another process, which may crash, before this process opens it.

Some engines trust the files that they open: a damaged file can end the process. A file with a
manifest is accepted if it has the hash in its manifest. For a file without one, this trial shows
whether it crashes.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.python_process import make_python_command

TRIAL_TIMEOUT_S = 120
"""Longest time that the trial may take, in seconds. An inference takes less than one."""

_TESTED_SHA256: set[str] = set()
"""Hashes of the files that another process has run without a crash."""


def run_trial(path: Path, sha256: str, engine_name: str, module: str) -> None:
    """Run a file once in another process.

    Args:
        path: The file.
        sha256: Hash of the file. A file with the same hash is not run again.
        engine_name: Name of the engine in error messages.
        module: Full name of a module with a function `run_once`, which takes the path of the file,
            and returns or raises an exception unless the file crashes the process.

    Raises:
        ArtifactError: If the process crashes or does not finish within `TRIAL_TIMEOUT_S`.
    """
    if sha256 in _TESTED_SHA256:
        return
    code = f"from {module} import run_once; run_once(sys.argv[1])"
    try:
        process = subprocess.run(
            make_python_command(code, str(path)),
            capture_output=True,
            timeout=TRIAL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(
            f"{path.name} did not finish one inference in {TRIAL_TIMEOUT_S} s",
            "the file is damaged: export it again",
        ) from error
    # Python reports a signal as a negative code, and a shell as a code above 127.
    is_crash = process.returncode < 0 or process.returncode > 127
    if is_crash:
        raise ArtifactError(
            f"{path.name} crashes the process that runs it in {engine_name}",
            "the file is damaged or hostile: export it again",
        )
    _TESTED_SHA256.add(sha256)
