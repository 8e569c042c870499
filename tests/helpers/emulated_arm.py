"""A 64-bit Arm device that qemu's user-mode emulator runs.

The device is a folder with Debian's arm64 Python and an installation of this project. apt resolves
and downloads its packages into another folder, so nothing on the system is changed, and no root
rights are needed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

DEBIAN_PACKAGES = "python3 (>= 3.10), python3-pip, libstdc++6, base-files"

# apt must not switch to its sandbox user, who cannot enter pytest's folders. The system's hooks are
# removed, because they would act on the system. The status file is empty, because nothing is
# installed on the device yet, and so apt downloads every dependency.
APT_CONFIG = """
APT::Architecture "arm64";
#clear APT::Architectures;
APT::Architectures "arm64";
APT::Sandbox::User "";
#clear APT::Update;
Debug::NoLocking "true";
Dir::State "{folder}";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
"""

PROCESSORS = {
    "cortex-a53": ("0x41", "0xd03"),
    "cortex-a76": ("0x41", "0xd0b"),
    "max": ("0x00", "0x051"),
}
"""Name of a processor in qemu -> "CPU implementer" and "CPU part" in /proc/cpuinfo.

The Cortex-A53 (Raspberry Pi 3) has no instructions for 8-bit products, the Cortex-A76 (Raspberry
Pi 5) has dotprod, and qemu's "max" has dotprod and i8mm."""

FEATURE_BITS = {"asimd": (16, 1), "asimddp": (16, 20), "i8mm": (26, 13)}
"""Feature -> entry of the auxiliary vector (AT_HWCAP is 16, AT_HWCAP2 is 26) and number of the bit.

The bits are those of arch/arm64/include/uapi/asm/hwcap.h in Linux."""

# Prints the features of the processor that runs it.
_FEATURES_CODE = (
    "import ctypes; getauxval = ctypes.CDLL(None).getauxval;"
    f" features = {FEATURE_BITS};"
    " print(*(name for name, (entry, bit) in features.items() if getauxval(entry) >> bit & 1))"
)


@dataclass(frozen=True)
class EmulatedDevice:
    """An emulated device, whose file system is a folder.

    Attributes:
        root: The file system of the device.
        site: Folder of the installed Python packages, made by `pip install --target`.
        qemu: Path of qemu's user-mode emulator.
    """

    root: Path
    site: Path
    qemu: str

    def run_python(
        self, *arguments: str | Path, processor: str = "max"
    ) -> subprocess.CompletedProcess[str]:
        """Run the device's Python."""
        # PYTHONNOUSERSITE hides the user's own packages, which are for the host's architecture.
        environment = {**os.environ, "PYTHONPATH": str(self.site), "PYTHONNOUSERSITE": "1"}
        python = self.root / "usr/bin/python3"
        command = [self.qemu, "-L", self.root, "-cpu", processor, python, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    def run_command(
        self, script: str, *arguments: str | Path, processor: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one of this project's commands, such as "tinyvit-verify", on a processor."""
        self._write_cpuinfo(processor)
        return self.run_python(self.site / "bin" / script, *arguments, processor=processor)

    def _write_cpuinfo(self, processor: str) -> None:
        """Give the device the /proc/cpuinfo of a processor, as newer versions of qemu do.

        Older versions show programs the file of the host, in which onnxruntime finds no Arm core
        and crashes.
        """
        implementer, part = PROCESSORS[processor]
        features = get_output(self.run_python("-c", _FEATURES_CODE, processor=processor)).strip()
        (self.root / "proc").mkdir(exist_ok=True)
        (self.root / "proc" / "cpuinfo").write_text(
            "".join(
                f"processor\t: {core}\nFeatures\t: {features}\nCPU implementer\t: {implementer}\n"
                f"CPU architecture: 8\nCPU part\t: {part}\n\n"
                for core in range(os.cpu_count() or 1)
            )
        )


def install_debian(apt_folder: Path, root: Path) -> None:
    """Unpack Debian's arm64 Python and its dependencies from the system's package sources.

    The test is skipped if the packages are not available.

    Args:
        apt_folder: An empty folder for apt's files.
        root: An empty folder for the file system of the device.
    """
    if not all(map(shutil.which, ("apt-get", "dpkg-deb"))):
        pytest.skip("needs apt-get and dpkg-deb, which bring the arm64 Python")
    archives = apt_folder / "cache" / "archives"
    for folder in (archives, apt_folder / "lists"):
        (folder / "partial").mkdir(parents=True)
    (apt_folder / "status").touch()
    config = apt_folder / "apt.conf"
    config.write_text(APT_CONFIG.format(folder=apt_folder))
    apt_get = ["apt-get", "-qq", "-c", config]
    run_or_skip([*apt_get, "update"], "needs package sources")
    run_or_skip(
        [*apt_get, "-y", "--no-install-recommends", "--download-only", "satisfy", DEBIAN_PACKAGES],
        "needs sources of arm64 packages",
    )
    for package in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)


def get_output(process: subprocess.CompletedProcess[str]) -> str:
    """Return the standard output of a process that must have succeeded."""
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def run_or_skip(command: Sequence[str | Path], reason: str) -> None:
    """Run a command, and skip the test if it fails."""
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        error = re.search(r"\b(E|ERROR): .*", process.stderr)
        pytest.skip(f"{reason}: {error[0] if error else 'no reason given'}")
