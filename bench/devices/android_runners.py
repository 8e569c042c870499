"""Describes the benchmark programs that engines have for Android, and reads their output."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tinyvit.bench.program_output import NUMBER, remove_long_lines
from tinyvit.bench.record.ranges import MAX_NUMBER, MIN_TIME_MS


@dataclass(frozen=True)
class AndroidRunner:
    """An engine's benchmark program for Android.

    Attributes:
        name: Name of the program.
        engine_name: Name of the engine that the program uses.
        arguments: Arguments of the program, separated by spaces, with the placeholders {file},
            {threads}, {runs} and {warmup}. `make_command` inserts their values.
        patterns: Name of a statistic -> its pattern in the output; group 1 is the number. The
            statistics are "median" and, if the program prints them, "min", "mean", "max", "p90" and
            "p99".
        unit_ms: Milliseconds per unit of these numbers.
        source: Where to get the program; part of an error message.
    """

    name: str
    engine_name: str
    arguments: str
    patterns: dict[str, re.Pattern[str]]
    unit_ms: float
    source: str

    def make_command(self, program: str, **values: str | int) -> list[str]:
        """Make the words of a command that runs the program.

        Args:
            program: Path of the program.
            values: Value of each placeholder. Spaces in a value do not separate arguments.
        """
        return [program, *(word.format(**values) for word in self.arguments.split())]


RUNNERS = {
    "litert": AndroidRunner(
        name="benchmark_model",
        engine_name="litert",
        arguments="--graph={file} --num_threads={threads} --num_runs={runs}"
        " --warmup_runs={warmup} --use_xnnpack=true --max_secs=600",
        patterns={
            "min": re.compile(rf"count=\d+ .*?\bmin={NUMBER}"),
            "max": re.compile(rf"count=\d+ .*?\bmax={NUMBER}"),
            "mean": re.compile(rf"count=\d+ .*?\bavg={NUMBER}"),
            "median": re.compile(rf"count=\d+ .*?\bmedian={NUMBER}"),
        },
        unit_ms=1e-3,
        source="ai.google.dev/edge/litert offers it for Android, under benchmark tools",
    ),
    "onnxruntime": AndroidRunner(
        name="onnxruntime_perf_test",
        engine_name="onnxruntime",
        arguments="-I -e cpu -m times -r {runs} -x {threads} {file}",
        patterns={
            "min": re.compile(rf"Min Latency: {NUMBER} s"),
            "max": re.compile(rf"Max Latency: {NUMBER} s"),
            "median": re.compile(rf"P50 Latency: {NUMBER} s"),
            "p90": re.compile(rf"P90 Latency: {NUMBER} s"),
            "p99": re.compile(rf"P99 Latency: {NUMBER} s"),
        },
        unit_ms=1e3,
        source="build onnxruntime for Android with"
        " ./build.sh --android --android_abi arm64-v8a --config Release",
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
