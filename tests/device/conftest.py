"""An Arm device without one: Debian's arm64 Python in a folder, the device install in it, and qemu's user-mode emulator to run it.

Nothing of the system is changed, and no rights are needed: apt resolves and fetches into a folder of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "python3 (>= 3.10), python3-pip, libstdc++6, base-files"

APT = """
APT::Architecture "arm64";
#clear APT::Architectures;
APT::Architectures "arm64";
APT::Sandbox::User "";  // pytest's folders are closed to the user that apt would otherwise become
#clear APT::Update;  // the system's own hooks would act on the system
Debug::NoLocking "true";
Dir::State "{folder}";
Dir::State::status "{folder}/status";  // empty, as nothing is installed yet: all that is needed is fetched
Dir::Cache "{folder}/cache";
"""

PROCESSORS = {
    "cortex-a53": ("0x41", "0xd03"),
    "cortex-a76": ("0x41", "0xd0b"),
    "max": ("0x00", "0x051"),
}
"""qemu's name: implementer and part. Without dotprod (Raspberry Pi 3), with it (Raspberry Pi 5), with i8mm too."""

FEATURES = {"asimd": (16, 1), "asimddp": (16, 20), "i8mm": (26, 13)}
"""Feature: entry of the auxiliary vector and bit, from Linux's asm/hwcap.h."""


@dataclass(frozen=True)
class Device:
    """root: the emulated system. site: the install, as pip --target makes it. qemu: the emulator."""

    root: Path
    site: Path
    qemu: str

    def python(self, *arguments: str | Path, cpu: str = "max") -> subprocess.CompletedProcess[str]:
        # The user's own site-packages have the host's architecture.
        environment = {**os.environ, "PYTHONPATH": str(self.site), "PYTHONNOUSERSITE": "1"}
        command = [
            self.qemu,
            "-L",
            self.root,
            "-cpu",
            cpu,
            self.root / "usr/bin/python3",
            *arguments,
        ]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    def run(
        self, script: str, *arguments: str | Path, cpu: str
    ) -> subprocess.CompletedProcess[str]:
        """An installed command on that processor."""
        self.describe(cpu)
        return self.python(self.site / "bin" / script, *arguments, cpu=cpu)

    def describe(self, cpu: str) -> None:
        """Give the device the /proc/cpuinfo of its processor, as newer versions of qemu do themselves.

        With older ones programs see the host's, in which onnxruntime finds no Arm core, and crashes.
        """
        code = f"import ctypes; tell = ctypes.CDLL(None).getauxval; print(*(n for n, (k, b) in {FEATURES}.items() if tell(k) >> b & 1))"
        implementer, part = PROCESSORS[cpu]
        features = done(self.python("-c", code, cpu=cpu)).strip()
        said = f"Features\t: {features}\nCPU implementer\t: {implementer}\nCPU architecture: 8\nCPU part\t: {part}\n\n"
        (self.root / "proc").mkdir(exist_ok=True)
        (self.root / "proc" / "cpuinfo").write_text(
            "".join(f"processor\t: {i}\n{said}" for i in range(os.cpu_count() or 1))
        )


def done(process: subprocess.CompletedProcess[str]) -> str:
    """What a command that must succeed printed."""
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def skip_unless(command: Sequence[str | Path], why: str) -> None:
    """Run a command whose failure says that something is not to be had here."""
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        told = re.search(r"\b(E|ERROR): .*", process.stderr)
        pytest.skip(f"{why}: {told[0] if told else 'no reason given'}")


@pytest.fixture(scope="session")
def qemu() -> str:
    found = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    return found or pytest.skip("needs qemu-aarch64-static: apt install qemu-user-static")


@pytest.fixture(scope="session")
def arm64(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Debian's arm64 Python and what it needs, from the system's own package sources."""
    if not all(map(shutil.which, ("apt-get", "dpkg-deb"))):
        pytest.skip("needs apt-get and dpkg-deb, which bring the arm64 Python")
    apt, root = tmp_path_factory.mktemp("apt"), tmp_path_factory.mktemp("arm64")
    archives = apt / "cache" / "archives"
    for folder in (archives, apt / "lists"):
        (folder / "partial").mkdir(parents=True)
    (apt / "status").touch()
    (apt / "apt.conf").write_text(APT.format(folder=apt))
    get = ["apt-get", "-qq", "-c", apt / "apt.conf"]
    skip_unless([*get, "update"], "needs package sources")
    skip_unless(
        [*get, "-y", "--no-install-recommends", "--download-only", "satisfy", PACKAGES],
        "needs sources of arm64 packages",
    )
    for package in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    return root


@pytest.fixture(scope="session")
def device(
    qemu: str, arm64: Path, source_tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Device:
    """The device, with this project's wheel and its base dependencies, chosen and installed by the device's own pip."""
    folder = tmp_path_factory.mktemp("device")
    skip_unless(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source_tree],
        "building needs a package registry",
    )
    (wheel,) = folder.glob("*.whl")
    made = Device(arm64, folder / "site", qemu)
    install = [
        "-m",
        "pip",
        "install",
        "-q",
        "--only-binary",
        ":all:",
        "-c",
        ROOT / "constraints.txt",
        "--target",
        made.site,
        wheel,
    ]
    done(made.python(*install))
    return made
