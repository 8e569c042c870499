"""Checks a .pte file (an ExecuTorch program) before ExecuTorch loads it into this process.

ExecuTorch's own verifier is not enough: in a test, a quarter of the files with a few changed bytes
crashed the process. A file is therefore accepted only if its content has the hash in its manifest.
A file without a manifest is first run once in another process, which may crash.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.python_process import make_python_command
from tinyvit.regular_files import read_bounded
from tinyvit.runtimes.artifact import Artifact, content_sha256
from tinyvit.runtimes.engine_helpers import load_error
from tinyvit.runtimes.engines._pte import PteProgram, read_pte_program

METHOD = "forward"
"""Name of the method of an ExecuTorch program that runs the network."""

ALLOWED_DELEGATE = "XnnpackBackend"
"""The only allowed delegate (backend); some others load libraries that the file names."""

_MAX_FILE_BYTES = 2**31 - 1
"""Larger files are refused. A flatbuffer, the format of these files, cannot be larger."""

_TRIAL_CODE = "from tinyvit.runtimes.engines import executorch; executorch.run_once(sys.argv[1])"
"""Python code that another process executes to run a file once."""

_TRIAL_TIMEOUT_S = 120

_TESTED_SHA256: set[str] = set()
"""Hashes of the files without a manifest that another process has run without a crash."""


def read_checked_file(artifact: Artifact) -> bytes:
    """Read a .pte file and check it.

    Args:
        artifact: The file and its manifest, if it has one.

    Returns:
        All bytes of the file. ExecuTorch does not copy them, so the caller must keep a reference.

    Raises:
        ArtifactError: The file is damaged, needs a delegate other than XNNPACK, or crashes the
            process that runs it.
    """
    stated_sha256 = artifact.manifest.content_sha256 if artifact.manifest else ""
    if stated_sha256 and stated_sha256 != content_sha256(artifact.path):
        raise ArtifactError(
            f"{artifact.path.name} is damaged: the hash of its content differs from that in its"
            " manifest",
            "export it again",
        )
    try:
        file_bytes = read_bounded(artifact.path, _MAX_FILE_BYTES)
        program = read_pte_program(file_bytes)
    except (OSError, ValueError) as error:
        raise load_error(artifact.path, "ExecuTorch", error) from error
    _check_program(artifact.path, program)
    if not stated_sha256:
        _run_in_other_process(artifact.path, hashlib.sha256(file_bytes).hexdigest())
    return file_bytes


def _check_program(path: Path, program: PteProgram) -> None:
    """Raise ArtifactError if the program needs another delegate or has no method to run."""
    other_delegates = [name for name in program.delegates if name != ALLOWED_DELEGATE]
    if other_delegates:
        cause = f"{path.name} needs the delegate {other_delegates[0][:80]}"
    elif METHOD not in program.methods:
        cause = f"{path.name} has no method {METHOD}"
    else:
        return
    raise ArtifactError(
        cause,
        "only files for XNNPACK with a method forward can run here: "
        "export with --target executorch",
    )


def _run_in_other_process(path: Path, sha256: str) -> None:
    """Run the file once in another process; raise ArtifactError if that process crashes."""
    if sha256 in _TESTED_SHA256:
        return
    try:
        process = subprocess.run(
            make_python_command(_TRIAL_CODE, str(path)),
            capture_output=True,
            timeout=_TRIAL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(
            f"{path.name} did not finish one inference in {_TRIAL_TIMEOUT_S} s",
            "the file is damaged: export it again",
        ) from error
    # Python reports a signal as a negative code, and a shell as a code above 127.
    is_crash = process.returncode < 0 or process.returncode > 127
    if is_crash:
        raise ArtifactError(
            f"{path.name} crashes the process that runs it in ExecuTorch",
            "the file is damaged or hostile: export it again",
        )
    _TESTED_SHA256.add(sha256)
