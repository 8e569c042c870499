"""Describes the benchmark programs that engines have for Android, and reads their output.

The engine qnn has no program of its own: onnxruntime_perf_test loads Qualcomm's execution provider
from a library (a "plugin"), as the Python package onnxruntime-qnn does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tinyvit.bench.program_output import NUMBER, remove_long_lines
from tinyvit.bench.record.ranges import MAX_NUMBER, MIN_TIME_MS
from tinyvit.runtimes import qualcomm
from tinyvit.runtimes.formats.onnx import ONNX

_PROVIDER_LIBRARY = "libonnxruntime_providers_qnn.so"
_NPU_LIBRARY = "libQnnHtp.so"
_PROVIDER_OPTIONS = " ".join(
    f"{key}|{value}"
    for key, value in qualcomm.make_provider_options(f"{{folder}}/{_NPU_LIBRARY}").items()
)
_PERF_TEST_SOURCE = (
    "build onnxruntime for Android with ./build.sh --android --android_abi arm64-v8a"
    " --config Release"
)
_PERF_TEST_PATTERNS = {
    "min": re.compile(rf"Min Latency: {NUMBER} s"),
    "max": re.compile(rf"Max Latency: {NUMBER} s"),
    "median": re.compile(rf"P50 Latency: {NUMBER} s"),
    "p90": re.compile(rf"P90 Latency: {NUMBER} s"),
    "p99": re.compile(rf"P99 Latency: {NUMBER} s"),
}


@dataclass(frozen=True)
class AndroidRunner:
    """An engine's benchmark program for Android.

    Attributes:
        name: Name of the program.
        engine_name: Name of the engine that the program uses.
        arguments: Arguments of the program, with the placeholders {file}, {folder} (of the program
            and its libraries), {threads}, {runs} and {warmup}. `make_command` inserts their values.
        patterns: Name of a statistic -> its pattern in the output; group 1 is the number. The
            statistics are "median" and, if the program prints them, "min", "mean", "max", "p90" and
            "p99".
        unit_ms: Milliseconds per unit of these numbers.
        warmup_runs: Number of inferences before the first one that is timed.
        source: Where to get the program; part of an error message.
        device: "cpu" or "npu".
        format_arguments: Name of a format -> arguments that its files need before all others.
        libraries: Names of shared libraries that the folder of --runner-libs must contain; empty if
            the program needs no such folder.
        remedy: What the user can do if the program fails.
    """

    name: str
    engine_name: str
    arguments: tuple[str, ...]
    patterns: dict[str, re.Pattern[str]]
    unit_ms: float
    warmup_runs: int
    source: str
    device: str = "cpu"
    format_arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    remedy: str = (
        "check that --runner is this program, built for this device; if it is, run it there by hand"
        " to find the cause"
    )

    def make_command(self, program: str, format_name: str, **values: str | int) -> list[str]:
        """Make the words of a command that runs the program.

        Args:
            program: Path of the program.
            format_name: Name of the artifact's format.
            values: Value of each placeholder except {warmup}.
        """
        words = (*self.format_arguments.get(format_name, ()), *self.arguments)
        return [program, *(word.format(**values, warmup=self.warmup_runs) for word in words)]


RUNNERS = {
    "litert": AndroidRunner(
        name="benchmark_model",
        engine_name="litert",
        arguments=(
            *("--graph={file}", "--num_threads={threads}", "--num_runs={runs}"),
            *("--warmup_runs={warmup}", "--use_xnnpack=true", "--max_secs=600"),
        ),
        patterns={
            "min": re.compile(rf"count=\d+ .*?\bmin={NUMBER}"),
            "max": re.compile(rf"count=\d+ .*?\bmax={NUMBER}"),
            "mean": re.compile(rf"count=\d+ .*?\bavg={NUMBER}"),
            "median": re.compile(rf"count=\d+ .*?\bmedian={NUMBER}"),
        },
        unit_ms=1e-3,
        warmup_runs=20,
        source="ai.google.dev/edge/litert offers it for Android, under benchmark tools",
    ),
    "onnxruntime": AndroidRunner(
        name="onnxruntime_perf_test",
        engine_name="onnxruntime",
        arguments=("-I", "-e", "cpu", "-m", "times", "-r", "{runs}", "-x", "{threads}", "{file}"),
        patterns=_PERF_TEST_PATTERNS,
        unit_ms=1e3,
        warmup_runs=1,  # there is no option for it
        source=_PERF_TEST_SOURCE,
    ),
    "qnn": AndroidRunner(
        name="onnxruntime_perf_test",
        engine_name="qnn",
        arguments=(
            *("-I", "--plugin_ep_libs", f"{qualcomm.PROVIDER}|{{folder}}/{_PROVIDER_LIBRARY}"),
            *("--plugin_eps", qualcomm.PROVIDER, "--plugin_ep_options", _PROVIDER_OPTIONS),
            *("-m", "times", "-r", "{runs}", "{file}"),
        ),
        patterns=_PERF_TEST_PATTERNS,
        unit_ms=1e3,
        warmup_runs=1,
        source=_PERF_TEST_SOURCE,
        device="npu",
        # A compiled network keeps the conversions of its input and output on the CPU, and without
        # the execution provider no session opens it.
        format_arguments={ONNX.name: ("-C", "|".join(qualcomm.NO_CPU_ENTRY))},
        libraries=(_PROVIDER_LIBRARY, _NPU_LIBRARY, "libQnnSystem.so"),
        remedy="check that --runner-libs has the libraries for the NPU of this device"
        " (libQnnHtpV...Stub.so and libQnnHtpV...Skel.so), that onnxruntime_perf_test is of version"
        " 1.24.2 or later, and that the file is not compiled for another chip",
    ),
}
"""Name of an engine -> its benchmark program for Android; other engines have none."""


def read_times(runner: AndroidRunner, output: str) -> dict[str, float]:
    """Read the latencies from the output of a benchmark program.

    Args:
        runner: The program.
        output: The output of the program.

    Returns:
        Name of a statistic -> milliseconds, for those of `runner.patterns` that were printed. Times
        that no record may contain are left out.
    """
    times_ms = {}
    for line in remove_long_lines(output).splitlines():
        for statistic, pattern in runner.patterns.items():
            match = pattern.search(line)
            if match:
                # benchmark_model prints the same line for its warm-up first: the last line counts.
                times_ms[statistic] = float(match[1]) * runner.unit_ms
    return {
        statistic: time_ms
        for statistic, time_ms in times_ms.items()
        if MIN_TIME_MS <= time_ms <= MAX_NUMBER
    }
