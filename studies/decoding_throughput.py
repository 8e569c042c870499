"""Measures how much time decoding and resizing images add to an accuracy run.

    python -m tinyvit.studies.decoding_throughput ARTIFACT [--images N] [--rounds N]

Two measurements alternate: classifying JPEG files, and running only the network on the same number
of inputs. The JPEGs have 400 x 400 pixels of noise, which takes about as long to decode as a
detailed photograph.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from functools import partial

import numpy as np
from PIL import Image

from tinyvit.bench.accuracy.predictions import predict_samples
from tinyvit.bench.latency.interleave import run_interleaved
from tinyvit.bench.latency.percentiles import ratio_interval
from tinyvit.bench.machine import describe_cpu
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.data.dataset import Sample
from tinyvit.runtimes.classifier import Classifier
from tinyvit.runtimes.registry import open_runtime

_SIDE_PX = 400
_EXAMPLES = "  python -m tinyvit.studies.decoding_throughput demo.onnx"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for those of the process.

    Returns:
        The exit code.
    """
    parser = make_parser(
        "python -m tinyvit.studies.decoding_throughput",
        "Measure how much time decoding and resizing images add to an accuracy run.",
        _EXAMPLES,
    )
    parser.add_argument("file", metavar="ARTIFACT", help="Artifact to run.")
    parser.add_argument(
        "--images",
        type=positive_int,
        default=200,
        metavar="N",
        help="Number of images per measurement (default: 200).",
    )
    parser.add_argument(
        "--rounds",
        type=positive_int,
        default=5,
        metavar="N",
        help="Number of repetitions of both measurements (default: 5).",
    )
    args = parser.parse_args(argv)
    return run_guarded(lambda: _run(args))


def make_jpegs(count: int) -> list[bytes]:
    """Create JPEG files of 400 x 400 pixels with different noise."""
    rng = np.random.default_rng(0)
    size = (_SIDE_PX, _SIDE_PX)
    jpegs = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (25, 25, 3), np.uint8))
        smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))
        noisy = np.clip(smooth + rng.normal(0, 12, (*size, 1)), 0, 255).astype(np.uint8)
        data = io.BytesIO()
        Image.fromarray(noisy).save(data, "JPEG", quality=90)
        jpegs.append(data.getvalue())
    return jpegs


def _run(args: argparse.Namespace) -> int:
    jpegs = make_jpegs(args.images)
    samples = [Sample(name="", classes=(), get_source=partial(bytes, jpeg)) for jpeg in jpegs]
    with Classifier(args.file) as classifier, open_runtime(args.file) as runtime:
        size = classifier.preprocess.size
        network_input = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
        runs = {
            "with decoding": lambda: list(predict_samples(classifier, samples)),
            "network alone": lambda: [runtime.run(network_input) for _ in jpegs],
        }
        timings = run_interleaved(runs, rounds=args.rounds, warmup=1)
    ratio = ratio_interval(timings["with decoding"], timings["network alone"])
    rates = {name: args.images / timing.median_ms * 1e3 for name, timing in timings.items()}
    kilobytes = sum(map(len, jpegs)) / len(jpegs) / 1e3
    print(f"{describe_cpu()}; {args.images} JPEGs of {kilobytes:.0f} kB, {args.rounds} rounds")
    print(
        f"network alone: {rates['network alone']:.1f} images/s; with decoding and resizing:"
        f" {rates['with decoding']:.1f} images/s, which takes {ratio.median:.2f} times as long"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
