"""A program with the command line of Android's adb, which treats a folder as the device.

It shows that this project calls adb correctly, and nothing about adb itself. Two environment
variables configure it:

    FAKE_ADB_ROOT     the file system of the device
    FAKE_ADB_DEVICES  what `adb devices` lists: "SERIAL STATE", separated by commas
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROPERTIES = {
    "ro.product.model": "Stand-in 9",
    "ro.soc.model": "SoC 1",
    "ro.build.version.release": "15",
    "ro.product.cpu.abi": "arm64-v8a",
}
CPUINFO = "processor\t: {}\nFeatures\t: fp asimd asimddp i8mm"
WRITABLE_FOLDER = "/data/local/tmp"
"""The folder of an Android device in which a shell may write and run files."""


def main(arguments: Sequence[str], root: Path) -> int:
    """Run one adb command and return its exit code.

    Args:
        arguments: The command line of adb.
        root: Folder that stands for the file system of the device.
    """
    if list(arguments) == ["devices"]:
        print("List of devices attached")
        for device in filter(None, os.environ["FAKE_ADB_DEVICES"].split(",")):
            print("\t".join(device.split()))
        return 0
    option, _serial, command, *rest = arguments
    assert option == "-s", arguments
    if command == "push":
        source, destination = rest
        assert not source.startswith("-"), arguments
        shutil.copy(source, f"{root}{destination}")
        print(f"{source}: 1 file pushed, 0 skipped.")
        return 0
    assert command == "shell", arguments
    (line,) = rest
    return run_in_shell(line, root)


def run_in_shell(line: str, root: Path) -> int:
    """Run a command line as the shell of the device, whose files are below `root`."""
    if line.startswith("getprop "):
        print(PROPERTIES[line.split()[1]])
        return 0
    if line == "cat /proc/cpuinfo":
        print("\n".join(CPUINFO.format(core) for core in range(2)))
        return 0
    if line == "cat /proc/meminfo":
        print("MemTotal:        8000000 kB")
        return 0
    process = subprocess.run(
        ["sh", "-c", line.replace(WRITABLE_FOLDER, f"{root}{WRITABLE_FOLDER}")],
        capture_output=True,
        text=True,
    )
    sys.stdout.write(process.stdout.replace(str(root), ""))
    sys.stderr.write(process.stderr.replace(str(root), ""))
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(os.environ["FAKE_ADB_ROOT"])))
