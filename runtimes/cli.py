"""The commands that use an exported file: tinyvit-predict, tinyvit-verify and tinyvit-inspect.

With `--json`, each prints exactly one JSON object on stdout. `tinyvit.cli` documents the exit
codes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.runtimes import registry
from tinyvit.runtimes.artifact import known_suffixes
from tinyvit.runtimes.base import AUTO_DEVICE, PRECISIONS
from tinyvit.runtimes.limited_verification import verify_with_timeout
from tinyvit.runtimes.predict_command import DEFAULT_TOP_K, run_predict
from tinyvit.runtimes.text_output import print_manifest, print_verification
from tinyvit.safe_text import print_lines


def predict(argv: Sequence[str] | None = None) -> int:
    """Run tinyvit-predict, which prints classes of images, or writes their embeddings.

    Args:
        argv: Command-line arguments; None for those of the process.

    Returns:
        Exit code; 1 if any image could not be read.
    """
    parser = make_parser(
        "tinyvit-predict",
        "Classify images with a model that tinyvit-export exported. For a file that was exported\n"
        "with --output embedding or --output features, write its vectors or feature maps.\n\n"
        "If an image cannot be read, the others are still processed, and the exit code is 1.",
        "  tinyvit-predict tinyvit_5m.onnx cat.jpg\n"
        "  tinyvit-predict tinyvit_5m.xml photos/ --top-k 3 --threads 4 --json\n"
        "  tinyvit-predict tinyvit_5m.embedding.onnx photos/ -o photos.npy",
    )
    _add_file_argument(parser)
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        type=str,  # a URL is an unreadable image, after which the others are still classified
        help="An image, or a folder: all images in it are used, and other files are skipped.",
    )
    parser.add_argument(
        "--top-k",
        type=positive_int,
        metavar="COUNT",
        help=f"Number of classes to show for each image (default: {DEFAULT_TOP_K}).",
    )
    _add_vector_arguments(parser)
    _add_engine_arguments(parser)
    arguments = parser.parse_args(argv)
    return run_guarded(lambda: run_predict(arguments))


def _add_vector_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for files that return embeddings or feature maps."""
    group = parser.add_argument_group("embeddings and feature maps")
    group.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="File to write. For embeddings, an .npy file with one row of float32 for each image; "
        "for feature maps, an .npz file with one array for each output. The row of an image that "
        "cannot be read is NaN.",
    )
    group.add_argument(
        "--l2-normalize",
        action="store_true",
        help="Divide each embedding by its length, so that dot products are cosine similarities.",
    )
    group.add_argument("--overwrite", action="store_true", help="Replace an existing -o file.")


def verify(argv: Sequence[str] | None = None) -> int:
    """Run tinyvit-verify, which checks that a file computes the right outputs on this machine.

    Args:
        argv: Command-line arguments; None for those of the process.

    Returns:
        Exit code; 1 if the check fails, or does not finish within --timeout.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = _make_verify_parser().parse_args(words)
    if arguments.timeout is None:
        return run_guarded(lambda: _run_verify(arguments))
    return run_guarded(lambda: verify_with_timeout(arguments.file, words, arguments.timeout))


def _make_verify_parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "tinyvit-verify",
        "Check that an exported file computes the right outputs on this machine.\n\n"
        "The file is run on golden inputs (test images that a formula generates), and its outputs\n"
        "(such as logits) are compared with those that tinyvit-export stored in the file.",
        "  tinyvit-verify tinyvit_5m.onnx\n"
        "  tinyvit-verify tinyvit_5m.xml --runtime openvino --device cpu --threads 2 --json",
    )
    _add_file_argument(parser)
    _add_engine_arguments(parser)
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
    arguments = _make_verify_parser().parse_args(argv)
    return run_guarded(lambda: _run_verify(arguments))


def inspect(argv: Sequence[str] | None = None) -> int:
    """Run tinyvit-inspect, which prints the manifest (the description) in an exported file.

    Args:
        argv: Command-line arguments; None for those of the process.

    Returns:
        Exit code; 1 if the file has no manifest.
    """
    parser = make_parser(
        "tinyvit-inspect",
        "Show the manifest (the description) in an exported file: model, input, output,\n"
        "preprocessing, labels, origin and accuracy. No inference engine is needed.",
        "  tinyvit-inspect tinyvit_5m.onnx\n  tinyvit-inspect tinyvit_5m.onnx --labels",
    )
    _add_file_argument(parser)
    parser.add_argument("--labels", action="store_true", help="List all class labels.")
    parser.add_argument(
        "--json",
        action="store_true",
        help='Print one JSON object: the whole manifest, and the field "intact", which states'
        " whether the manifest is unchanged.",
    )
    arguments = parser.parse_args(argv)
    return run_guarded(lambda: _run_inspect(arguments))


def _add_file_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=f"An exported file ({known_suffixes()}).")


def _add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime",
        metavar="ENGINE",
        help=f"Inference engine that runs the file: {', '.join(registry.engine_names())}"
        " (default: the best installed one for the file).",
    )
    parser.add_argument(
        "--device",
        default=AUTO_DEVICE,
        metavar="DEVICE",
        help="Device to run on: cpu, gpu, npu, or the engine's own name of a device"
        " (default: cpu; for tensorrt: gpu).",
    )
    parser.add_argument(
        "--threads",
        type=positive_int,
        metavar="COUNT",
        help="Number of CPU threads of the engine (default: depends on the engine).",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="Precision of the arithmetic (default: the precision of the exported file).",
    )
    parser.add_argument(
        "--cache",
        metavar="FOLDER",
        help="Folder in which the engine keeps its compiled form of the file, so that the file"
        f" opens faster the next time. Only for {', '.join(registry.caching_engines())}.",
    )
    parser.add_argument(
        "--allow-foreign-operators",
        action="store_true",
        help="Run a file with operators that image classifiers do not need, such as loops. They may"
        " run forever or fill the memory, so use this only if you trust the file.",
    )
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object instead of text."
    )


def _run_verify(arguments: argparse.Namespace) -> int:
    from tinyvit.runtimes.verify import verify as verify_artifact

    result = verify_artifact(
        arguments.file,
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


def _run_inspect(arguments: argparse.Namespace) -> int:
    from tinyvit.runtimes.artifact import is_manifest_unchanged, read_artifact

    artifact = read_artifact(arguments.file)
    manifest = artifact.manifest
    if manifest is None:
        print_lines(
            f"{arguments.file} is a file of the format {artifact.format.name} without a manifest:"
            " tinyvit-export did not write it",
            stream=sys.stderr,
        )
        return 1
    if arguments.json:
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
