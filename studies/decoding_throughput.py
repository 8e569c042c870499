"""What decoding and resizing cost an accuracy run: its time over that of the network alone on as many pictures, in turns.

    python -m tinyvit.studies.decoding_throughput FILE [--pictures 200] [--rounds 5]

The pictures are JPEGs of 400 x 400, made of noise that is as hard to decode as a photograph's detail.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from functools import partial

import numpy as np
from PIL import Image

from tinyvit.bench.accuracy.datasets import Sample
from tinyvit.bench.accuracy.predictions import predict_samples
from tinyvit.bench.latency.interleave import run_interleaved
from tinyvit.bench.latency.percentiles import ratio_interval
from tinyvit.bench.machine import describe_cpu
from tinyvit.cli import make_parser, run_guarded
from tinyvit.runtimes.classifier import Classifier
from tinyvit.runtimes.registry import open_runtime


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    example = "  python -m tinyvit.studies.decoding_throughput demo.onnx"
    made = make_parser(
        "python -m tinyvit.studies.decoding_throughput",
        "What decoding costs an accuracy run.",
        example,
    )
    made.add_argument("file", metavar="FILE")
    made.add_argument(
        "--pictures", type=int, default=200, metavar="N", help="in a round; default 200"
    )
    made.add_argument("--rounds", type=int, default=5, metavar="N", help="default 5")
    args = made.parse_args(argv)
    return run_guarded(lambda: _run(args))


def pictures(count: int, side: int = 400) -> list[bytes]:
    """JPEGs, each different."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (25, 25, 3), np.uint8)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        fine = np.clip(np.asarray(coarse) + rng.normal(0, 12, (side, side, 1)), 0, 255).astype(
            np.uint8
        )
        data = io.BytesIO()
        Image.fromarray(fine).save(data, "JPEG", quality=90)
        made.append(data.getvalue())
    return made


def _run(args: argparse.Namespace) -> int:
    given = pictures(args.pictures)
    with Classifier(args.file) as classifier, open_runtime(args.file) as runtime:
        p, samples = classifier.preprocess, [Sample("", (), partial(bytes, each)) for each in given]
        x = np.random.default_rng(0).normal(size=(1, 3, p.size, p.size)).astype(np.float32)
        runs = {
            "whole": lambda: list(predict_samples(classifier, samples)),
            "network": lambda: [runtime.run(x) for _ in given],
        }
        times = run_interleaved(runs, rounds=args.rounds, warmup=1)
    found = ratio_interval(times["whole"], times["network"])
    rate = {name: args.pictures / one.median_ms * 1e3 for name, one in times.items()}
    print(
        f"{describe_cpu()}; {args.pictures} JPEGs of {sum(map(len, given)) / len(given) / 1e3:.0f} kB, {args.rounds} rounds"
    )
    print(
        f"network alone {rate['network']:.1f} pictures a second, whole {rate['whole']:.1f}; time {found.median:.2f} of the network's"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
