"""Checks a .pte file (an ExecuTorch program) before ExecuTorch loads it into this process.

ExecuTorch's own verifier is not enough: in a test, a quarter of the files with a few changed bytes
crashed the process. A file with a manifest is therefore accepted only if its content has the hash
in the manifest. Whoever makes a hostile file can also compute a hash, so every file that passes is
then run once in another process, which may crash (`tinyvit.runtimes.trial`).
"""

from __future__ import annotations

from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.files.regular_files import read_bounded
from tinyvit.runtimes.artifact import Artifact, content_sha256
from tinyvit.runtimes.engine_helpers import load_error
from tinyvit.runtimes.formats import MAX_FILE_BYTES
from tinyvit.runtimes.formats.pte_program import PteProgram, read_pte_program

METHOD = "forward"
"""Name of the method of an ExecuTorch program that runs the network."""

ALLOWED_DELEGATE = "XnnpackBackend"
"""The only allowed delegate (backend); some others load libraries that the file names."""


def read_checked_file(artifact: Artifact) -> bytes:
    """Read a .pte file and check it.

    Args:
        artifact: The file and its manifest, if it has one.

    Returns:
        All bytes of the file. ExecuTorch does not copy them, so the caller must keep a reference.

    Raises:
        ArtifactError: The file is damaged, or needs a delegate other than XNNPACK.
    """
    stated_sha256 = artifact.manifest.content_sha256 if artifact.manifest else ""
    if stated_sha256 and stated_sha256 != content_sha256(artifact.path):
        raise ArtifactError(
            f"{artifact.path.name} is damaged: the hash of its content differs from that in its"
            " manifest",
            "export it again",
        )
    try:
        file_bytes = read_bounded(artifact.path, MAX_FILE_BYTES)
        program = read_pte_program(file_bytes)
    except (OSError, ValueError) as error:
        raise load_error(artifact.path, "ExecuTorch", error) from error
    _check_program(artifact.path, program)
    return file_bytes


def _check_program(path: Path, program: PteProgram) -> None:
    """Raise ArtifactError if the program needs another delegate, lacks the method, or can loop."""
    other_delegates = [name for name in program.delegates if name != ALLOWED_DELEGATE]
    if other_delegates:
        cause = f"{path.name} needs the delegate {other_delegates[0][:80]}"
    elif METHOD not in program.methods:
        cause = f"{path.name} has no method {METHOD}"
    elif program.has_jumps:
        cause = f"{path.name} has instructions that jump, and may never end"
    else:
        return
    raise ArtifactError(
        cause,
        "only files for XNNPACK with a method forward can run here: "
        "export with --target executorch",
    )
