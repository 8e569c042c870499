"""Measures the processor time from the bytes of images to their labels, beside the network alone.

    python -m tinyvit.studies.pixels_to_labels ARTIFACT IMAGE... [--rounds N]

The stages, `Classifier.predict`, and the network alone take turns in one process, with one thread.
Processor time is measured instead of elapsed time, so that other work on the machine matters less.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from tinyvit.bench.machine import describe_cpu
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.images.decoding import open_image
from tinyvit.images.reduced_size import DecodedImage
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.classifier import Classifier
from tinyvit.runtimes.image_input import resolve_image_input
from tinyvit.runtimes.registry import open_runtime

Value = TypeVar("Value")

_EXAMPLES = "  python -m tinyvit.studies.pixels_to_labels demo.int8.onnx photograph.jpg"


class Stopwatch:
    """Records the processor time of named steps.

    Attributes:
        times_ms: Name -> milliseconds of each call.
    """

    def __init__(self) -> None:
        self.times_ms: dict[str, list[float]] = {}

    def measure(self, name: str, function: Callable[[], Value]) -> Value:
        """Call a function, and record its time."""
        start_s = time.process_time()
        value = function()
        self.times_ms.setdefault(name, []).append((time.process_time() - start_s) * 1e3)
        return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    parser = make_parser(
        "python -m tinyvit.studies.pixels_to_labels",
        "Measure the processor time from the bytes of images to their labels.",
        _EXAMPLES,
    )
    parser.add_argument("file", type=Path, metavar="ARTIFACT", help="Exported classifier.")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="Image files.")
    parser.add_argument("--rounds", type=positive_int, default=60, help="Number of rounds.")
    args = parser.parse_args(argv)
    return run_guarded(lambda: _run(args))


def measure_stages(file: Path, images: Sequence[bytes], rounds: int) -> dict[str, list[float]]:
    """Measure the stages of a prediction in turns, each round with the next image.

    Args:
        file: An artifact.
        images: Contents of image files.
        rounds: Number of rounds.

    Returns:
        Name of the stage -> processor time of each round in milliseconds.
    """
    stopwatch = Stopwatch()
    artifact, options = read_artifact(file), RuntimeOptions(threads=1)
    with (
        Classifier(file, threads=1) as classifier,
        open_runtime(artifact, options=options) as runtime,
    ):
        image_input = resolve_image_input(artifact, runtime)

        def predict_in_stages(content: bytes) -> None:
            decoded = stopwatch.measure("decode", lambda: image_input.decode(content))
            pixels = stopwatch.measure("prepare", lambda: image_input.prepare_input(decoded))
            batch = np.stack([pixels] * (image_input.batch_size or 1))
            stopwatch.measure("network", lambda: runtime.run(batch))

        def prepare_completely(content: bytes) -> None:
            full = stopwatch.measure("decode completely", lambda: open_image(content))
            decoded = DecodedImage.from_full(full)
            stopwatch.measure("prepare completely", lambda: image_input.prepare_input(decoded))

        for index in range(rounds + 1):
            content = images[index % len(images)]
            predict_in_stages(content)
            stopwatch.measure("predict", partial(classifier.predict, content))
            prepare_completely(content)
    # The first round also loads libraries.
    return {name: times[1:] for name, times in stopwatch.times_ms.items()}


def _run(args: argparse.Namespace) -> int:
    contents = [path.read_bytes() for path in args.images]
    times_ms = measure_stages(args.file, contents, args.rounds)
    print(f"{describe_cpu()}, {args.rounds} rounds, one thread, processor time")
    for name, times in times_ms.items():
        print(f"{name}: {np.median(times):.2f} ms")
    ratios = np.divide(times_ms["predict"], times_ms["network"])
    print(f"predict / network: {np.median(ratios):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
