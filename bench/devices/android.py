"""Measures the latency of artifacts on Android over adb.

Android has no Python, so an engine's own benchmark program is copied to the device, run there, and
its output is read. It must be built for the device's processor, mostly arm64-v8a:

    .tflite         benchmark_model of LiteRT (prebuilt binaries: ai.google.dev/edge/litert)
    .onnx, .ort     onnxruntime_perf_test, from a build of onnxruntime for Android

The record contains only the statistics that the program prints. It has no single samples.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tinyvit.bench.artifact_info import read_artifact_info
from tinyvit.bench.devices.android_runners import RUNNERS, AndroidRunner, read_times
from tinyvit.bench.devices.process import CompletedCommand, device_error, run_process
from tinyvit.bench.failures import Failures
from tinyvit.bench.latency.percentiles import MIN_SAMPLES
from tinyvit.bench.record import PACKAGE, DeviceInfo, LatencyResult, Record, current_time
from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.progress import NullProgress, Progress
from tinyvit.runtimes import processor
from tinyvit.runtimes.artifact import detect_format, list_artifact_files
from tinyvit.runtimes.base import RuntimeInfo
from tinyvit.runtimes.registry import engines_for_format

_PARENT_FOLDER = "/data/local/tmp"
"""Folder to which the adb user may write, and from which it may run programs."""
_WARMUP_RUNS = 20
_PUSH_TIMEOUT_S = 1800


@dataclass(frozen=True)
class AndroidMeasurement:
    """The settings of a measurement on an Android device.

    Attributes:
        paths: The artifacts on this machine.
        runner: The benchmark program on this machine, built for the device.
        threads: CPU threads.
        runs: Inferences to time per artifact.
        timeout_s: Time limit per artifact.
    """

    paths: tuple[Path, ...]
    runner: Path
    threads: int
    runs: int
    timeout_s: float


class Adb:
    """An Android device that is connected over adb.

    Attributes:
        name: Serial number of the device.
    """

    def __init__(self, serial: str | None = None) -> None:
        """Choose a device.

        Args:
            serial: Serial number of the device; None if only one is connected.

        Raises:
            MissingDependencyError: adb is not installed.
            RequestError: No device, or several devices, are connected, or the device does not allow
                debugging from this computer.
        """
        program = shutil.which("adb")
        if program is None:
            raise MissingDependencyError(
                "adb is not on PATH",
                "install Android's platform-tools (Debian: apt-get install adb)",
            )
        lines = run_process([program, "devices"], "adb", 60).stdout.splitlines()[1:]
        states = dict(line.split()[:2] for line in lines if len(line.split()) >= 2)
        if serial is None and len(states) != 1:
            devices = "no device" if not states else f"{len(states)} devices ({', '.join(states)})"
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

    def shell(self, line: str, timeout_s: float = 60) -> CompletedCommand:
        """Run a command line in the shell of the device.

        Args:
            line: The command line, whose words must be quoted for a POSIX shell.
            timeout_s: Seconds after which the command is stopped.
        """
        return run_process([*self._command, "shell", line], self.name, timeout_s)

    def push(self, path: Path, remote_path: str) -> None:
        """Copy a file to the device.

        Args:
            path: The file on this machine.
            remote_path: Its path on the device.
        """
        # adb could parse a relative path that begins with a hyphen as an option.
        command = [*self._command, "push", str(path.absolute()), remote_path]
        result = run_process(command, self.name, _PUSH_TIMEOUT_S)
        if result.exit_code:
            raise device_error(self.name, result, f"{path.name} cannot be written")

    def read_device_info(self) -> DeviceInfo:
        """Read the properties of the device that the record states."""
        model, soc, release, abi = (
            self.shell(f"getprop {key}").stdout.strip()
            for key in (
                "ro.product.model",
                "ro.soc.model",
                "ro.build.version.release",
                "ro.product.cpu.abi",
            )
        )
        cpuinfo = self.shell("cat /proc/cpuinfo").stdout
        memory = re.search(r"MemTotal:\s+(\d+) kB", self.shell("cat /proc/meminfo").stdout)
        return DeviceInfo(
            name=model or self.name,
            system=f"Android {release}",
            architecture=abi,
            cpu=soc or abi,
            cpu_features=processor.list_features(processor.parse_cpuinfo(cpuinfo, abi)),
            core_count=len(re.findall(r"(?m)^processor\s*:", cpuinfo)) or 1,
            memory_bytes=int(memory[1]) * 1024 if memory else None,
            governor=None,
            clock_before_mhz=None,
        )


def measure_on_android(
    adb: Adb, measurement: AndroidMeasurement, progress: Progress | None = None
) -> Record:
    """Measure the latency of artifacts on an Android device, and delete all files there.

    Args:
        adb: The device.
        measurement: The settings of the measurement.
        progress: Receives each step; none is shown by default.

    Returns:
        A latency record. Artifacts that cannot be measured are in its `failures`.

    Raises:
        RequestError: No artifact can be measured; the error states the first cause.
    """
    progress = progress or NullProgress()
    date, device = current_time(), adb.read_device_info()
    results, failures = list[LatencyResult](), Failures()
    with _temporary_folder(adb) as folder:
        progress.message(f"{adb.name}: sending {measurement.runner.name} to {folder}")
        adb.push(measurement.runner, f"{folder}/runner")
        adb.shell(f"chmod 755 {shlex.quote(folder)}/runner")
        for path in measurement.paths:
            progress.message(f"{adb.name}: measuring {path.name}")
            try:
                results.append(_measure_artifact(adb, path, folder, measurement))
            except RequestError as error:
                failures.add(str(path), error)
    if not results:
        raise failures.make_error()
    return Record(
        kind="latency",
        date=date,
        package=PACKAGE,
        device=device,
        settings={
            "timed": "network alone",
            "runs": measurement.runs,
            "runner": measurement.runner.name,
        },
        warnings=(),
        failures=tuple(failures.messages),
        latency=tuple(results),
    )


def find_runner(path: Path) -> AndroidRunner:
    """Find the benchmark program that runs an artifact on Android.

    Args:
        path: Path of the artifact.

    Raises:
        RequestError: No program is known for the artifact's format.
    """
    format = detect_format(path)
    engine = next((name for name in engines_for_format(format) if name in RUNNERS), None)
    if engine is None:
        raise RequestError(
            f"no benchmark program for Android is known for {format.name} files",
            "export with --target litert, onnx or ort",
        )
    return RUNNERS[engine]


@contextmanager
def _temporary_folder(adb: Adb) -> Iterator[str]:
    """Create a folder on the device, and delete it at the end, even after an error."""
    folder = adb.shell(f"mktemp -d {_PARENT_FOLDER}/tinyvit-XXXXXX").stdout.strip()
    if not folder.startswith(_PARENT_FOLDER + "/"):
        raise RequestError(
            f"no folder can be created in {_PARENT_FOLDER} on {adb.name}",
            f"run 'mktemp -d {_PARENT_FOLDER}/x-XXXXXX' there with adb shell to find the cause",
        )
    try:
        yield folder
    finally:
        adb.shell(f"rm -rf {shlex.quote(folder)}")


def _measure_artifact(
    adb: Adb, path: Path, folder: str, measurement: AndroidMeasurement
) -> LatencyResult:
    """Copy an artifact to the device, run the benchmark program on it, and read its output."""
    runner = find_runner(path)
    if len(list_artifact_files(path)) != 1:
        raise RequestError(
            f"{path} consists of several files", "give an artifact that is a single file"
        )
    remote_path = f"{folder}/model{path.suffix}"
    adb.push(path, remote_path)
    arguments = runner.arguments.format(
        file=shlex.quote(remote_path),
        threads=measurement.threads,
        runs=measurement.runs,
        warmup=_WARMUP_RUNS,
    )
    line = f"cd {shlex.quote(folder)} && ./runner {arguments}"
    result = adb.shell(line, measurement.timeout_s)
    if result.exit_code:
        raise device_error(adb.name, result, f"{runner.name} failed")
    times_ms = read_times(runner, result.stdout + result.stderr)
    if "median" not in times_ms:
        raise RequestError(
            f"{runner.name} on {adb.name} printed no median latency",
            f"use a newer version: {runner.source}",
        )
    return _make_result(path, runner, times_ms, measurement)


def _make_result(
    path: Path, runner: AndroidRunner, times_ms: dict[str, float], measurement: AndroidMeasurement
) -> LatencyResult:
    runs, median_ms = measurement.runs, times_ms["median"]
    engine = RuntimeInfo(runner.engine, "", "cpu", measurement.threads, "unstated")
    return LatencyResult(
        artifact=read_artifact_info(str(path), engine),
        scenario="single-stream",
        batch=1,
        sample_count=runs,
        warmup_queries=_WARMUP_RUNS,
        is_steady=None,
        min_ms=times_ms.get("min"),
        median_ms=median_ms,
        mean_ms=times_ms.get("mean"),
        max_ms=times_ms.get("max"),
        p90_ms=times_ms.get("p90") if runs >= MIN_SAMPLES[0.9] else None,
        p99_ms=times_ms.get("p99") if runs >= MIN_SAMPLES[0.99] else None,
        p90_bound_ms=None,
        p99_bound_ms=None,
        images_per_s=1e3 / times_ms.get("mean", median_ms),
        turns_ms=(),
        load_ms=None,
        benchmark_tool=runner.name,
    )
