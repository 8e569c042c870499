"""Accesses an Android device over adb (Android Debug Bridge), a program of Android's SDK."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tinyvit.bench.devices.process import (
    CompletedCommand,
    make_device_error,
    quote_command,
    run_process,
)
from tinyvit.bench.record import DeviceInfo
from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.runtimes import processor

_PUSH_TIMEOUT_S = 1800
_SHORT_TIMEOUT_S = 60
_MAX_PROPERTY_CHARACTERS = 200
"""Number of characters to which a property of the device, such as its name, is shortened."""
_MAX_LISTING_CHARACTERS = 2**20
"""Number of characters that are searched in what the device states about its processor or memory.
A processor with hundreds of cores states a tenth of it."""


class AdbDevice:
    """An Android device that is connected to this computer.

    Attributes:
        name: Serial number of the device.
    """

    def __init__(self, serial: str | None = None) -> None:
        """Choose a device.

        Args:
            serial: Serial number of the device; None if only one is connected.

        Raises:
            MissingDependencyError: adb is not installed.
            RequestError: The device is not connected, or it does not allow debugging from this
                computer. Or `serial` is None, and no device or several devices are connected.
        """
        program = shutil.which("adb")
        if program is None:
            raise MissingDependencyError(
                "adb is not on PATH",
                "install Android's platform-tools (Debian: apt-get install adb)",
            )
        states = _list_device_states(program)
        if serial is None and len(states) != 1:
            devices = f"{len(states)} devices ({', '.join(states)})" if states else "no device"
            raise RequestError(
                f"adb lists {devices}",
                "connect one device and allow USB debugging on it, or choose one with --adb SERIAL",
            )
        self.name = serial or next(iter(states))
        state = states.get(self.name, "not connected")
        if state != "device":
            raise RequestError(
                f"the device {self.name} is {state}",
                "unlock it and allow USB debugging from this computer; 'adb devices' shows its"
                " state",
            )
        self._command = [program, "-s", self.name]

    def run(
        self, command: Sequence[str], timeout_s: float = _SHORT_TIMEOUT_S, cwd: str | None = None
    ) -> CompletedCommand:
        """Run a command on the device.

        Args:
            command: The program and its arguments. Each word is quoted for the shell of the device.
            timeout_s: Seconds after which the command is stopped.
            cwd: Working directory; the device's default if None.
        """
        line = quote_command(command, cwd)
        return run_process([*self._command, "shell", line], self.name, timeout_s)

    def push(self, path: Path, remote_path: str) -> None:
        """Copy a file to the device.

        Args:
            path: The file on this machine.
            remote_path: Path of the copy on the device.

        Raises:
            RequestError: The file cannot be written on the device.
        """
        # adb could parse a relative path that begins with a hyphen as an option.
        command = [*self._command, "push", str(path.absolute()), remote_path]
        result = run_process(command, self.name, _PUSH_TIMEOUT_S)
        if result.exit_code:
            description = f"{path.name} cannot be written"
            raise make_device_error(self.name, result, description, uses_ssh=False)

    def read_device_info(self) -> DeviceInfo:
        """Read the facts about the device that a record contains."""
        model = self._read_property("ro.product.model")
        chip = self._read_property("ro.soc.model")
        release = self._read_property("ro.build.version.release")
        architecture = self._read_property("ro.product.cpu.abi")
        cpuinfo = self.run(["cat", "/proc/cpuinfo"]).stdout[:_MAX_LISTING_CHARACTERS]
        meminfo = self.run(["cat", "/proc/meminfo"]).stdout[:_MAX_LISTING_CHARACTERS]
        memory_kib = re.search(r"MemTotal:[ \t]+(\d{1,15}) kB", meminfo)
        cpu = processor.parse_cpuinfo(cpuinfo, architecture)
        return DeviceInfo(
            name=model or self.name,
            system=f"Android {release}",
            architecture=architecture,
            cpu=chip or architecture,
            cpu_features=processor.list_features(cpu),
            core_count=len(re.findall(r"(?m)^processor\s*:", cpuinfo)) or 1,
            memory_bytes=int(memory_kib[1]) * 1024 if memory_kib else None,
            governor=None,
            clock_before_mhz=None,
        )

    def _read_property(self, name: str) -> str:
        """Return a system property of Android, shortened; "" if the device does not have it."""
        return self.run(["getprop", name]).stdout.strip()[:_MAX_PROPERTY_CHARACTERS]


def _list_device_states(program: str) -> dict[str, str]:
    """Return serial number -> state of the devices; the state of a usable one is "device"."""
    command = [program, "devices"]
    output = run_process(command, device_name="adb", timeout_s=_SHORT_TIMEOUT_S).stdout
    states = {}
    for line in output.splitlines()[1:]:  # the first line is a heading
        words = line.split()
        if len(words) >= 2:  # there are empty lines
            serial, state = words[:2]
            states[serial] = state
    return states
