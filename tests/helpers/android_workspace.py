"""A folder with a fake adb on PATH, and the file system of its fake Android device."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from tests.helpers import fake_adb

SERIAL = "R5CT"
"""Serial number of the device."""


def make_workspace(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Write a fake adb to "bin" in a folder, and make the device's file system in "root".

    Args:
        folder: The folder, which exists.
        patch: Sets PATH, and what the fake adb reads.

    Returns:
        The folder.
    """
    (folder / "bin").mkdir()
    adb = folder / "bin" / "adb"
    command = shlex.join([sys.executable, "-I", "-S", str(Path(fake_adb.__file__))])  # starts fast
    # A device does not have the environment of this machine.
    removed = "-u ORT_DISABLE_TELEMETRY -u LD_LIBRARY_PATH -u ADSP_LIBRARY_PATH"
    adb.write_text(f'#!/bin/sh\nexec env {removed} {command} "$@"\n')
    adb.chmod(0o755)
    device_folder(folder).mkdir(parents=True)
    patch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
    patch.setenv("FAKE_ADB_ROOT", str(folder / "root"))
    patch.setenv("FAKE_ADB_DEVICES", f"{SERIAL} device")
    return folder


def device_folder(workspace: Path) -> Path:
    """Return the folder on the fake device that all files are sent to."""
    return workspace / "root" / "data" / "local" / "tmp"
