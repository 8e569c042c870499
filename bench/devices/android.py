"""Measures the latency of artifacts (exported model files) on Android over adb.

Android has no Python. Therefore the benchmark program of an engine, called the runner here, is
copied to the device and run there, and its output is read. The runner must be built for the
device's processor, which is mostly arm64-v8a:

    .tflite         benchmark_model of LiteRT (prebuilt binaries: ai.google.dev/edge/litert)
    .onnx, .ort     onnxruntime_perf_test, from a build of onnxruntime for Android
    .qnn.onnx       the same program, with libraries of Qualcomm; it runs on the Hexagon NPU

The record contains only the statistics that the runner prints, not the latency of each inference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinyvit.bench.artifact_info import read_artifact_info
from tinyvit.bench.devices.adb import AdbDevice
from tinyvit.bench.devices.android_runners import RUNNERS, AndroidRunner, read_times
from tinyvit.bench.devices.config import AndroidConfig
from tinyvit.bench.devices.process import make_device_error
from tinyvit.bench.failures import Failures
from tinyvit.bench.latency.config import NETWORK_ALONE
from tinyvit.bench.latency.percentiles import MIN_SAMPLES
from tinyvit.bench.record import PACKAGE_VERSION, LatencyResult, Record, current_time
from tinyvit.errors import RequestError, TinyViTError
from tinyvit.privacy import ONNXRUNTIME_VARIABLE
from tinyvit.progress import NullProgress, Progress
from tinyvit.runtimes.artifact import detect_format, list_artifact_files, read_artifact
from tinyvit.runtimes.base import RuntimeInfo
from tinyvit.runtimes.engines.qnn import require_suitable_file
from tinyvit.runtimes.registry import engines_for_format, find_own_engine, get_engine

_PARENT_FOLDER = "/data/local/tmp"
"""Folder on the device in which commands of adb may write files and run programs."""
_FOLDER_PREFIX = f"{_PARENT_FOLDER}/tinyvit-"


def measure_on_android(
    adb_device: AdbDevice, config: AndroidConfig, progress: Progress | None = None
) -> Record:
    """Measure the latency of artifacts on an Android device, and delete the copied files there.

    Args:
        adb_device: The device.
        config: The options of the measurement.
        progress: Receives each step; none is shown by default.

    Returns:
        A latency record. Artifacts that cannot be measured are in its `failures`.

    Raises:
        TinyViTError: No artifact can be measured; the error states the first cause.
    """
    progress = progress or NullProgress()
    date, device_info = current_time(), adb_device.read_device_info()
    results, failures = list[LatencyResult](), Failures()
    with _temporary_folder(adb_device) as folder:
        progress.message(f"{adb_device.name}: sending {config.runner.name} to {folder}")
        adb_device.push(config.runner, f"{folder}/runner")
        adb_device.run(["chmod", "755", f"{folder}/runner"])
        if config.libraries:
            progress.message(f"{adb_device.name}: sending {len(config.libraries)} libraries")
        for path in config.libraries:
            adb_device.push(path, f"{folder}/{path.name}")
        for path in config.paths:
            progress.message(f"{adb_device.name}: measuring {path.name}")
            try:
                results.append(_measure_artifact(adb_device, path, folder, config))
            except TinyViTError as error:
                failures.add(str(path), error)
    if not results:
        raise failures.make_error()
    return Record(
        kind="latency",
        date=date,
        package=PACKAGE_VERSION,
        device=device_info,
        settings={
            "timed": NETWORK_ALONE,
            "runs": config.runs,
            "runner": config.runner.name,
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
        RequestError: No program is known for the artifact's format or for the NPU that it is made
            for, or no Hexagon NPU runs it.
        ArtifactError: The artifact's network is compiled, and has no manifest or was changed.
    """
    artifact = read_artifact(path)
    engine_names = engines_for_format(artifact.format)
    own_engine = find_own_engine(artifact, engine_names)
    if own_engine is not None and get_engine(own_engine).default_device == "npu":
        if own_engine not in RUNNERS:
            raise RequestError(
                f"{path.name} is made for an NPU, for which no benchmark program for Android is"
                " known",
                "measure it over --ssh with --use-env, or with the vendor's tools",
            )
        engine_names = [own_engine]
    for runner in (RUNNERS[name] for name in engine_names if name in RUNNERS):
        if runner.device == "npu":
            manifest = artifact.manifest
            require_suitable_file(artifact, None if manifest is None else manifest.precision)
        return runner
    raise RequestError(
        f"no benchmark program for Android is known for {path.suffix} files",
        "export with --target litert, onnx, ort or qnn",
    )


@contextmanager
def _temporary_folder(adb_device: AdbDevice) -> Iterator[str]:
    """Create a folder on the device, and delete it at the end, even after an error."""
    folder = adb_device.run(["mktemp", "-d", f"{_FOLDER_PREFIX}XXXXXX"]).stdout.strip()
    random_part = folder.removeprefix(_FOLDER_PREFIX)
    # The name becomes a part of arguments that spaces and bars separate.
    if not (random_part.isascii() and random_part.isalnum()):
        raise RequestError(
            f"no folder can be created in {_PARENT_FOLDER} on {adb_device.name}",
            f"run 'mktemp -d {_PARENT_FOLDER}/x-XXXXXX' there with adb shell to find the cause",
        )
    try:
        yield folder
    finally:
        adb_device.run(["rm", "-rf", "--", folder])


def _measure_artifact(
    adb_device: AdbDevice, path: Path, folder: str, config: AndroidConfig
) -> LatencyResult:
    """Copy an artifact to a folder on the device, run the runner there, and read its output."""
    runner = find_runner(path)
    if len(list_artifact_files(path)) != 1:
        raise RequestError(
            f"{path} consists of several files", "give an artifact that is a single file"
        )
    # The file gets a fixed name, so that no command on the device depends on the user's file name.
    artifact_format = detect_format(path)
    remote_path = f"{folder}/model{artifact_format.suffix}"
    adb_device.push(path, remote_path)
    command = runner.make_command(
        "./runner",
        artifact_format.name,
        file=remote_path,
        folder=folder,
        threads=config.threads,
        runs=config.runs,
    )
    variables = _make_variables(folder, bool(config.libraries))
    result = adb_device.run(["env", *variables, *command], config.timeout_s, cwd=folder)
    if result.exit_code:
        description = f"{runner.name} failed"
        raise make_device_error(adb_device.name, result, description, runner.remedy, uses_ssh=False)
    times_ms = read_times(runner, result.stdout + result.stderr)
    if not times_ms.get("median"):
        raise RequestError(
            f"{runner.name} on {adb_device.name} printed no median latency",
            f"use a newer version: {runner.source}",
        )
    return _make_result(path, runner, times_ms, config)


def _make_variables(folder: str, has_libraries: bool) -> list[str]:
    """Make the environment variables of the runner, as words such as "NAME=VALUE"."""
    # The package tinyvit has set this variable, unless the user had set it.
    variables = [f"{ONNXRUNTIME_VARIABLE}={os.environ.get(ONNXRUNTIME_VARIABLE, '1')}"]
    if has_libraries:
        # The second variable is that of the NPU, which loads libQnnHtpV...Skel.so itself.
        variables += [f"LD_LIBRARY_PATH={folder}", f"ADSP_LIBRARY_PATH={folder}"]
    return variables


def _make_result(
    path: Path, runner: AndroidRunner, times_ms: dict[str, float], config: AndroidConfig
) -> LatencyResult:
    """Make the result from the statistics that the runner printed."""
    runs, median_ms = config.runs, times_ms["median"]
    info = RuntimeInfo(
        engine=runner.engine_name,
        version="",  # the runner prints neither its version nor its precision
        device=runner.device,
        threads=config.threads if runner.device == "cpu" else None,
        precision="unstated",
    )
    return LatencyResult(
        artifact=read_artifact_info(str(path), info),
        scenario="single-stream",
        batch=1,
        sample_count=runs,
        warmup_queries=runner.warmup_runs,
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
