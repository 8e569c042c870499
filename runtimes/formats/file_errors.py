"""Errors for files that cannot be opened, and for files with damaged content."""

from __future__ import annotations

import struct
from pathlib import Path

from tinyvit.errors import ArtifactError


def unreadable_error(
    path: Path, error: OSError | ValueError, remedy: str = "check the path"
) -> ArtifactError:
    """Return the error for a file that cannot be opened or read.

    Args:
        path: Path of the file.
        error: The error of the operating system, or a ValueError whose message is the reason.
        remedy: What the user can do.
    """
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return ArtifactError(f"{path} cannot be read ({reason})", remedy)


def damaged_error(path: Path, error: Exception) -> ArtifactError:
    """Return the error for a file whose content is damaged or incomplete.

    Args:
        path: Path of the file.
        error: The error of the reader, whose message is the reason.
    """
    reason: object = error
    if isinstance(error, struct.error):
        # Its message is about functions of Python's module struct.
        reason = "a position in it is outside of the file"
    return ArtifactError(f"{path} is damaged or incomplete ({reason})", "export it again")
