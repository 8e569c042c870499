"""Defines and checks the command-line arguments of tinyvit-bench device."""

from __future__ import annotations

import argparse
from pathlib import Path

from tinyvit.cli import positive_int
from tinyvit.errors import RequestError

DEFAULT_PYTHON = "python3"
"""Default of --python."""

_SSH_OPTIONS = ("port", "identity", "ssh_config")
_ANDROID_OPTIONS = ("runner", "runner_libs")
_UNUSED_OPTIONS = {
    "--adb": (*_SSH_OPTIONS, "use_env", "wheels", "keep", "data", "runtime"),
    "--ssh": _ANDROID_OPTIONS,
    "--local": (*_SSH_OPTIONS, *_ANDROID_OPTIONS),
}
"""Option that chooses the device -> options that have no effect with it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of tinyvit-bench device to its parser."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="ARTIFACT", help="Exported files to measure."
    )
    _add_device_arguments(parser.add_mutually_exclusive_group(required=True))
    _add_run_arguments(parser)
    _add_data_arguments(parser)
    _add_ssh_arguments(parser.add_argument_group("options of --ssh"))
    _add_environment_arguments(parser.add_argument_group("options of --ssh and --local"))
    _add_android_arguments(parser.add_argument_group("options of --adb"))


def _add_ssh_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--port", type=int, metavar="PORT", help="Port of the ssh server (default: ssh's own).")
    add("--identity", type=Path, metavar="KEY", help="Private key file (default: ssh's own).")
    add(
        "--ssh-config",
        type=Path,
        metavar="FILE",
        help="Configuration file of ssh (default: ~/.ssh/config).",
    )


def _add_android_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--runner",
        type=Path,
        metavar="FILE",
        help="The engine's benchmark program, built for the device: benchmark_model (.tflite) or"
        " onnxruntime_perf_test (.onnx, .ort, .qnn.onnx).",
    )
    add(
        "--runner-libs",
        type=Path,
        metavar="DIR",
        help="Folder on this machine with the shared libraries that the program needs for an NPU"
        " (.qnn.onnx): onnxruntime's provider for QNN, and Qualcomm's libraries. Its .so files are"
        " copied to the device.",
    )


def _add_environment_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--python",
        default=DEFAULT_PYTHON,
        metavar="PATH",
        help="Python program on the device, which creates the virtual environment (default:"
        " python3).",
    )
    add(
        "--use-env",
        metavar="DIR",
        help="Folder of an existing virtual environment on the device, which is used instead of a"
        " new one. It must contain tinyvit-edge.",
    )
    add(
        "--wheels",
        type=Path,
        metavar="DIR",
        help="Folder on this machine with wheels from pip download. They are sent along, for a"
        " device without a network.",
    )
    add("--keep", action="store_true", help="Do not delete the temporary folder on the device.")


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "-o",
        "--output",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="Folder for the records, which are the results as JSON (default: the current folder).",
    )
    add(
        "--data",
        type=Path,
        metavar="DIR",
        help="Folder with one folder of images per class. The accuracy on these images is measured"
        " too.",
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
        help="Print one JSON object with the paths of the written files and all problems, instead"
        " of tables.",
    )


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--runtime", metavar="ENGINE", help="Engine (default: the best one for each artifact).")
    add(
        "--threads",
        type=positive_int,
        metavar="N",
        help="Number of CPU threads, for files that run on the CPU (default: the engine's default;"
        " 4 with --adb).",
    )
    add(
        "--runs",
        type=positive_int,
        metavar="N",
        help="Number of queries to time per artifact (default: 662, the minimum for reporting a"
        " 99th percentile).",
    )
    add(
        "--timeout",
        type=float,
        default=3600,
        metavar="S",
        help="Time limit for each command on the device, in seconds (default: 3600).",
    )


def _add_device_arguments(group: argparse._MutuallyExclusiveGroup) -> None:
    """Add the options that choose the device, of which exactly one must be given."""
    group.add_argument(
        "--local",
        action="store_true",
        help="Measure on this machine, in a new virtual environment.",
    )
    group.add_argument(
        "--ssh",
        type=str,  # ssh takes "ssh://USER@HOST" too
        metavar="USER@HOST",
        help="Measure on a Linux host that has an ssh server and Python 3.10 or later, such as a"
        " Jetson, a Raspberry Pi or a server.",
    )
    group.add_argument(
        "--adb",
        nargs="?",
        const="",
        metavar="SERIAL",
        help="Measure on the Android device with this serial number. Without SERIAL, measure on the"
        " only connected device. Needs --runner.",
    )


def require_compatible_options(args: argparse.Namespace) -> None:
    """Check that the options suit the kind of device.

    Raises:
        RequestError: An option would have no effect, or --adb is given without --runner.
    """
    if args.adb is not None:
        device_option = "--adb"
    elif args.ssh:
        device_option = "--ssh"
    else:
        device_option = "--local"
    for name in _UNUSED_OPTIONS[device_option]:
        if getattr(args, name):
            option = f"--{name.replace('_', '-')}"
            raise RequestError(
                f"{option} has no effect with {device_option}",
                f"omit {option}; --help lists the options of {device_option}",
            )
    if args.adb is not None and args.runner is None:
        raise RequestError(
            "--adb needs the engine's benchmark program",
            "give it with --runner; docs/how-to/measure-on-a-device.md describes where to get it",
        )
