"""Files that look like the shared libraries of a program for a Hexagon NPU on Android."""

from __future__ import annotations

from pathlib import Path

NAMES = (
    "libonnxruntime_providers_qnn.so",
    "libQnnHtp.so",
    "libQnnHtpPrepare.so",
    "libQnnHtpV75Skel.so",
    "libQnnHtpV75Stub.so",
    "libQnnSystem.so",
)
"""Names of the libraries for one chip."""

AARCH64, X86_64 = 183, 62
"""Numbers of processors in the header of an ELF file."""


def write_library(path: Path, machine: int = AARCH64) -> Path:
    """Write the first bytes of a library for a processor."""
    path.write_bytes(b"\x7fELF\2\1\1".ljust(18, b"\0") + machine.to_bytes(2, "little") + bytes(44))
    return path


def write_libraries(folder: Path) -> Path:
    """Make a folder with the libraries, a license and a subfolder, and return it."""
    (folder / "hexagon-v75").mkdir(parents=True)
    for name in NAMES:
        write_library(folder / name)
    (folder / "LICENSE.txt").write_text("a license")
    write_library(folder / "hexagon-v75" / "libQnnHtpV73Skel.so")
    return folder
