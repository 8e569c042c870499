"""tinyvit-export: the command that exports a checkpoint to artifacts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.cli import make_parser, run_guarded
from tinyvit.command_parser import CommandParser
from tinyvit.errors import TinyViTError
from tinyvit.export.command_line.arguments import config_from_arguments, make_export_parser
from tinyvit.export.command_line.model_list import (
    format_model_list,
    make_model_records,
    select_models,
)
from tinyvit.export.config import ALL_TARGETS, ExportConfig
from tinyvit.export.plan import requests_several
from tinyvit.files.file_io import refuse_existing, write_atomically
from tinyvit.openmp import set_thread_count, use_passive_waiting
from tinyvit.processes.allocator import keep_freed_memory
from tinyvit.progress import Progress, make_progress
from tinyvit.text.safe_text import print_lines, print_traceback
from tinyvit.variants import DEFAULT_MODEL

if TYPE_CHECKING:
    from tinyvit.export.export_results import ExportReport


def main(argv: Sequence[str] | None = None, prog: str = "tinyvit-export") -> int:
    """Run tinyvit-export.

    Args:
        argv: Arguments without the program's name; None for the arguments of the process. In that
            case, the process runs only this command, so its settings of the memory
            (`keep_freed_memory`) and of threads (`use_passive_waiting`) are changed.
        prog: Name of the program in messages.

    Returns:
        The exit code: 0, or 1 if a target failed. With `--target all`, a target is not counted as
        failed if it was skipped because its tools are not installed, because it does not offer what
        is requested, or because this machine cannot make its artifacts.
    """
    if argv is None:
        keep_freed_memory()
        use_passive_waiting()
    arguments = make_export_parser(prog).parse_args(argv)
    set_thread_count(arguments.threads)
    command = _print_model_list if arguments.list else _run_export
    return run_guarded(lambda: command(arguments))


def list_models(argv: Sequence[str] | None = None, prog: str = "tinyvit list") -> int:
    """Run `tinyvit list`, which prints the architectures and the released checkpoints.

    Args:
        argv: Arguments without the program's name; None for the arguments of the process.
        prog: Name of the program in messages.

    Returns:
        The exit code 0, even if no checkpoint has what is requested.
    """
    arguments = make_list_parser(prog).parse_args(argv)
    return run_guarded(lambda: _print_model_list(arguments))


def make_list_parser(prog: str) -> CommandParser:
    """Make the parser of `tinyvit list`.

    Args:
        prog: Name of the program in messages.
    """
    parser = make_parser(
        prog,
        "List the architectures and the released checkpoints, from the paper's tables. Nothing is\n"
        "downloaded.",
        "  tinyvit list\n  tinyvit list --min-top1 80 --max-mmacs 2000 --json",
    )
    parser.add_argument(
        "--min-top1",
        type=_parse_min_top1,
        metavar="PERCENT",
        help="Only checkpoints with at least this top-1 accuracy on ImageNet-1k, as published.",
    )
    parser.add_argument(
        "--max-mmacs",
        type=float,
        metavar="MILLIONS",
        help="Only networks that need at most this many million multiply-accumulates for an image.",
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    return parser


def _parse_min_top1(text: str) -> float:
    """Convert a percentage; refuse a fraction such as 0.8, which would allow everything."""
    try:
        percentage = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
    if not 1 <= percentage <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 1 to 100, such as 80")
    return percentage


def _print_model_list(arguments: argparse.Namespace) -> int:
    """Print the checkpoints that --min-top1 and --max-mmacs, if there are any, allow."""
    selection = select_models(
        getattr(arguments, "min_top1", None), getattr(arguments, "max_mmacs", None)
    )
    if arguments.json:
        print_lines(json.dumps({"models": make_model_records(selection)}))
    elif selection:
        print_lines(*format_model_list(selection))
    else:
        print_lines("no released checkpoint has what is requested")
    return 0


def _run_export(arguments: argparse.Namespace) -> int:
    """Export, print the report, and return the exit code."""
    if arguments.model is None and arguments.checkpoint is None:
        print_lines(
            "Neither --model nor --checkpoint was given, so the default model is exported:"
            f" {DEFAULT_MODEL}.",
            stream=sys.stderr,
        )
    record_path = _choose_record_path(arguments)
    try:
        config = config_from_arguments(arguments)
        if record_path is not None:
            refuse_existing(record_path, arguments.overwrite)
        report = _export(config, make_progress(json_output=arguments.json))
    except TinyViTError:
        if arguments.verbose:
            print_traceback()
        raise
    if record_path is not None:
        _write_sensitivity_record(record_path, config, report)
    _print_report(report, arguments.json)
    skips_are_failures = ALL_TARGETS not in config.targets
    return int(any(skips_are_failures or not failure.is_skipped for failure in report.failures))


def _choose_record_path(arguments: argparse.Namespace) -> Path | None:
    """Return the path of the record of --sensitivity FILE; None if no record is requested."""
    requested = arguments.sensitivity
    return Path(requested) if isinstance(requested, str) else None


def _write_sensitivity_record(path: Path, config: ExportConfig, report: ExportReport) -> None:
    """Write the sensitivity of all artifacts as a record, unless there are no artifacts."""
    from tinyvit.export.int8.sensitivity_record import make_sensitivity_record

    if report.artifacts:
        assert config.quantization is not None
        record = make_sensitivity_record(report.artifacts, config.quantization)
        write_atomically(path, record.to_json())


def _export(config: ExportConfig, progress: Progress) -> ExportReport:
    """Export to one target and raise its error, or to several and collect their errors."""
    from tinyvit.export.export_results import ExportReport
    from tinyvit.export.pipeline import export, export_all

    if requests_several(config):
        return export_all(config, progress)
    return ExportReport(artifacts=(export(config, progress),), failures=())


def _print_report(report: ExportReport, as_json: bool) -> None:
    from tinyvit.export.command_line.json_records import make_artifact_record, make_failure_record
    from tinyvit.export.command_line.summary import format_report

    if as_json:
        record = {
            "artifacts": [make_artifact_record(artifact) for artifact in report.artifacts],
            "failures": [make_failure_record(failure) for failure in report.failures],
        }
        print_lines(json.dumps(record))
    else:
        print_lines(*format_report(report.artifacts))
    for failure in report.failures:
        print_lines(f"no artifact for {failure.target}: {failure.error}", stream=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
