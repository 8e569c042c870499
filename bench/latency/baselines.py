"""Times baselines alternately with an artifact, and divides the artifact's latency by theirs.

There are two kinds of baselines. The first kind is timm's model of the same variant (in PyTorch,
compiled, or exported by PyTorch's own exporter); it shows how much faster the artifact is. The
second kind, the benchmark tool of the artifact's engine, is a check of this package's timing: both
time the same file in the same engine, so that the ratio should be 1.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit.bench.failures import Failures
from tinyvit.bench.latency.interleave import Timing, TurnPlan, run_interleaved, run_turns
from tinyvit.bench.latency.percentiles import ratio_interval
from tinyvit.bench.latency.workload import OpenWorkload, make_network_query
from tinyvit.bench.record import BaselineResult, LatencyRatio
from tinyvit.errors import MissingDependencyError, RequestError, TinyViTError
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.registry import open_runtime
from tinyvit.variants import VARIANTS

_ROUNDS, _RUNS_PER_TURN = 12, 8
"""In each round, the artifact and the baseline have one turn each, of several runs."""
_TOOL_ROUNDS, _TOOL_RUNS, _TOOL_WARMUP_RUNS = 5, 100, 10
_TIMEOUT_S = 600
_PRECISION_OPTIONS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
"""Precision of `RuntimeInfo` -> value of benchmark_app's option -infer_precision."""


@dataclass(frozen=True)
class BenchmarkTool:
    """The benchmark program that comes with an engine.

    Attributes:
        program: Name of the program.
        arguments: Its arguments, with the placeholders {file}, {threads}, {runs}, {result} (a file
            for JSON output) and {precision}.
        median_pattern: Matches the output or the JSON file; group 1 is the median latency.
        unit_ms: Milliseconds per unit of that number.
        remedy: How to get the program; shown as the remedy when it is missing.
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
        median_pattern=re.compile(r"Median:\s+([\d.]+) ms"),
        unit_ms=1,
        remedy="pip install 'tinyvit-edge[openvino]'",
    ),
    "litert": BenchmarkTool(
        program="litert-benchmark",
        arguments="--model {file} --num_threads {threads} --num_runs {runs} --warmup_runs 20"
        " --result_json {result}",
        median_pattern=re.compile(r'"median_ms": ([\d.]+)'),
        unit_ms=1,
        remedy="pip install 'tinyvit-edge[litert]'",
    ),
    "onnxruntime": BenchmarkTool(
        program="onnxruntime_perf_test",
        arguments="-I -e cpu -m times -r {runs} -x {threads} {file}",
        median_pattern=re.compile(r"P50 Latency: ([\d.e-]+) s"),
        unit_ms=1e3,
        remedy="build onnxruntime from source, which also builds this program, and add it to PATH",
    ),
    "tensorrt": BenchmarkTool(
        program="trtexec",
        arguments="--loadEngine={file} --iterations={runs}",
        median_pattern=re.compile(r"\] Latency:.*?median = ([\d.]+) ms"),
        unit_ms=1,
        remedy="add the bin folder of NVIDIA's TensorRT package to PATH",
    ),
}
"""The benchmark tool of each engine that has one."""


def measure_baselines(
    names: Sequence[str], workload: OpenWorkload, threads: int, failures: Failures
) -> list[BaselineResult]:
    """Time baselines alternately with an artifact, with one image per run.

    Args:
        names: Names from `record.BASELINES`.
        workload: The open artifact.
        threads: CPU threads of the baselines.
        failures: Receives the errors of the baselines that cannot be timed.

    Returns:
        One result per baseline that could be timed.
    """
    results: list[BaselineResult] = []
    for name in names:
        try:
            if name == "tool":
                results.append(_measure_tool(workload, threads))
            else:
                results.append(_measure_timm(name, workload, threads))
        except TinyViTError as error:
            failures.add(f"baseline {name} of {workload.path}", error)
    return results


def _check_batch(workload: OpenWorkload) -> None:
    """Raise RequestError if the artifact cannot run one image, as every baseline does."""
    if workload.batch not in (None, 1):
        raise RequestError(
            f"{workload.path} takes {workload.batch} images per run",
            "compare a file that takes one image per run",
        )


def _measure_timm(name: str, workload: OpenWorkload, threads: int) -> BaselineResult:
    """Time timm's model of the artifact's variant alternately with the artifact."""
    _check_batch(workload)
    manifest = workload.artifact.manifest
    if manifest is None or manifest.variant not in VARIANTS:
        raise RequestError(
            f"{workload.path} does not state which TinyViT variant it is",
            "give a file that tinyvit-export wrote",
        )
    from tinyvit.nn.timm_models import import_timm

    import_timm()
    with tempfile.TemporaryDirectory() as folder:
        timm_query = _make_timm_query(
            name, manifest.variant, manifest.img_size, threads, Path(folder)
        )
        query = make_network_query(workload, 1)
        timings = run_interleaved(
            {"artifact": query, "timm": timm_query}, rounds=_ROUNDS, runs_per_turn=_RUNS_PER_TURN
        )
    return _compare(name, workload, timings["artifact"], timings["timm"])


def _make_timm_query(
    name: str, variant: str, img_size: int, threads: int, folder: Path
) -> Callable[[], object]:
    """Make a function that runs timm's model once, on one image, for one of the baselines.

    The model has random weights.
    """
    import torch

    from tinyvit.nn.timm_models import export_with_torch, make_timm_model

    model = make_timm_model(variant)
    shape = (1, 3, img_size, img_size)
    image: npt.NDArray[np.float32] = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    if name == "timm-export":
        path = folder / "stock.onnx"
        export_with_torch(model, img_size, path)
        runtime = open_runtime(path, "onnxruntime", RuntimeOptions(threads=threads))

        def run_export() -> object:
            return runtime.run(image)

        return run_export
    torch.set_num_threads(threads)
    forward = torch.compile(model) if name == "timm-compiled" else model
    tensor = torch.from_numpy(image)

    def run_model() -> object:
        with torch.inference_mode():
            return forward(tensor)

    return run_model


def _measure_tool(workload: OpenWorkload, threads: int) -> BaselineResult:
    """Run the benchmark tool of the artifact's engine alternately with the artifact."""
    tool = BENCHMARK_TOOLS.get(workload.engine)
    if tool is None:
        raise RequestError(
            f"no benchmark tool is known for the engine {workload.engine}",
            "leave 'tool' out of --compare-to",
        )
    program = shutil.which(tool.program)
    if program is None:
        raise MissingDependencyError(f"{tool.program} is not on PATH", tool.remedy)
    _check_batch(workload)
    query = make_network_query(workload, 1)
    plan = TurnPlan(
        rounds=1,
        runs_per_turn=_TOOL_RUNS + _TOOL_WARMUP_RUNS,
        skipped_runs=_TOOL_WARMUP_RUNS,
    )
    turns_ms, tool_turns_ms = list[tuple[float, ...]](), list[tuple[float, ...]]()
    for _ in range(_TOOL_ROUNDS):
        turns_ms += run_turns({"artifact": query}, plan)["artifact"].turns_ms
        tool_turns_ms.append((_run_tool(tool, program, workload, threads),))
    return _compare(tool.program, workload, Timing(tuple(turns_ms)), Timing(tuple(tool_turns_ms)))


def _run_tool(tool: BenchmarkTool, program: str, workload: OpenWorkload, threads: int) -> float:
    """Run a benchmark tool once, and return the median latency that it reports, in ms."""
    # For an int8 artifact the engine reports "int8, the rest float32"; the option is for the rest.
    precision = workload.runtime.describe().precision.rpartition(" ")[2]
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        values = {
            "file": workload.artifact.path,
            "threads": threads,
            "runs": _TOOL_RUNS,
            "result": result,
            "precision": _PRECISION_OPTIONS.get(precision, "f32"),
        }
        command = [program, *(word.format(**values) for word in tool.arguments.split())]
        try:
            process = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise RequestError(
                f"{tool.program} took more than {_TIMEOUT_S} s", "leave 'tool' out of --compare-to"
            ) from error
        output = process.stdout + process.stderr
        if result.is_file():
            output += json.dumps(json.loads(result.read_text()), indent=1)
    median = tool.median_pattern.search(output)
    if median is None:
        last_line = (output.strip().splitlines() or ["no output"])[-1][:200]
        raise RequestError(
            f"{tool.program} reported no median latency ({last_line})",
            "run it by hand to find the cause",
        )
    return float(median[1]) * tool.unit_ms


def _compare(
    name: str, workload: OpenWorkload, timing: Timing, baseline_timing: Timing
) -> BaselineResult:
    """Make the result of a baseline from alternating turns."""
    interval = ratio_interval(timing, baseline_timing)
    return BaselineResult(
        name,
        workload.path,
        statistics.median(baseline_timing.samples_ms),
        LatencyRatio(name, interval.median, interval.low, interval.high),
    )
