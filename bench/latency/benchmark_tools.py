"""Describes the benchmark programs that come with the engines, for the baseline "tool"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tinyvit.bench.program_output import NUMBER
from tinyvit.install_command import format_extra_command


@dataclass(frozen=True)
class BenchmarkTool:
    """The benchmark program that comes with an engine (the baseline "tool").

    Attributes:
        program: Name of the program.
        arguments: Arguments of the program, with the placeholders {file}, {threads}, {runs},
            {result} (a file for JSON output) and {precision}.
        median_pattern: Pattern of the median latency in the output or in the JSON file; group 1 is
            the number.
        unit_ms: Milliseconds per unit of this number.
        remedy: How to get the program; shown as the remedy when the program is missing.
    """

    program: str
    arguments: str
    median_pattern: re.Pattern[str]
    unit_ms: float
    remedy: str


BENCHMARK_TOOLS = {
    "openvino": BenchmarkTool(
        program="benchmark_app",
        arguments="-m {file} -d CPU -api sync -hint none -nthreads {threads} -niter {runs}"
        " -infer_precision {precision}",
        median_pattern=re.compile(rf"Median:\s+{NUMBER} ms"),
        unit_ms=1,
        remedy=format_extra_command("openvino"),
    ),
    "litert": BenchmarkTool(
        program="litert-benchmark",
        arguments="--model {file} --num_threads {threads} --num_runs {runs} --warmup_runs 20"
        " --result_json {result}",
        median_pattern=re.compile(rf'"median_ms": {NUMBER}(?![\w.])'),
        unit_ms=1,
        remedy=format_extra_command("litert"),
    ),
    "onnxruntime": BenchmarkTool(
        program="onnxruntime_perf_test",
        arguments="-I -e cpu -m times -r {runs} -x {threads} {file}",
        median_pattern=re.compile(rf"P50 Latency: {NUMBER} s"),
        unit_ms=1e3,
        remedy="build onnxruntime from source, which also builds this program, and add it to PATH",
    ),
    "tensorrt": BenchmarkTool(
        program="trtexec",
        arguments="--loadEngine={file} --iterations={runs}",
        median_pattern=re.compile(rf"\] Latency:.*?median = {NUMBER} ms"),
        unit_ms=1,
        remedy="add the bin folder of NVIDIA's TensorRT package to PATH",
    ),
}
"""Name of an engine -> its benchmark tool; other engines have none."""
