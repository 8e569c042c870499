"""Defines command-line arguments that several subcommands of tinyvit-bench share."""

from __future__ import annotations

import argparse

from tinyvit.progress import make_progress
from tinyvit.runtimes.commands.model_argument import resolve_model


def add_artifacts_argument(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add the positional argument ARTIFACT, one path or several. The list of them is `args.files`.

    Args:
        parser: Parser of the subcommand.
        help_text: Text about the argument for --help.
    """
    parser.add_argument("files", nargs="+", metavar="ARTIFACT", help=help_text)


def resolve_artifacts(args: argparse.Namespace) -> list[str]:
    """Return the paths of ARTIFACT; the name demo becomes the path of the exported demo model.

    Args:
        args: Parsed arguments with the attributes `files` and `json`.
    """
    progress = make_progress(json_output=args.json)
    return [resolve_model(str(file), progress) for file in args.files]


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
    """Add --name, which sets the name of the device in the record, and --json.

    A record contains the results of one run of tinyvit-bench. With --json, it is printed as JSON.
    """
    parser.add_argument(
        "--name",
        type=str,
        metavar="NAME",
        help="Name of this machine in the record (default: name of the board or host).",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="Print the record (all results and the device) as JSON instead of tables. Save it to a"
        " file for tinyvit-bench report and compare.",
    )
