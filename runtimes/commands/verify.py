"""The command tinyvit-verify: checks that a file computes the right outputs on this machine."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.command_parser import CommandParser
from tinyvit.progress import make_progress
from tinyvit.runtimes.commands.engine_arguments import add_engine_arguments, add_file_argument
from tinyvit.runtimes.commands.model_argument import resolve_model
from tinyvit.runtimes.commands.text_output import print_verification
from tinyvit.runtimes.limited_verification import verify_with_timeout
from tinyvit.text.safe_text import print_lines


def verify(argv: Sequence[str] | None = None, prog: str = "tinyvit-verify") -> int:
    """Run tinyvit-verify, which checks that a file computes the right outputs on this machine.

    Args:
        argv: Command-line arguments; None for those of the process.
        prog: Name of the program in messages.

    Returns:
        Exit code; 1 if the check fails, or does not finish within --timeout.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = make_verify_parser(prog).parse_args(words)
    if arguments.timeout is None:
        return run_guarded(lambda: _run_verify(arguments))
    return run_guarded(lambda: _verify_with_timeout(arguments, words))


def _verify_with_timeout(arguments: argparse.Namespace, words: list[str]) -> int:
    """Verify in another process. If the demo model must be exported first, that is not limited."""
    resolve_model(arguments.file, make_progress(json_output=arguments.json))
    return verify_with_timeout(arguments.file, words, arguments.timeout)


def make_verify_parser(prog: str) -> CommandParser:
    """Make the parser of tinyvit-verify.

    Args:
        prog: Name of the program in messages.
    """
    parser = make_parser(
        prog,
        "Check that an exported file computes the right outputs on this machine.\n\n"
        "The file is run on golden inputs (test images that a formula generates), and its outputs\n"
        "(such as logits) are compared with those that tinyvit-export stored in the file.",
        f"  {prog} tinyvit_5m.onnx\n"
        f"  {prog} tinyvit_5m.xml --runtime openvino --device cpu --threads 2 --json",
    )
    add_file_argument(parser)
    add_engine_arguments(parser)
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object instead of text."
    )
    parser.add_argument(
        "--timeout",
        type=positive_int,
        metavar="SECONDS",
        help="Stop the check after this number of seconds (default: no limit). The file then runs"
        " in another process, so that it cannot crash or block this one.",
    )
    return parser


def verify_in_this_process(argv: Sequence[str]) -> int:
    """Run tinyvit-verify without regard to its option --timeout.

    The process that `verify` starts for --timeout runs this function.

    Args:
        argv: Command-line arguments.

    Returns:
        Exit code; 1 if the check fails.
    """
    arguments = make_verify_parser("tinyvit-verify").parse_args(argv)
    return run_guarded(lambda: _run_verify(arguments))


def _run_verify(arguments: argparse.Namespace) -> int:
    from tinyvit.runtimes.verify import verify as verify_artifact

    result = verify_artifact(
        resolve_model(arguments.file, make_progress(json_output=arguments.json)),
        engine_name=arguments.runtime,
        device=arguments.device,
        threads=arguments.threads,
        precision=arguments.precision,
        cache=arguments.cache,
        allow_foreign_operators=arguments.allow_foreign_operators,
    )
    if arguments.json:
        record = {"artifact": arguments.file, **asdict(result)}
        print_lines(json.dumps(_replace_non_finite(record)))
    else:
        print_verification(arguments.file, result)
    return 0 if result.passed else 1


def _replace_non_finite(value: Any) -> Any:
    """Replace NaN and infinity in nested data by None, because JSON has no such numbers."""
    if isinstance(value, dict):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_non_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
