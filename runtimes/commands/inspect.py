"""The command tinyvit-inspect: shows the manifest in an exported file, or writes a model card."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tinyvit.cli import make_parser, run_guarded
from tinyvit.command_parser import CommandParser
from tinyvit.errors import RequestError
from tinyvit.files.file_io import refuse_existing, write_atomically
from tinyvit.manifest import Manifest
from tinyvit.progress import make_progress
from tinyvit.runtimes.artifact import Artifact, is_manifest_unchanged, read_artifact
from tinyvit.runtimes.commands.engine_arguments import add_file_argument
from tinyvit.runtimes.commands.model_argument import resolve_model
from tinyvit.runtimes.commands.text_output import print_manifest
from tinyvit.text.safe_text import print_lines


def inspect(argv: Sequence[str] | None = None, prog: str = "tinyvit-inspect") -> int:
    """Run tinyvit-inspect, which prints the manifest in an exported file, or writes a model card.

    Args:
        argv: Command-line arguments; None for those of the process.
        prog: Name of the program in messages.

    Returns:
        Exit code; 1 if the file has no manifest.
    """
    arguments = make_inspect_parser(prog).parse_args(argv)
    return run_guarded(lambda: _run_inspect(arguments))


def make_inspect_parser(prog: str) -> CommandParser:
    """Make the parser of tinyvit-inspect.

    Args:
        prog: Name of the program in messages.
    """
    parser = make_parser(
        prog,
        "Show the manifest (the description) in an exported file: model, input, output,\n"
        "preprocessing, labels, origin and accuracy; or write a model card from it.\n"
        "No inference engine is needed.",
        f"  {prog} tinyvit_5m.onnx\n"
        f"  {prog} tinyvit_5m.onnx --labels\n"
        f"  {prog} tinyvit_5m.onnx --coverage\n"
        f"  {prog} tinyvit_5m.onnx --card -o model/README.md",
    )
    add_file_argument(parser)
    parser.add_argument("--labels", action="store_true", help="List all class labels.")
    parser.add_argument(
        "--coverage",
        action="store_true",
        help="List the operators that NPUs and other accelerators refuse, by the rules that most of"
        " them share: tensors of more than four dimensions, unknown sizes, unusual operators, and"
        " floats in a quantized network. For a .pte file, also the operators outside of its"
        " delegates; for a file that is compiled for an NPU or a GPU, what its compiler left to the"
        " CPU. The device is not needed.",
    )
    _add_form_arguments(parser)
    return parser


def _add_form_arguments(parser: CommandParser) -> None:
    """Add the options of the form in which the description is shown: text, JSON or a model card."""
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--json",
        action="store_true",
        help='Print one JSON object: the whole manifest, and the field "intact", which states'
        " whether the manifest is unchanged. With --coverage, the operators instead.",
    )
    kind.add_argument(
        "--card",
        action="store_true",
        help="Write a model card: the README.md of a repository on the Hugging Face hub, with the"
        " accuracy, the origin, the license, the labels, and how to run the file.",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="PATH",
        help="Path of the model card (default: README.md in the folder of the file).",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace an existing file at the path of the card."
    )


def _run_inspect(arguments: argparse.Namespace) -> int:
    if arguments.output is not None and not arguments.card:
        raise RequestError("-o was given without --card", "add --card, or leave -o out")
    for option in ("card", "labels"):
        if arguments.coverage and getattr(arguments, option):
            cause = f"--coverage and --{option} cannot be given together"
            raise RequestError(cause, "give one of them")
    file = resolve_model(arguments.file, make_progress(json_output=arguments.json))
    artifact = read_artifact(file)
    if arguments.coverage:
        return _print_coverage(artifact, arguments.json)
    manifest = artifact.manifest
    if manifest is None:
        print_lines(
            f"{arguments.file} is a file of the format {artifact.format.name} without a manifest:"
            " tinyvit-export did not write it",
            stream=sys.stderr,
        )
        return 1
    if arguments.card:
        _write_card(artifact, manifest, arguments.output, arguments.overwrite)
    elif arguments.json:
        # `to_json` computes a new digest. The output shows the digest that is in the file.
        record = {
            **json.loads(manifest.to_json()),
            "manifest_sha256": manifest.manifest_sha256,
            "intact": is_manifest_unchanged(artifact),
        }
        print_lines(json.dumps(record))
    else:
        print_manifest(manifest, is_manifest_unchanged(artifact), all_labels=arguments.labels)
    return 0


def _print_coverage(artifact: Artifact, json_output: bool) -> int:
    """Print which operators accelerators refuse. The file needs no manifest."""
    from tinyvit.runtimes.network_analysis.coverage import check_coverage

    coverage = check_coverage(artifact)
    if json_output:
        print_lines(json.dumps({"artifact": str(artifact.path), **asdict(coverage)}))
    else:
        print_lines(*coverage.describe())
    return 0


def _write_card(
    artifact: Artifact, manifest: Manifest, output: Path | None, may_replace: bool
) -> None:
    """Write the model card of an artifact, by default beside it."""
    from tinyvit.runtimes.commands.model_card import CARD_NAME, describe_artifact, format_model_card

    path = output or artifact.path.with_name(CARD_NAME)
    refuse_existing(path, may_replace)
    write_atomically(path, format_model_card(manifest, describe_artifact(artifact)))
    print_lines(f"wrote {path}")
