"""The commands that use an exported file: tinyvit-predict, tinyvit-verify and tinyvit-inspect.

With `--json`, they print exactly one JSON object on stdout. `tinyvit.cli` documents the exit codes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.errors import ImageError
from tinyvit.runtimes import registry
from tinyvit.runtimes.artifact import known_suffixes
from tinyvit.runtimes.base import PRECISIONS
from tinyvit.runtimes.manifest_summary import describe_integrity, summarize_manifest

if TYPE_CHECKING:
    from tinyvit.manifest import Manifest
    from tinyvit.runtimes.classifier import Classifier, Prediction
    from tinyvit.runtimes.verify import Verification

_LABELS_SHOWN = 3


def predict(argv: Sequence[str] | None = None) -> int:
    """Run tinyvit-predict, which prints the most probable classes of images.

    Args:
        argv: Command-line arguments; None for those of the process.

    Returns:
        Exit code; 1 if any image could not be read.
    """
    parser = make_parser(
        "tinyvit-predict",
        "Classify images with a model that tinyvit-export exported.",
        "  tinyvit-predict tinyvit_5m.onnx cat.jpg\n"
        "  tinyvit-predict tinyvit_5m.xml photos/ --top-k 3 --threads 4 --json",
    )
    _add_file_argument(parser)
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="An image, or a folder to classify all images in it.",
    )
    parser.add_argument(
        "--top-k",
        type=positive_int,
        default=5,
        metavar="COUNT",
        help="Number of classes to show for each image (default: 5).",
    )
    _add_engine_arguments(parser)
    arguments = parser.parse_args(argv)
    return run_guarded(lambda: _run_predict(arguments))


def verify(argv: Sequence[str] | None = None) -> int:
    """Run tinyvit-verify, which checks that a file computes the logits stored at export.

    Args:
        argv: Command-line arguments; None for those of the process.

    Returns:
        Exit code; 1 if the check fails.
    """
    parser = make_parser(
        "tinyvit-verify",
        "Check that an exported file computes the right logits on this machine.\n\n"
        "The golden inputs (test images that export defines) are run, and their logits are\n"
        "compared with those stored at export.",
        "  tinyvit-verify tinyvit_5m.onnx\n"
        "  tinyvit-verify tinyvit_5m.xml --runtime openvino --device cpu --threads 2 --json",
    )
    _add_file_argument(parser)
    _add_engine_arguments(parser)
    arguments = parser.parse_args(argv)
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
        "Show the manifest of an exported file: model, input, output, preprocessing, labels,\n"
        "origin and accuracy. No inference engine is needed.",
        "  tinyvit-inspect tinyvit_5m.onnx\n  tinyvit-inspect tinyvit_5m.onnx --labels",
    )
    _add_file_argument(parser)
    parser.add_argument("--labels", action="store_true", help="List all class labels.")
    parser.add_argument(
        "--json",
        action="store_true",
        help='Print the whole manifest and whether it is unchanged ("intact") as one JSON object.',
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
        default="auto",
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
        "--json", action="store_true", help="Print one JSON object instead of text."
    )


def _run_predict(arguments: argparse.Namespace) -> int:
    results: list[dict[str, Any]] = []
    with _open_classifier(arguments) as classifier:
        images = _list_image_arguments(arguments.images)
        predictions_of_images = classifier.predict_each(
            image for _, image in images if isinstance(image, Path)
        )
        for name, image in images:
            result = image if isinstance(image, ImageError) else next(predictions_of_images)
            if isinstance(result, ImageError):
                print(f"error: {result}", file=sys.stderr)
                results.append({"image": name, "error": str(result)})
                continue
            results.append({"image": name, "predictions": [asdict(item) for item in result]})
            if not arguments.json:
                _print_predictions(name, result)
    if arguments.json:
        print(json.dumps({"artifact": arguments.file, "results": results}))
    return 1 if any("error" in result for result in results) else 0


def _open_classifier(arguments: argparse.Namespace) -> Classifier:
    """Open the classifier, and print its warnings as lines on stderr."""
    from tinyvit.runtimes.classifier import Classifier

    with warnings.catch_warnings(record=True) as caught_warnings:
        warnings.simplefilter("always", UserWarning)
        classifier = Classifier(
            arguments.file,
            arguments.runtime,
            arguments.device,
            arguments.threads,
            arguments.top_k,
            precision=arguments.precision,
            cache=arguments.cache,
        )
    for warning in caught_warnings:
        print(f"warning: {warning.message}", file=sys.stderr)
    return classifier


def _list_image_arguments(arguments: list[str]) -> list[tuple[str, Path | ImageError]]:
    """Return a (name, path) pair for every image, or (name, error) for a folder without images."""
    from tinyvit.data.listing import list_images

    images: list[tuple[str, Path | ImageError]] = []
    for argument in arguments:
        path = Path(argument)
        try:
            files = list_images(path) if path.is_dir() else [path]
            images += [(str(file), file) for file in files]
        except ImageError as error:
            images.append((argument, error))
    return images


def _print_predictions(name: str, predictions: list[Prediction]) -> None:
    _print_safely(name)
    for prediction in predictions:
        line = f"  {prediction.score:7.2%}  {prediction.label}  {prediction.wnid}"
        _print_safely(line.rstrip())


def _run_verify(arguments: argparse.Namespace) -> int:
    from tinyvit.runtimes.verify import verify as verify_artifact

    result = verify_artifact(
        arguments.file,
        arguments.runtime,
        arguments.device,
        arguments.threads,
        precision=arguments.precision,
        cache=arguments.cache,
    )
    if arguments.json:
        record = {"artifact": arguments.file, **asdict(result)}
        print(json.dumps(_replace_non_finite(record)))
    else:
        _print_verification(arguments.file, result)
    return 0 if result.passed else 1


def _replace_non_finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, with None."""
    if isinstance(value, dict):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_verification(file: str, result: Verification) -> None:
    difference = (
        f"largest logit difference {result.max_abs_diff:.2e}, tolerance {result.tolerance:.2e}"
    )
    verdict = "PASS" if result.passed else "FAIL"
    _print_safely(f"{verdict}  {file}: {'; '.join((*result.reasons, difference))}")
    for golden_input in result.patterns:
        top1 = "agrees" if golden_input.top1_agrees else "DIFFERS"
        _print_safely(
            f"  golden input {golden_input.pattern}: {golden_input.max_abs_diff:.2e},"
            f" top-1 class {top1}"
        )
    engine = asdict(result.engine)
    if result.engine.threads is None:
        engine["threads"] = "engine default"
    _print_safely(f"  network: {describe_integrity(result.content_unchanged)}")
    _print_safely(f"  manifest: {describe_integrity(result.manifest_unchanged)}")
    _print_safely(f"  engine: {', '.join(f'{key} {value}' for key, value in engine.items())}")
    _print_safely(f"  host: {result.host.machine}, {result.host.processor}")


def _run_inspect(arguments: argparse.Namespace) -> int:
    from tinyvit.runtimes.artifact import detect_format, read_manifest

    manifest = read_manifest(arguments.file)
    if manifest is None:
        format = detect_format(arguments.file)
        print(
            f"{arguments.file} is a file of the format {format.name} without a manifest:"
            " tinyvit-export did not write it",
            file=sys.stderr,
        )
        return 1
    if arguments.json:
        # `to_json` writes a newly computed digest; the one in the file is printed instead.
        record = {
            **json.loads(manifest.to_json()),
            "manifest_sha256": manifest.manifest_sha256,
            "intact": manifest.is_intact,
        }
        print(json.dumps(record))
    else:
        _print_manifest(manifest, all_labels=arguments.labels)
    return 0


def _print_manifest(manifest: Manifest, all_labels: bool) -> None:
    for heading, description in summarize_manifest(manifest).items():
        _print_safely(f"{heading:<14} {description}")
    labels = manifest.labels if all_labels else manifest.labels[:_LABELS_SHOWN]
    for index, label in enumerate(labels):
        _print_safely(f"  {index:>5}  {label.name}  {label.wnid}".rstrip())
    if len(labels) < len(manifest.labels):
        _print_safely(f"  {'...':>5}  --labels lists all {len(manifest.labels)}")


def _print_safely(line: str) -> None:
    """Print a line with text from a file that may be hostile.

    Two kinds of characters are escaped: control characters, which could send commands to the
    terminal, and characters that the terminal's encoding lacks.
    """
    escaped = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in line)
    encoding = sys.stdout.encoding or "utf-8"
    print(escaped.encode(encoding, "backslashreplace").decode(encoding))
