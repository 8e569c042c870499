"""The subcommand tinyvit-bench device: measures artifacts on another device."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.bench.arguments import resolve_artifacts
from tinyvit.bench.devices import arguments
from tinyvit.errors import RequestError
from tinyvit.files.file_io import write_atomically
from tinyvit.progress import make_progress
from tinyvit.text.safe_text import print_error, print_lines

if TYPE_CHECKING:
    from tinyvit.bench.devices.android_runners import AndroidRunner
    from tinyvit.bench.devices.config import AndroidConfig, SessionConfig
    from tinyvit.bench.devices.session import DeviceResults
    from tinyvit.bench.devices.transport import Transport
    from tinyvit.bench.record import Record

HELP = "verify and measure artifacts on another device, and write the records here"
EXAMPLES = """\
  tinyvit-bench device demo.onnx demo.int8.onnx --ssh pi@raspberrypi --data val/ -o results/
  tinyvit-bench device demo.onnx --ssh jetson --use-env /home/me/venv
  tinyvit-bench device demo.int8.tflite --adb --runner benchmark_model
  tinyvit-bench device demo.int8.qnn.onnx --adb --runner onnxruntime_perf_test --runner-libs qnn/
  tinyvit-bench device demo.onnx --local"""
_ANDROID_THREADS = 4
"""Number of CPU threads on an Android device if --threads is not given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand to its parser."""
    arguments.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure on the device, write the records, and print the latencies.

    Returns:
        Exit code 1 if anything failed on the device, otherwise 0.

    Raises:
        RequestError: Options contradict each other, the device cannot be reached, or no artifact
            can be run on it.
    """
    arguments.require_compatible_options(args)
    args.files = list(map(Path, resolve_artifacts(args)))
    args.output.mkdir(parents=True, exist_ok=True)
    if args.adb is not None:
        return _run_android(args)
    from tinyvit.bench.devices.session import measure_on_device

    progress = make_progress(json_output=args.json)
    results = measure_on_device(_make_transport(args), _make_session_config(args), progress)
    return _report_results(args, _make_file_stem(args.ssh or "local"), results)


def _make_session_config(args: argparse.Namespace) -> SessionConfig:
    """Convert the arguments to the options of a measurement over ssh or on this machine."""
    from tinyvit.bench.devices.config import SessionConfig

    # On this machine, the default is the Python that runs this command.
    use_this_python = args.local and args.python == arguments.DEFAULT_PYTHON
    return SessionConfig(
        paths=tuple(args.files),
        data=args.data,
        image_count=args.images,
        python=sys.executable if use_this_python else args.python,
        use_env=args.use_env,
        wheels=args.wheels,
        engine_name=args.runtime,
        threads=args.threads,
        latency_arguments=("--runs", str(args.runs)) if args.runs else (),
        timeout_s=args.timeout,
        keep_folder=args.keep,
    )


def _make_transport(args: argparse.Namespace) -> Transport:
    """Return the object that runs commands on the device of --local or --ssh, and copies files."""
    from tinyvit.bench.devices.transport import LocalTransport, SshTransport

    if args.local:
        return LocalTransport()
    return SshTransport(args.ssh, port=args.port, identity=args.identity, config=args.ssh_config)


def _run_android(args: argparse.Namespace) -> int:
    """Measure on an Android device, and return the exit code."""
    from tinyvit.bench.devices.adb import AdbDevice
    from tinyvit.bench.devices.android import measure_on_android

    config = _make_android_config(args)
    adb_device = AdbDevice(args.adb or None)  # "" for --adb without a serial number
    record = measure_on_android(adb_device, config)
    path = _write_record(args.output, _make_file_stem(adb_device.name), record)
    return _print_outcome(
        args,
        written_files=[path],
        problems=record.failures,
        measured=(record,),
        remaining_folder=None,
    )


def _make_android_config(args: argparse.Namespace) -> AndroidConfig:
    """Convert the arguments to the options of a measurement on Android, and check them."""
    from tinyvit.bench.devices.android import find_runner
    from tinyvit.bench.devices.config import AndroidConfig
    from tinyvit.bench.latency.percentiles import MIN_SAMPLES

    runners = {path: find_runner(path) for path in args.files}
    runner_names = sorted({runner.name for runner in runners.values()})
    if len(runner_names) > 1:
        raise RequestError(
            "the artifacts need different benchmark programs for --runner:"
            f" {' and '.join(runner_names)}",
            "give artifacts of one format",
        )
    if not args.runner.is_file():
        problem = "is not a file" if args.runner.exists() else "does not exist"
        raise RequestError(
            f"--runner {args.runner} {problem}",
            f"give the path of {runner_names[0]}, built for the device; see"
            " docs/how-to/measure-on-a-device.md",
        )
    return AndroidConfig(
        paths=tuple(args.files),
        runner=args.runner,
        threads=args.threads or _ANDROID_THREADS,
        runs=args.runs or MIN_SAMPLES[0.99],
        timeout_s=args.timeout,
        libraries=_find_libraries(args, runners),
    )


def _find_libraries(
    args: argparse.Namespace, runners: Mapping[Path, AndroidRunner]
) -> tuple[Path, ...]:
    """Return the libraries to copy to the Android device; check --runner-libs and --threads.

    Args:
        args: The command-line arguments.
        runners: Path of each artifact -> its benchmark program.
    """
    from tinyvit.bench.devices.runner_libraries import find_libraries

    for_npu = {path: runner for path, runner in runners.items() if runner.libraries}
    if not for_npu:
        if args.runner_libs is not None:
            raise RequestError(
                "--runner-libs has no effect for these files, which run on the CPU",
                "omit --runner-libs, or give a .qnn.onnx file of --target qnn",
            )
        return ()
    name, runner = next((path.name, runner) for path, runner in for_npu.items())
    if args.runner_libs is None:
        raise RequestError(
            f"{name} runs on the NPU, for which {runner.name} needs libraries",
            "give their folder with --runner-libs; docs/how-to/snapdragon-npu.md lists them",
        )
    if args.threads is not None:
        raise RequestError(
            f"--threads sets CPU threads, and {name} runs on the NPU",
            "omit --threads, or measure the files for the CPU with another command and -o",
        )
    required = dict.fromkeys(name for runner in for_npu.values() for name in runner.libraries)
    return find_libraries(args.runner_libs, tuple(required))


def _report_results(args: argparse.Namespace, file_stem: str, results: DeviceResults) -> int:
    """Write the results of the device to files, print the outcome, and return the exit code."""
    written_files: list[Path] = []
    problems: list[str] = []
    if results.verifications:
        path = args.output / f"{file_stem}.verify.json"
        written_files.append(write_atomically(path, json.dumps(results.verifications) + "\n"))
    measured = [record for record in (results.latency, results.accuracy) if record is not None]
    for record in measured:
        written_files.append(_write_record(args.output, file_stem, record))
        problems += record.failures
    problems += results.problems
    return _print_outcome(
        args,
        written_files=written_files,
        problems=problems,
        measured=measured,
        remaining_folder=results.remaining_folder,
    )


def _write_record(folder: Path, file_stem: str, record: Record) -> Path:
    """Write a record to the file STEM.latency.json or STEM.accuracy.json, and return its path."""
    return write_atomically(folder / f"{file_stem}.{record.kind}.json", record.to_json() + "\n")


def _print_outcome(
    args: argparse.Namespace,
    *,
    written_files: Sequence[Path],
    problems: Sequence[str],
    measured: Sequence[Record],
    remaining_folder: str | None,
) -> int:
    """Print the problems, what was measured, and the paths of the written files.

    Args:
        args: The command-line arguments, of which only `json` is used.
        written_files: Paths of the written files.
        problems: One line for everything that failed on the device.
        measured: The records of latency and accuracy.
        remaining_folder: Folder that was not deleted on the device; None if there is none.

    Returns:
        The exit code: 1 if there are problems, otherwise 0.
    """
    from tinyvit.bench.report.console import format_accuracy_record, format_latency_record

    for problem in problems:
        print_error(problem)
    if args.json:
        summary = {
            "written": [str(path) for path in written_files],
            "problems": list(problems),
            "remaining_folder": remaining_folder,
        }
        print_lines(json.dumps(summary))
    else:
        formats = {"latency": format_latency_record, "accuracy": format_accuracy_record}
        lines = [line for record in measured for line in (*formats[record.kind](record), "")]
        lines += [str(path) for path in written_files]
        if remaining_folder:
            lines.append(f"this folder remains on the device: {remaining_folder}")
        print_lines(*lines)
    return 1 if problems else 0


def _make_file_stem(device_name: str) -> str:
    """Return the first part of the names of the files with a device's results.

    Args:
        device_name: "user@host", "host", or a serial number. Only the part after "@" is used.
    """
    return re.sub(r"[^\w.-]+", "-", device_name.rpartition("@")[2]).strip("-.") or "device"
