"""The subcommand tinyvit-bench device: measures artifacts on another device."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.cli import positive_int
from tinyvit.errors import RequestError
from tinyvit.files import write_atomically
from tinyvit.progress import make_progress

if TYPE_CHECKING:
    from tinyvit.bench.devices.session import DeviceResults, RemoteMeasurement
    from tinyvit.bench.devices.transport import Transport
    from tinyvit.bench.record import Record

HELP = "verify and measure artifacts on another device, and write the records here"
EXAMPLES = """\
  tinyvit-bench device demo.onnx demo.int8.onnx --ssh pi@raspberrypi --data val/ -o results/
  tinyvit-bench device demo.onnx --ssh jetson --use-env /home/me/venv
  tinyvit-bench device demo.int8.tflite --adb --runner benchmark_model
  tinyvit-bench device demo.onnx --local"""
_ANDROID_THREADS = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand to its parser."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="ARTIFACT", help="Exported files to measure."
    )
    device = parser.add_mutually_exclusive_group(required=True)
    device.add_argument(
        "--ssh",
        metavar="USER@HOST",
        help="Measure on a Linux host that has an ssh server and Python 3.10 or later, such as a"
        " Jetson, a Raspberry Pi or a server.",
    )
    device.add_argument(
        "--adb",
        nargs="?",
        const="",
        metavar="SERIAL",
        help="Measure on the Android device SERIAL (without SERIAL: the only connected device)."
        " Needs --runner.",
    )
    device.add_argument(
        "--local",
        action="store_true",
        help="Measure on this machine, in a new virtual environment.",
    )
    _add_run_arguments(parser)
    _add_data_arguments(parser)
    _add_remote_arguments(parser.add_argument_group("options of --ssh and --local"))
    parser.add_argument_group("options of --adb").add_argument(
        "--runner",
        type=Path,
        metavar="FILE",
        help="The engine's benchmark program, built for the device: benchmark_model (.tflite) or"
        " onnxruntime_perf_test (.onnx, .ort).",
    )


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "-o",
        "--output",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="Folder for the records (default: the current folder).",
    )
    add(
        "--data",
        type=Path,
        metavar="DIR",
        help="Measure the accuracy too, on these images: one folder per class.",
    )
    add(
        "--images",
        type=positive_int,
        default=500,
        metavar="N",
        help="Number of images of --data to use, the same number of each class if possible"
        " (default: 500).",
    )
    add(
        "--json",
        action="store_true",
        help="Print one JSON object with the paths of the written files, instead of tables.",
    )


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--runtime", metavar="ENGINE", help="Engine (default: the best one for each artifact).")
    add(
        "--threads",
        type=positive_int,
        metavar="N",
        help="CPU threads (default: the engine's default; 4 with --adb).",
    )
    add(
        "--runs",
        type=positive_int,
        metavar="N",
        help="Number of queries per artifact (default: 662).",
    )
    add(
        "--timeout",
        type=float,
        default=3600,
        metavar="S",
        help="Time limit for each command on the device, in seconds (default: 3600).",
    )


def _add_remote_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--port", type=int, metavar="PORT", help="Port of the ssh server (default: that of ssh).")
    add("--identity", type=Path, metavar="KEY", help="Private key file (default: that of ssh).")
    add(
        "--ssh-config",
        type=Path,
        metavar="FILE",
        help="Configuration file of ssh (default: ~/.ssh/config).",
    )
    add(
        "--python",
        default="python3",
        metavar="PATH",
        help="Python on the device that creates the virtual environment (default: python3).",
    )
    add(
        "--use-env",
        metavar="DIR",
        help="Existing virtual environment on the device, with tinyvit-edge installed, to use"
        " instead of a new one.",
    )
    add(
        "--wheels",
        type=Path,
        metavar="DIR",
        help="Folder of wheels (from pip download) to install from, for a device without a"
        " network.",
    )
    add("--keep", action="store_true", help="Do not delete the working folder on the device.")


def run(args: argparse.Namespace) -> int:
    """Measure on the device, write the records, and print the latencies.

    Returns:
        Exit code 1 if anything failed on the device, otherwise 0.

    Raises:
        RequestError: Options contradict each other, the device cannot be reached, or no artifact
            can be run on it.
    """
    _require_compatible(args)
    args.output.mkdir(parents=True, exist_ok=True)
    if args.adb is not None:
        return _run_android(args)
    from tinyvit.bench.devices.session import measure_on_device

    results = measure_on_device(
        _make_transport(args), _make_measurement(args), make_progress(json_output=args.json)
    )
    return _report_results(args, _make_file_name(args.ssh or "local"), results)


def _require_compatible(args: argparse.Namespace) -> None:
    """Raise RequestError if options would have no effect, or if --runner is missing."""
    ssh_options = ("port", "identity", "ssh_config")
    unused: tuple[str, ...]
    if args.adb is not None:
        device, unused = "--adb", (*ssh_options, "use_env", "wheels", "keep", "data", "runtime")
    elif args.ssh:
        device, unused = "--ssh", ("runner",)
    else:
        device, unused = "--local", (*ssh_options, "runner")
    for name in unused:
        if getattr(args, name):
            option = f"--{name.replace('_', '-')}"
            raise RequestError(
                f"{option} has no effect with {device}",
                f"omit {option}; --help lists the options of {device}",
            )
    if args.adb is not None and args.runner is None:
        raise RequestError(
            "--adb needs the engine's benchmark program",
            "give it with --runner; docs/devices.md describes where to get it",
        )


def _make_measurement(args: argparse.Namespace) -> RemoteMeasurement:
    from tinyvit.bench.devices.session import RemoteMeasurement

    return RemoteMeasurement(
        paths=tuple(args.files),
        data=args.data,
        image_count=args.images,
        python=sys.executable if args.local and args.python == "python3" else args.python,
        use_env=args.use_env,
        wheels=args.wheels,
        runtime=args.runtime,
        threads=args.threads,
        arguments=("--runs", str(args.runs)) if args.runs else (),
        timeout_s=args.timeout,
        keep=args.keep,
    )


def _make_transport(args: argparse.Namespace) -> Transport:
    from tinyvit.bench.devices.transport import LocalTransport, SshTransport

    if args.local:
        return LocalTransport()
    return SshTransport(args.ssh, args.port, args.identity, args.ssh_config)


def _run_android(args: argparse.Namespace) -> int:
    from tinyvit.bench.devices.android import (
        Adb,
        AndroidMeasurement,
        find_runner,
        measure_on_android,
    )
    from tinyvit.bench.latency.percentiles import MIN_SAMPLES

    names = sorted({find_runner(path).name for path in args.files})
    if len(names) > 1:
        raise RequestError(
            f"the artifacts need different runners, {' and '.join(names)}",
            "give artifacts of one format",
        )
    if not args.runner.is_file():
        raise RequestError(
            f"--runner {args.runner} does not exist",
            f"give the path of {names[0]}, built for the device; see docs/devices.md",
        )
    adb = Adb(args.adb or None)
    measurement = AndroidMeasurement(
        paths=tuple(args.files),
        runner=args.runner,
        threads=args.threads or _ANDROID_THREADS,
        runs=args.runs or MIN_SAMPLES[0.99],
        timeout_s=args.timeout,
    )
    record = measure_on_android(adb, measurement)
    path = _write_record(args.output, _make_file_name(adb.name), record)
    return _print_outcome(args, [path], list(record.failures), record)


def _report_results(args: argparse.Namespace, name: str, results: DeviceResults) -> int:
    """Write the results of the device to files, and print them; return the exit code."""
    written = []
    if results.verifications:
        path = args.output / f"{name}.verify.json"
        written.append(write_atomically(path, json.dumps(results.verifications) + "\n"))
    records = [r for r in (results.latency, results.accuracy) if r is not None]
    written += [_write_record(args.output, name, record) for record in records]
    problems = [failure for record in records for failure in record.failures]
    problems += results.problems
    return _print_outcome(args, written, problems, results.latency, results.remaining_folder)


def _write_record(folder: Path, name: str, record: Record) -> Path:
    return write_atomically(folder / f"{name}.{record.kind}.json", record.to_json() + "\n")


def _print_outcome(
    args: argparse.Namespace,
    written: Sequence[Path],
    problems: Sequence[str],
    latency: Record | None,
    remaining_folder: str | None = None,
) -> int:
    """Print problems, latencies and the paths of the written files; return the exit code."""
    from tinyvit.bench.report.console import format_latency_record

    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if args.json:
        summary = {
            "written": list(map(str, written)),
            "problems": list(problems),
            "remaining_folder": remaining_folder,
        }
        print(json.dumps(summary))
    else:
        lines = [*(format_latency_record(latency) if latency else []), "", *map(str, written)]
        if remaining_folder:
            lines.append(f"this folder remains on the device: {remaining_folder}")
        print("\n".join(lines).strip())
    return 1 if problems else 0


def _make_file_name(host: str) -> str:
    """Return the first part of the file names of a host's records."""
    return re.sub(r"[^\w.-]+", "-", host.rpartition("@")[2]).strip("-.") or "device"
