"""A phone or board with Android, over adb: it has no Python, so an engine's own benchmark is pushed, run, and read.

    .tflite         benchmark_model, LiteRT's: a ready Android binary is on ai.google.dev/edge/litert (benchmark tools)
    .onnx, .ort     onnxruntime_perf_test, of an onnxruntime built for Android (build.sh --android --build_shared_lib)

Both must be for the device's processor (arm64-v8a mostly). Only what they print is claimed: no single times, so no turns.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyvit.bench.artifact_info import Failures, read_artifact_info
from tinyvit.bench.devices.transport import CompletedCommand, refusal, run_process
from tinyvit.bench.latency.percentiles import MIN_SAMPLES_ABOVE
from tinyvit.bench.record import TOOL, DeviceInfo, LatencyResult, Record, current_time
from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.runtimes import processor as cpu
from tinyvit.runtimes.artifact import artifact_files, detect_format
from tinyvit.runtimes.base import RuntimeInfo
from tinyvit.runtimes.registry import engines_for_format

_PLACE = "/data/local/tmp"
_WARMUP = 20


@dataclass(frozen=True)
class Runner:
    """An engine's benchmark: its name, its arguments with {file}, {threads}, {runs} and {warmup}, and what a number in what it prints is
    in milliseconds. times: finds "median" and, where it prints them, "min", "mean", "max", "p90", "p99"."""

    name: str
    engine: str
    arguments: str
    times: dict[str, re.Pattern[str]]
    unit_ms: float
    where: str


_NUMBER = r"([\d.]+(?:e[+-]?\d+)?)"
RUNNERS = {
    "litert": Runner(
        "benchmark_model",
        "litert",
        "--graph={file} --num_threads={threads} --num_runs={runs} --warmup_runs={warmup} --use_xnnpack=true --max_secs=600",
        {
            "min": re.compile(rf"count=\d+ .*?\bmin={_NUMBER}"),
            "max": re.compile(rf"count=\d+ .*?\bmax={_NUMBER}"),
            "mean": re.compile(rf"count=\d+ .*?\bavg={_NUMBER}"),
            "median": re.compile(rf"count=\d+ .*?\bmedian={_NUMBER}"),
        },
        1e-3,
        "ai.google.dev/edge/litert has it ready for Android, under benchmark tools",
    ),
    "onnxruntime": Runner(
        "onnxruntime_perf_test",
        "onnxruntime",
        "-I -e cpu -m times -r {runs} -x {threads} {file}",
        {
            "min": re.compile(rf"Min Latency: {_NUMBER} s"),
            "max": re.compile(rf"Max Latency: {_NUMBER} s"),
            "median": re.compile(rf"P50 Latency: {_NUMBER} s"),
            "p90": re.compile(rf"P90 Latency: {_NUMBER} s"),
            "p99": re.compile(rf"P99 Latency: {_NUMBER} s"),
        },
        1e3,
        "build onnxruntime for Android: ./build.sh --android --android_abi arm64-v8a --config Release",
    ),
}


class Adb:
    """A device that adb sees. Raises MissingDependencyError without adb, RequestError for none, several, or one that has not agreed."""

    def __init__(self, serial: str | None = None) -> None:
        program = shutil.which("adb")
        if program is None:
            raise MissingDependencyError(
                "adb is not on PATH",
                "install Android's platform-tools (Debian: apt-get install adb)",
            )
        listed = run_process([program, "devices"], "adb", 60).stdout.splitlines()[1:]
        states = dict(line.split()[:2] for line in listed if len(line.split()) >= 2)
        if serial is None and len(states) != 1:
            what = "no device" if not states else f"{len(states)} devices ({', '.join(states)})"
            raise RequestError(
                f"adb sees {what}",
                "connect one and allow USB debugging on it, or name one: --adb SERIAL",
            )
        self.name = serial or next(iter(states))
        if states.get(self.name) != "device":
            state = states.get(self.name, "not connected")
            raise RequestError(
                f"{self.name} is {state}",
                "unlock it and allow USB debugging from this computer; see adb devices",
            )
        self._adb = [program, "-s", self.name]

    def shell(self, command: str, timeout_s: float = 60) -> CompletedCommand:
        """A command line of the device's own shell."""
        return run_process([*self._adb, "shell", command], self.name, timeout_s)

    def push(self, path: Path, there: str) -> None:
        """Copy a file there."""
        done = run_process([*self._adb, "push", str(path), there], self.name, 1800)
        if done.code:
            raise refusal(self.name, done, f"{path.name} cannot be written there")

    def device(self) -> DeviceInfo:
        """What Android says of itself."""
        model, soc, release, abi = (
            self.shell(f"getprop {key}").stdout.strip()
            for key in (
                "ro.product.model",
                "ro.soc.model",
                "ro.build.version.release",
                "ro.product.cpu.abi",
            )
        )
        text = self.shell("cat /proc/cpuinfo").stdout
        features = cpu.features(cpu.first_processor(text, abi))
        cores = len(re.findall(r"(?m)^processor\s*:", text)) or 1
        memory = re.search(r"MemTotal:\s+(\d+) kB", self.shell("cat /proc/meminfo").stdout)
        return DeviceInfo(
            model or self.name,
            f"Android {release}",
            abi,
            soc or abi,
            features,
            cores,
            int(memory[1]) * 1024 if memory else None,
            None,
            None,
        )


def measure(
    adb: Adb, paths: Sequence[Path], runner: Path, threads: int, runs: int, timeout_s: float
) -> Record:
    """Time each file with the runner at `runner`, and leave nothing there. What fails is in `refusals`."""
    date, device = current_time(), adb.device()
    there = adb.shell(f"mktemp -d {_PLACE}/tinyvit-XXXXXX").stdout.strip()
    if not there.startswith(_PLACE + "/"):
        raise RequestError(
            f"no folder can be made in {_PLACE} on {adb.name}", "see adb shell there"
        )
    found, refusals = list[LatencyResult](), Failures()
    try:
        adb.push(runner, f"{there}/runner")
        adb.shell(f"chmod 755 {there}/runner")
        for path in paths:
            try:
                found.append(_one(adb, path, there, threads, runs, timeout_s))
            except RequestError as error:
                refusals.add(str(path), error)
    finally:
        adb.shell(f"rm -rf {there}")
    if not found:
        raise refusals.error()
    settings: dict[str, str | int | float | bool | None] = {
        "timed": "network alone",
        "runs": runs,
        "runner": runner.name,
    }
    return Record("latency", date, TOOL, device, settings, (), tuple(refusals.lines), tuple(found))


def runner_for(path: Path) -> Runner:
    """Of the file's format; raises RequestError for one that none runs."""
    format = detect_format(path)
    engine = next((name for name in engines_for_format(format) if name in RUNNERS), None)
    if engine is None:
        raise RequestError(
            f"no runner for Android is known for {format.name} files",
            "export with --target litert, onnx or ort",
        )
    return RUNNERS[engine]


def _one(
    adb: Adb, path: Path, there: str, threads: int, runs: int, timeout_s: float
) -> LatencyResult:
    runner = runner_for(path)
    if len(artifact_files(path)) != 1:
        raise RequestError(f"{path} is more than one file", "give one that is a single file")
    file = f"{there}/model{path.suffix}"
    adb.push(path, file)
    arguments = runner.arguments.format(file=file, threads=threads, runs=runs, warmup=_WARMUP)
    done = adb.shell(f"cd {there} && ./runner {arguments}", timeout_s)
    said = done.stdout + done.stderr
    if done.code:
        raise refusal(adb.name, done, f"{runner.name} failed")
    # The last match: benchmark_model prints the same line for its warm-up before.
    times = {
        key: float(found[-1]) * runner.unit_ms
        for key, pattern in runner.times.items()
        if (found := pattern.findall(said))
    }
    if "median" not in times:
        raise RequestError(
            f"{runner.name} on {adb.name} told no median", f"take a newer one: {runner.where}"
        )
    return _latency(path, runner, times, threads, runs)


def _latency(
    path: Path, runner: Runner, times: dict[str, float], threads: int, runs: int
) -> LatencyResult:
    median = times["median"]
    return LatencyResult(
        artifact=read_artifact_info(
            str(path), RuntimeInfo(runner.engine, "", "cpu", threads, "unstated")
        ),
        scenario="single-stream",
        batch=1,
        samples=runs,
        warmup_queries=_WARMUP,
        is_steady=None,
        min_ms=times.get("min"),
        median_ms=median,
        mean_ms=times.get("mean"),
        max_ms=times.get("max"),
        p90_ms=times.get("p90") if runs >= MIN_SAMPLES_ABOVE[0.9] else None,
        p99_ms=times.get("p99") if runs >= MIN_SAMPLES_ABOVE[0.99] else None,
        p90_bound_ms=None,
        p99_bound_ms=None,
        images_per_s=1e3 / times.get("mean", median),
        turns_ms=(),
        load_ms=None,
        benchmark_tool=runner.name,
    )
