"""Measures how much time decoding and resizing images add to an accuracy run.

    python -m tinyvit.studies.decoding_throughput ARTIFACT [--threads N] [--images N] [--rounds N]

ARTIFACT is an exported model file. These measurements alternate: classifying JPEG files on N
threads, the same with N streams of one thread each, and running only the network on N threads on
the same number of inputs. The JPEG files have 400 x 400 pixels of noise, which
takes about as long to decode as a detailed photograph.
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
from tinyvit.bench.machine import count_cores, describe_cpu
from tinyvit.bench.profilers import random_input
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.data.dataset import Sample
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.classifier import Classifier
from tinyvit.runtimes.registry import open_runtime

_SIDE_PX = 400
"""Width and height of the JPEG files."""
_COARSE_SIDE_PX = 25
"""Width and height of the noise that is enlarged to the size of the files."""
_NOISE_STD = 12
"""Standard deviation of the fine noise that is added, in gray levels."""
_EXAMPLES = "  python -m tinyvit.studies.decoding_throughput demo.onnx"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    parser = make_parser(
        "python -m tinyvit.studies.decoding_throughput",
        "Measure how much time decoding and resizing images add to an accuracy run.",
        _EXAMPLES,
    )
    parser.add_argument("file", metavar="ARTIFACT", help="Exported model file to run.")
    parser.add_argument(
        "--threads",
        type=positive_int,
        default=count_cores(),
        metavar="N",
        help="Number of CPU threads, and of streams (default: one for each core).",
    )
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
    """Create JPEG files of 400 x 400 pixels, each with different noise.

    Args:
        count: Number of files.

    Returns:
        The contents of the files.
    """
    rng = np.random.default_rng(0)
    size = (_SIDE_PX, _SIDE_PX)
    jpegs = []
    for _ in range(count):
        coarse_shape = (_COARSE_SIDE_PX, _COARSE_SIDE_PX, 3)
        coarse = Image.fromarray(rng.integers(0, 256, coarse_shape, np.uint8))
        smooth_pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))
        noise = rng.normal(0, _NOISE_STD, (*size, 1))
        noisy_pixels = np.clip(smooth_pixels + noise, 0, 255).astype(np.uint8)
        output = io.BytesIO()
        Image.fromarray(noisy_pixels).save(output, "JPEG", quality=90)
        jpegs.append(output.getvalue())
    return jpegs


def _run(args: argparse.Namespace) -> int:
    jpegs = make_jpegs(args.images)
    # `partial(bytes, jpeg)` is a function that returns the content of the file.
    samples = [Sample(name="", classes=(), get_source=partial(bytes, jpeg)) for jpeg in jpegs]
    threads = args.threads
    with (
        Classifier(args.file, threads=threads) as classifier,
        Classifier(args.file, threads=1, streams=threads) as streamed,
        open_runtime(args.file, options=RuntimeOptions(threads=threads)) as runtime,
    ):
        network_input = random_input(runtime.inputs[0].shape, runtime.inputs[0].dtype)
        runs = {
            f"{threads} threads": lambda: list(predict_samples(classifier, samples)),
            f"{threads} streams": lambda: list(predict_samples(streamed, samples)),
            "only the network": lambda: [runtime.run(network_input) for _ in jpegs],
        }
        timings = run_interleaved(runs, rounds=args.rounds, warmup=1)
    mean_kilobytes = sum(map(len, jpegs)) / len(jpegs) / 1e3
    print(
        f"{describe_cpu()}; {args.images} JPEG files of {mean_kilobytes:.0f} kB,"
        f" {args.rounds} rounds"
    )
    only_network = timings.pop("only the network")
    rate = args.images / only_network.median_ms * 1e3
    print(f"without decoding and resizing, on {threads} threads: {rate:.1f} images/s")
    for name, timing in timings.items():
        rate, ratio = args.images / timing.median_ms * 1e3, ratio_interval(timing, only_network)
        print(
            f"with both, {name}: {rate:.1f} images/s, which takes {ratio.median:.2f} times as long"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
