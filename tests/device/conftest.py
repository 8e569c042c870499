"""An emulated 64-bit Arm device with this project installed (see tests/helpers/emulated_arm.py)."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers.emulated_arm import EmulatedDevice, get_output, install_debian, run_or_skip

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def qemu() -> str:
    """Path of qemu's user-mode emulator."""
    program = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    return program or pytest.skip("needs qemu-aarch64-static: apt install qemu-user-static")


@pytest.fixture(scope="session")
def debian_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file system of the device: Debian's arm64 Python and the packages that it needs."""
    root = tmp_path_factory.mktemp("arm64")
    install_debian(tmp_path_factory.mktemp("apt"), root)
    return root


@pytest.fixture(scope="session")
def device(
    qemu: str, debian_root: Path, source_tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> EmulatedDevice:
    """The device, after its own pip has installed this project's wheel and base dependencies."""
    folder = tmp_path_factory.mktemp("device")
    run_or_skip(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source_tree],
        "building needs a package registry",
    )
    (wheel,) = folder.glob("*.whl")
    device = EmulatedDevice(debian_root, folder / "site", qemu)
    pip = ["-m", "pip", "install", "-q", "--only-binary", ":all:"]
    constraints = ["-c", ROOT / "constraints.txt"]
    get_output(device.run_python(*pip, *constraints, "--target", device.site, wheel))
    return device
