"""A stand-in for Android's adb: its command line, with a folder as the device. NOT adb: it shows only that we speak its protocol.

STAND_IN_ROOT: the device's file system. STAND_IN_DEVICES: what `adb devices` lists, "serial state" separated by commas.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.environ["STAND_IN_ROOT"])
PROPERTIES = {
    "ro.product.model": "Stand-in 9",
    "ro.soc.model": "SoC 1",
    "ro.build.version.release": "15",
    "ro.product.cpu.abi": "arm64-v8a",
}


def main(words: list[str]) -> int:
    if words == ["devices"]:
        print("List of devices attached")
        for each in filter(None, os.environ["STAND_IN_DEVICES"].split(",")):
            print("\t".join(each.split()))
        return 0
    assert words[0] == "-s", words
    command, rest = words[2], words[3:]
    if command == "push":
        shutil.copy(rest[0], f"{ROOT}{rest[1]}")
        print(f"{rest[0]}: 1 file pushed, 0 skipped.")
        return 0
    assert command == "shell", words
    return shell(rest[0])


def shell(line: str) -> int:
    """The device's shell, with its absolute paths below ROOT."""
    if line.startswith("getprop "):
        print(PROPERTIES[line.split()[1]])
        return 0
    if line == "cat /proc/cpuinfo":
        print(
            "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nprocessor\t: 1\nFeatures\t: fp asimd asimddp i8mm"
        )
        return 0
    if line == "cat /proc/meminfo":
        print("MemTotal:        8000000 kB")
        return 0
    done = subprocess.run(
        ["sh", "-c", line.replace("/data/local/tmp", f"{ROOT}/data/local/tmp")],
        capture_output=True,
        text=True,
    )
    sys.stdout.write(done.stdout.replace(str(ROOT), ""))
    sys.stderr.write(done.stderr.replace(str(ROOT), ""))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
