"""Defines command-line arguments that several subcommands of tinyvit-bench share."""

from __future__ import annotations

import argparse


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add --device, the device on which the engine runs the artifacts."""
    parser.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="cpu, gpu, npu, or the engine's own name of a device (default: cpu, if the engine"
        " has it).",
    )


def add_record_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --name and --json, which determine the device name in the record and how it is printed.

    A record contains the results of one run of tinyvit-bench.
    """
    parser.add_argument(
        "--name",
        metavar="NAME",
        help="Name of this machine in the record (default: name of the board or host).",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="Print the record (all results and the device) as JSON instead of tables. Save it to a"
        " file for tinyvit-bench report and compare.",
    )
