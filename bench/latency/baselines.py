"""Times baselines alternately with an artifact, and divides the artifact's latency by theirs.

There are two kinds of baselines. The first kind is timm's model of the same variant (run by PyTorch
directly, compiled by `torch.compile`, or exported by `torch.onnx.export`); it shows how much faster
the artifact is. The second kind is the benchmark tool that comes with the artifact's engine. It
checks this package's timing: the tool and this package time the same file in the same engine, so
that the ratio should be 1.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from tinyvit.bench.devices.process import run_process
from tinyvit.bench.failures import Failures
from tinyvit.bench.latency.benchmark_tools import BENCHMARK_TOOLS, BenchmarkTool
from tinyvit.bench.latency.interleave import Timing, TurnPlan, run_interleaved, run_plan
from tinyvit.bench.latency.open_artifact import OpenArtifact
from tinyvit.bench.latency.percentiles import MIN_TURNS, ratio_interval
from tinyvit.bench.latency.queries import Query, make_network_query
from tinyvit.bench.profilers import random_input
from tinyvit.bench.program_output import remove_long_lines
from tinyvit.bench.record import BaselineResult, LatencyRatio
from tinyvit.bench.record.ranges import MAX_NUMBER, MIN_TIME_MS
from tinyvit.errors import MissingDependencyError, RequestError, TinyViTError
from tinyvit.files.staging import temporary_folder
from tinyvit.image_sizes import height_and_width
from tinyvit.install_command import format_packages_command
from tinyvit.manifest import Manifest
from tinyvit.processes.python_process import read_last_line
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.registry import open_runtime
from tinyvit.serialization import read_json
from tinyvit.variants import VARIANTS

# In each round, the artifact and the baseline have one turn each, of several runs.
_TIMM_ROUNDS = 12
_TIMM_RUNS_PER_TURN = 8
_TOOL_ROUNDS = MIN_TURNS
_TOOL_RUNS = 100
"""Timed runs in each round; each round starts the tool once."""
_TOOL_WARMUP_RUNS = 10
"""Runs of the artifact before its timed runs in each round; the tools have their own warm-up."""
_TOOL_TIMEOUT_S = 600
_MAX_TOOL_OUTPUT_BYTES = 16 * 2**20
"""Largest number of bytes that a benchmark tool may print. They print a few kilobytes."""
_MAX_RESULT_BYTES = 2**20
"""Largest JSON file of a tool that is read. The tools write a few kilobytes."""
_PRECISION_OPTIONS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
"""Precision of the engine -> value of the option -infer_precision of OpenVINO's benchmark_app."""


def measure_baselines(
    names: Sequence[str], open_artifact: OpenArtifact, threads: int, failures: Failures
) -> list[BaselineResult]:
    """Time baselines alternately with an artifact, with one image per run.

    Args:
        names: Names from `record.BASELINES`.
        open_artifact: The artifact, open in an engine.
        threads: Number of CPU threads of the baselines.
        failures: Receives the errors of the baselines that cannot be timed.

    Returns:
        One result per baseline that could be timed.
    """
    results: list[BaselineResult] = []
    for name in names:
        try:
            if name == "tool":
                results.append(_measure_tool(open_artifact, threads))
            else:
                results.append(_measure_timm(name, open_artifact, threads))
        except TinyViTError as error:
            failures.add(f"baseline {name} of {open_artifact.path}", error)
    return results


def require_programs(names: Sequence[str], engine_names: Iterable[str]) -> None:
    """Refuse baselines that no artifact can be compared with, before anything is measured.

    timm is searched but not imported, because the import would load torch into this process.

    Args:
        names: Names from `record.BASELINES`.
        engine_names: Names of the engines that run the artifacts.

    Raises:
        MissingDependencyError: A package is missing, or the benchmark tools of all engines are.
    """
    if any(name.startswith("timm") for name in names):
        for package in ("timm", "torch"):
            if importlib.util.find_spec(package) is None:
                remedy = format_packages_command("timm", "torchvision")
                raise MissingDependencyError(f"{package} is not installed", remedy)
    if "tool" not in names:
        return
    tools = [BENCHMARK_TOOLS[name] for name in engine_names if name in BENCHMARK_TOOLS]
    if tools and not any(shutil.which(tool.program) for tool in tools):
        raise MissingDependencyError(f"{tools[0].program} is not on PATH", tools[0].remedy)


def _require_single_images(open_artifact: OpenArtifact) -> None:
    """Raise RequestError if the artifact cannot run one image, as every baseline does."""
    if open_artifact.fixed_batch not in (None, 1):
        raise RequestError(
            f"{open_artifact.path} takes {open_artifact.fixed_batch} images per run",
            "compare a file that takes one image per run",
        )


def _measure_timm(name: str, open_artifact: OpenArtifact, threads: int) -> BaselineResult:
    """Time timm's model of the artifact's variant alternately with the artifact."""
    _require_single_images(open_artifact)
    manifest = open_artifact.artifact.manifest
    if manifest is not None and manifest.variant.startswith("mobile_sam"):
        raise RequestError(
            f"{open_artifact.path} is the image encoder of a MobileSAM, which timm does not have",
            "compare it with an ONNX file that another tool exported",
        )
    if manifest is None or manifest.variant not in VARIANTS:
        raise RequestError(
            f"{open_artifact.path} does not state which TinyViT variant it is",
            "give a file that tinyvit-export wrote",
        )
    from tinyvit.nn.timm_models import import_timm

    import_timm()  # raises an error with a remedy if timm is missing
    with temporary_folder() as folder:
        timm_query = _make_timm_query(name, manifest, threads, folder)
        artifact_query = make_network_query(open_artifact, images_per_query=1)
        timings = run_interleaved(
            {"artifact": artifact_query, "timm": timm_query},
            rounds=_TIMM_ROUNDS,
            runs_per_turn=_TIMM_RUNS_PER_TURN,
        )
    return _make_result(name, open_artifact, timings["artifact"], timings["timm"])


def _make_timm_query(name: str, manifest: Manifest, threads: int, folder: Path) -> Query:
    """Make a query that runs timm's model with random weights once, on one image.

    Args:
        name: Name of the baseline, which determines how the model runs: "timm", "timm-compiled" or
            "timm-export".
        manifest: Manifest of the artifact, with the variant, the image size and the output.
        threads: Number of CPU threads.
        folder: Folder for the exported model.
    """
    import torch

    from tinyvit.nn.timm_models import (
        export_with_torch,
        find_output_request,
        make_timm_model,
    )

    model = make_timm_model(manifest.variant, find_output_request(manifest.outputs))
    img_size = manifest.img_size
    image = random_input((1, 3, *height_and_width(img_size)), "float32")
    if name == "timm-export":
        path = folder / "timm.onnx"
        export_with_torch(model, img_size, path)
        options = RuntimeOptions(threads=threads, allow_foreign_operators=True)
        runtime = open_runtime(path, "onnxruntime", options)

        def run_exported_model() -> object:
            return runtime.run_outputs(image)

        return run_exported_model
    torch.set_num_threads(threads)
    forward = torch.compile(model) if name == "timm-compiled" else model
    tensor = torch.from_numpy(image)

    def run_model() -> object:
        with torch.inference_mode():
            return forward(tensor)

    return run_model


def _measure_tool(open_artifact: OpenArtifact, threads: int) -> BaselineResult:
    """Run the benchmark tool of the artifact's engine alternately with the artifact."""
    tool = BENCHMARK_TOOLS.get(open_artifact.engine_name)
    if tool is None:
        raise RequestError(
            f"no benchmark tool is known for the engine {open_artifact.engine_name}",
            "leave 'tool' out of --compare-to",
        )
    program_path = shutil.which(tool.program)
    if program_path is None:
        raise MissingDependencyError(f"{tool.program} is not on PATH", tool.remedy)
    _require_single_images(open_artifact)
    query = make_network_query(open_artifact, images_per_query=1)
    # The plan contains one round, because the tool runs between two rounds.
    plan = TurnPlan(
        rounds=1,
        runs_per_turn=_TOOL_RUNS + _TOOL_WARMUP_RUNS,
        skipped_runs=_TOOL_WARMUP_RUNS,
    )
    artifact_turns_ms, tool_turns_ms = list[tuple[float, ...]](), list[tuple[float, ...]]()
    for _ in range(_TOOL_ROUNDS):
        artifact_turns_ms += run_plan({"artifact": query}, plan)["artifact"].turns_ms
        # The tool reports only the median of its turn.
        tool_median_ms = run_tool(tool, program_path, open_artifact, threads)
        tool_turns_ms.append((tool_median_ms,))
    return _make_result(
        tool.program,
        open_artifact,
        Timing(tuple(artifact_turns_ms)),
        Timing(tuple(tool_turns_ms)),
    )


def run_tool(
    tool: BenchmarkTool, program_path: str, open_artifact: OpenArtifact, threads: int
) -> float:
    """Run a benchmark tool once.

    Args:
        tool: The tool.
        program_path: Path of its program.
        open_artifact: The artifact, whose file the tool runs.
        threads: Number of CPU threads.

    Returns:
        The median latency that the tool reports, in milliseconds, above 0.

    Raises:
        RequestError: The tool takes too long, prints too much, or reports no such latency.
    """
    # For an int8 artifact the engine reports "int8, the rest float32"; the option is for the rest.
    precision = open_artifact.runtime.describe().precision.rpartition(" ")[2]
    with temporary_folder() as folder:
        result_file = folder / "result.json"
        values = {
            # A relative path that begins with a hyphen would be an option.
            "file": open_artifact.artifact.path.absolute(),
            "threads": threads,
            "runs": _TOOL_RUNS,
            "result": result_file,
            "precision": _PRECISION_OPTIONS.get(precision, "f32"),
        }
        command = [program_path, *(word.format(**values) for word in tool.arguments.split())]
        try:
            process = run_process(
                command,
                "this machine",
                _TOOL_TIMEOUT_S,
                max_output_bytes=_MAX_TOOL_OUTPUT_BYTES,
            )
        except RequestError as error:
            raise RequestError(error.cause, "leave 'tool' out of --compare-to") from error
        output = process.stdout + process.stderr
        if result_file.is_file():
            output += _format_json_file(result_file, tool.program)
    match = tool.median_pattern.search(remove_long_lines(output))
    median_ms = float(match[1]) * tool.unit_ms if match else 0
    if not MIN_TIME_MS <= median_ms <= MAX_NUMBER:
        reason = read_last_line(output, if_empty="no output")
        raise RequestError(
            f"{tool.program} reported no median latency ({reason})",
            "run it by hand to find the cause",
        )
    return median_ms


def _format_json_file(path: Path, program: str) -> str:
    """Return the content of a tool's JSON file, with one space after each colon."""
    try:
        return json.dumps(read_json(path, _MAX_RESULT_BYTES), indent=1)
    except ValueError as error:
        raise RequestError(
            f"the JSON file of {program} cannot be read ({error})",
            "run it by hand to find the cause",
        ) from error


def _make_result(
    name: str, open_artifact: OpenArtifact, artifact_timing: Timing, baseline_timing: Timing
) -> BaselineResult:
    """Make the result of a baseline that was timed alternately with the artifact."""
    interval = ratio_interval(artifact_timing, baseline_timing)
    return BaselineResult(
        name=name,
        artifact_path=open_artifact.path,
        median_ms=baseline_timing.median_ms,
        ratio=LatencyRatio(
            reference=name, median=interval.median, low=interval.low, high=interval.high
        ),
    )
