"""Other tools beside ours, in turns: timm's own model in torch, its stock export, and each engine's own benchmark of our file.

A tool that times the same file in the same engine should agree with us, ratio 1; the other ratios say what this project brings.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinyvit.bench.artifact_info import Failures
from tinyvit.bench.latency.interleave import Timing, run_interleaved
from tinyvit.bench.latency.percentiles import ratio_interval
from tinyvit.bench.latency.workload import OpenWorkload, network_query
from tinyvit.bench.record import BaselineResult, LatencyRatio
from tinyvit.errors import MissingDependencyError, RequestError, TinyViTError
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.registry import open_runtime
from tinyvit.variants import VARIANTS

_ROUNDS, _TURN = 12, 8
_TOOL_ROUNDS, _TOOL_RUNS = 5, 100
_TIMEOUT_S = 600


class BenchmarkTool(NamedTuple):
    """An engine's own benchmark. arguments: after its name, with {file}, {threads}, {runs}, {result} and {precision}; median: what finds
    the median in what it prints or writes to {result}, and the milliseconds in its unit; remedy: where it is from."""

    name: str
    arguments: str
    median: re.Pattern[str]
    unit_ms: float
    remedy: str


BENCHMARK_TOOLS = {
    "openvino": BenchmarkTool(
        "benchmark_app",
        "-m {file} -d CPU -api sync -hint none -nthreads {threads} -niter {runs} -infer_precision {precision}",
        re.compile(r"Median:\s+([\d.]+) ms"),
        1,
        "pip install 'tinyvit-edge[openvino]'",
    ),
    "litert": BenchmarkTool(
        "litert-benchmark",
        "--model {file} --num_threads {threads} --num_runs {runs} --warmup_runs 20 --result_json {result}",
        re.compile(r'"median_ms": ([\d.]+)'),
        1,
        "pip install 'tinyvit-edge[litert]'",
    ),
    "onnxruntime": BenchmarkTool(
        "onnxruntime_perf_test",
        "-I -e cpu -m times -r {runs} -x {threads} {file}",
        re.compile(r"P50 Latency: ([\d.e-]+) s"),
        1e3,
        "build onnxruntime from source, whose build has it, and put it on PATH",
    ),
    "tensorrt": BenchmarkTool(
        "trtexec",
        "--loadEngine={file} --iterations={runs}",
        re.compile(r"\] Latency:.*?median = ([\d.]+) ms"),
        1,
        "it is part of NVIDIA's TensorRT package: put its bin folder on PATH",
    ),
}


def measure_baselines(
    names: Sequence[str], opened: OpenWorkload, threads: int, refusals: Failures
) -> list[BaselineResult]:
    """Each rival in turns with the file, one picture a run; those that cannot be measured are added to `refusals`."""
    peers = list[BaselineResult]()
    for name in names:
        try:
            peers.append(
                _by_tool(opened, threads) if name == "tool" else _by_torch(name, opened, threads)
            )
        except TinyViTError as error:
            refusals.add(f"{name} beside {opened.given}", error)
    return peers


def _by_torch(name: str, opened: OpenWorkload, threads: int) -> BaselineResult:
    manifest = opened.artifact.manifest
    if manifest is None or manifest.variant not in VARIANTS:
        raise RequestError(
            f"{opened.given} does not say which TinyViT it is",
            "give a file that tinyvit-export wrote",
        )
    from tinyvit.nn.timm_models import import_timm

    import_timm()
    with tempfile.TemporaryDirectory() as folder:
        theirs = _torch_query(name, manifest.variant, manifest.img_size, threads, Path(folder))
        ours = network_query(opened, opened.batch or 1)
        times = run_interleaved({"ours": ours, "theirs": theirs}, rounds=_ROUNDS, block=_TURN)
    return _peer(name, opened, times["ours"], times["theirs"])


def _torch_query(
    name: str, variant: str, size: int, threads: int, folder: Path
) -> Callable[[], object]:
    import torch

    from tinyvit.nn.timm_models import stock_export, stock_model

    model = stock_model(variant)
    x = torch.from_numpy(
        np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    )
    if name == "timm-export":
        stock_export(model, size, folder / "stock.onnx")
        runtime, pixels = (
            open_runtime(folder / "stock.onnx", "onnxruntime", RuntimeOptions(threads=threads)),
            x.numpy(),
        )
        return lambda: runtime.run(pixels)
    torch.set_num_threads(threads)
    run = torch.compile(model) if name == "timm-compiled" else model

    def query() -> object:
        with torch.inference_mode():
            return run(x)

    return query


def _by_tool(opened: OpenWorkload, threads: int) -> BaselineResult:
    tool = BENCHMARK_TOOLS.get(opened.engine)
    if tool is None:
        raise RequestError(
            f"{opened.engine} has no benchmark tool of its own that is known", "leave it out"
        )
    program = shutil.which(tool.name)
    if program is None:
        raise MissingDependencyError(f"{tool.name} is not on PATH", tool.remedy)
    if opened.batch not in (None, 1):
        raise RequestError(
            f"{opened.given} takes {opened.batch} pictures a run", "compare a file of one"
        )
    ours, theirs = list[tuple[float, ...]](), list[tuple[float, ...]]()
    query = network_query(opened, 1)
    for _ in range(_TOOL_ROUNDS):
        ours += run_interleaved({"": query}, rounds=1, warmup=0, block=_TOOL_RUNS + 10, skip=10)[
            ""
        ].turns_ms
        theirs.append((_tool_median_ms(tool, program, opened, threads),))
    return _peer(tool.name, opened, Timing(tuple(ours)), Timing(tuple(theirs)))


def _tool_median_ms(tool: BenchmarkTool, program: str, opened: OpenWorkload, threads: int) -> float:
    precision = opened.runtime.describe().precision
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        facts = {
            "file": opened.artifact.path,
            "threads": threads,
            "runs": _TOOL_RUNS,
            "result": result,
            "precision": precision,
        }
        command = [program, *(word.format(**facts) for word in tool.arguments.split())]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise RequestError(
                f"{tool.name} took more than {_TIMEOUT_S} s", "leave it out"
            ) from error
        said = (
            done.stdout
            + done.stderr
            + (json.dumps(json.loads(result.read_text()), indent=1) if result.is_file() else "")
        )
    found = tool.median.search(said)
    if found is None:
        last = (said.strip().splitlines() or ["it said nothing"])[-1][:200]
        raise RequestError(f"{tool.name} told no median ({last})", "run it by hand")
    return float(found[1]) * tool.unit_ms


def _peer(name: str, opened: OpenWorkload, ours: Timing, theirs: Timing) -> BaselineResult:
    found = ratio_interval(ours, theirs)
    median = statistics.median(theirs.samples_ms)
    return BaselineResult(
        name, opened.given, median, LatencyRatio(name, found.median, found.low, found.high)
    )
