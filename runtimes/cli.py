"""The commands of a device: tinyvit-predict, tinyvit-verify, tinyvit-inspect.

Each takes an exported file; --json prints exactly one JSON object on stdout. Exit codes: see tinyvit.cli.
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

if TYPE_CHECKING:
    from tinyvit.manifest import Manifest, Quantization, TensorSpec
    from tinyvit.runtimes.classifier import Prediction
    from tinyvit.runtimes.verify import Verification


def predict(argv: Sequence[str] | None = None) -> int:
    """tinyvit-predict: the best classes of pictures; 1 where any picture could not be read."""
    made = make_parser(
        "tinyvit-predict",
        "Classify pictures with an exported file.",
        "  tinyvit-predict tinyvit_5m.onnx cat.jpg\n  tinyvit-predict tinyvit_5m.xml photos/ --top-k 3 --threads 4 --json",
    )
    _file_and_engine(made)
    made.add_argument(
        "images", metavar="IMAGE", nargs="+", help="a picture, or a folder of pictures"
    )
    made.add_argument(
        "--top-k",
        type=positive_int,
        default=5,
        metavar="K",
        help="classes to show for each picture (5)",
    )
    args = made.parse_args(argv)
    return run_guarded(lambda: _predict(args))


def verify(argv: Sequence[str] | None = None) -> int:
    """tinyvit-verify: whether a file gives here the logits it was exported with; 1 where it does not."""
    made = make_parser(
        "tinyvit-verify",
        "Run the golden inputs that an exported file carries, and compare the logits with those it was exported with.",
        "  tinyvit-verify tinyvit_5m.onnx\n  tinyvit-verify tinyvit_5m.xml --runtime openvino --device cpu --threads 2 --json",
    )
    _file_and_engine(made)
    args = made.parse_args(argv)
    return run_guarded(lambda: _verify(args))


def inspect(argv: Sequence[str] | None = None) -> int:
    """tinyvit-inspect: what a file says of itself; 1 where it says nothing."""
    made = make_parser(
        "tinyvit-inspect",
        "Show what an exported file says of itself; no engine is needed.",
        "  tinyvit-inspect tinyvit_5m.onnx\n  tinyvit-inspect tinyvit_5m.onnx --labels",
    )
    made.add_argument("file", metavar="FILE", help=f"an exported file ({known_suffixes()})")
    made.add_argument("--labels", action="store_true", help="list every class")
    made.add_argument(
        "--json",
        action="store_true",
        help="the manifest itself, as one JSON object, and whether it is intact",
    )
    args = made.parse_args(argv)
    return run_guarded(lambda: _inspect(args))


def _file_and_engine(made: argparse.ArgumentParser) -> None:
    made.add_argument("file", metavar="FILE", help=f"an exported file ({known_suffixes()})")
    made.add_argument(
        "--runtime",
        metavar="R",
        help=f"the engine: {', '.join(registry.engine_names())} (the best installed one)",
    )
    made.add_argument(
        "--device",
        default="auto",
        metavar="D",
        help="cpu, gpu, npu, or the engine's own name; default cpu where it has one",
    )
    made.add_argument(
        "--threads",
        type=positive_int,
        metavar="N",
        help="CPU threads of the engine (its own default)",
    )
    made.add_argument(
        "--precision", choices=PRECISIONS, help="of the arithmetic (what the file says)"
    )
    made.add_argument(
        "--cache",
        metavar="DIR",
        help=f"keep what the engine compiles, to open faster the next time; {', '.join(registry.caching_engines())} only",
    )
    made.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def _predict(args: argparse.Namespace) -> int:
    from tinyvit.runtimes.classifier import Classifier

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        classifier = Classifier(
            args.file,
            args.runtime,
            args.device,
            args.threads,
            args.top_k,
            precision=args.precision,
            cache=args.cache,
        )
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    results: list[dict[str, Any]] = []
    with classifier:
        pictures = _expanded(args.images)
        answers = classifier.predict_each(path for _, path in pictures if isinstance(path, Path))
        for name, path in pictures:
            answer = path if isinstance(path, ImageError) else next(answers)
            if isinstance(answer, ImageError):
                print(f"error: {answer}", file=sys.stderr)
                results.append({"image": name, "error": str(answer)})
                continue
            results.append(
                {"image": name, "predictions": [asdict(prediction) for prediction in answer]}
            )
            if not args.json:
                _print_predictions(name, answer)
    if args.json:
        print(json.dumps({"artifact": args.file, "results": results}))
    return 1 if any("error" in result for result in results) else 0


def _expanded(images: list[str]) -> list[tuple[str, Path | ImageError]]:
    """(name, picture's path) of each argument, folders opened up; a folder without pictures gives its error."""
    from tinyvit.images import list_images

    pictures: list[tuple[str, Path | ImageError]] = []
    for image in images:
        try:
            found = list_images(Path(image)) if Path(image).is_dir() else [Path(image)]
            pictures += [(str(path), path) for path in found]
        except ImageError as error:
            pictures.append((image, error))
    return pictures


def _print_predictions(name: str, predictions: list[Prediction]) -> None:
    _say(name)
    for p in predictions:
        _say(f"  {p.score:7.2%}  {p.label}  {p.wnid}".rstrip())


def _verify(args: argparse.Namespace) -> int:
    from tinyvit.runtimes.verify import verify as run_golden_inputs

    result = run_golden_inputs(
        args.file,
        args.runtime,
        args.device,
        args.threads,
        precision=args.precision,
        cache=args.cache,
    )
    if args.json:
        print(json.dumps({"artifact": args.file, **_finite(asdict(result))}))
    else:
        _print_verification(args.file, result)
    return 0 if result.passed else 1


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """NaN and infinity, which JSON has not, as null."""
    return {key: _plain(value) for key, value in record.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return _finite(value)
    if isinstance(value, (list, tuple)):
        return [_plain(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_verification(file: str, result: Verification) -> None:
    difference = (
        f"largest logit difference {result.max_abs_diff:.2e}, tolerance {result.tolerance:.2e}"
    )
    _say(
        f"{'PASS' if result.passed else 'FAIL'}  {file}: {'; '.join((*result.reasons, difference))}"
    )
    for row in result.patterns:
        _say(
            f"  pattern {row.pattern}: {row.max_abs_diff:.2e}, best class {'agrees' if row.top1_agrees else 'DIFFERS'}"
        )
    _say(f"  network: {_state(result.content_unchanged)}")
    _say(f"  manifest: {_state(result.manifest_unchanged)}")
    _say(f"  engine: {', '.join(f'{key} {value}' for key, value in result.engine.items())}")
    _say(f"  host: {result.host['machine']}, {result.host['processor']}")


def _state(unchanged: bool) -> str:
    return "as exported" if unchanged else "CHANGED after export"


def _inspect(args: argparse.Namespace) -> int:
    from tinyvit.runtimes.artifact import detect_format, read_manifest

    manifest = read_manifest(args.file)
    if manifest is None:
        print(
            f"{args.file} is {detect_format(args.file).name} without a manifest: tinyvit-export did not make it",
            file=sys.stderr,
        )
        return 1
    if args.json:
        # sha256 as the file has it: to_json writes the one that it should have.
        print(
            json.dumps(
                {
                    **json.loads(manifest.to_json()),
                    "sha256": manifest.sha256,
                    "intact": manifest.intact,
                }
            )
        )
        return 0
    for key, value in _summary(manifest).items():
        _say(f"{key:<14} {value}")
    shown = manifest.labels if args.labels else manifest.labels[:3]
    for i, label in enumerate(shown):
        _say(f"  {i:>5}  {label.name}  {label.wnid}".rstrip())
    if len(shown) < len(manifest.labels):
        _say(f"  {'...':>5}  --labels lists all {len(manifest.labels)}")
    return 0


def _summary(manifest: Manifest) -> dict[str, str]:
    p, parity, golden = manifest.preprocess, manifest.parity, manifest.golden
    return {
        "model": manifest.model,
        "variant": f"{manifest.variant}, {manifest.img_size} x {manifest.img_size} pixels",
        "target": f"{manifest.target}, {manifest.precision}",
        "input": _tensor(manifest.input),
        "output": _tensor(manifest.output),
        "preprocessing": f"resize {p.resize}, crop {p.size} ({p.crop}), {p.interpolation}, mean {p.mean}, std {p.std}",
        "  in the file": {
            "host": "none of it",
            "normalize": "the normalization",
            "full": "all of it",
        }[manifest.stage],
        "license": manifest.license,
        "source": f"{manifest.source.name}, sha256 {manifest.source.sha256}",
        "tools": ", ".join(f"{name} {version}" for name, version in sorted(manifest.tools.items())),
        **(_quantization(manifest.quantization) if manifest.quantization else {}),
        "parity": f"{parity.max_abs_diff:.2e} from {parity.against}, on {parity.engine}"
        if parity
        else "not measured",
        "golden": f"{len(golden.patterns)} inputs, tolerance {golden.tolerance:.2e}; run tinyvit-verify"
        if golden
        else "none",
        "manifest": _state(manifest.intact),
        "labels": f"{len(manifest.labels)} classes",
    }


def _quantization(said: Quantization) -> dict[str, str]:
    top1 = (
        f", top-1 {said.top1:.1f}% (float32: {said.float_top1:.1f}%)"
        if said.top1 is not None and said.float_top1 is not None
        else ""
    )
    share = "an unknown share" if said.int8_macs is None else f"{said.int8_macs:.0%}"
    agreement = (
        "no images"
        if said.agreement is None
        else f"{said.agreement:.1f}% of {said.images} images as in float32"
    )
    return {
        "int8": f"{said.weight_bits}-bit weights, for {said.cpu} processor; {share} of the work; {len(said.float_units)} units in float32",
        "  calibrated": f"{said.data_count} images, {said.method}",
        "  measured": f"{agreement}{top1}, on {said.measured_on}{'; budget MISSED, forced' if said.forced else ''}",
    }


def _tensor(tensor: TensorSpec) -> str:
    return f"{tensor.name}: {tensor.dtype} ({', '.join(map(str, tensor.shape))}) {tensor.layout}".rstrip()


def _say(line: str) -> None:
    """Print a line whose text is partly a file's own: nothing in it may steer the terminal or fail to be encoded."""
    safe = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in line)
    encoding = sys.stdout.encoding or "utf-8"
    print(safe.encode(encoding, "backslashreplace").decode(encoding))
