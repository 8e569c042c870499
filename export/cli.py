"""tinyvit-export: the command that exports a checkpoint to artifacts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.cli import run_guarded
from tinyvit.errors import TinyViTError
from tinyvit.export.arguments import config_from_arguments, make_export_parser
from tinyvit.export.config import ALL_TARGETS, ExportConfig
from tinyvit.export.model_list import format_model_list, make_model_records
from tinyvit.export.plan import requests_several
from tinyvit.files import refuse_existing, write_atomically
from tinyvit.progress import Progress, make_progress
from tinyvit.safe_text import print_lines, print_traceback
from tinyvit.variants import DEFAULT_MODEL

if TYPE_CHECKING:
    from tinyvit.export.pipeline import ExportReport


def main(argv: Sequence[str] | None = None) -> int:
    """Run tinyvit-export.

    Args:
        argv: Arguments without the program's name; None for the arguments of the process.

    Returns:
        The exit code: 0, or 1 if a target failed. With `--target all`, a target is not counted as
        failed if it was skipped because its tools are not installed or because it does not offer
        what is requested.
    """
    arguments = make_export_parser().parse_args(argv)
    command = _print_model_list if arguments.list else _run_export
    return run_guarded(lambda: command(arguments))


def _print_model_list(arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_lines(json.dumps({"models": make_model_records()}))
    else:
        print_lines(*format_model_list())
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
    from tinyvit.export.sensitivity_record import make_sensitivity_record

    if report.artifacts:
        assert config.quantization is not None
        record = make_sensitivity_record(report.artifacts, config.quantization)
        write_atomically(path, record.to_json())


def _export(config: ExportConfig, progress: Progress) -> ExportReport:
    """Export to one target and raise its error, or to several and collect their errors."""
    from tinyvit.export.pipeline import ExportReport, export, export_all

    if requests_several(config):
        return export_all(config, progress)
    return ExportReport(artifacts=(export(config, progress),), failures=())


def _print_report(report: ExportReport, as_json: bool) -> None:
    from tinyvit.export.report import format_summary, make_artifact_record, make_failure_record

    if as_json:
        record = {
            "artifacts": [make_artifact_record(artifact) for artifact in report.artifacts],
            "failures": [make_failure_record(failure) for failure in report.failures],
        }
        print_lines(json.dumps(record))
    else:
        for artifact in report.artifacts:
            print_lines(*format_summary(artifact))
    for failure in report.failures:
        print_lines(f"no artifact for {failure.target}: {failure.error}", stream=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
