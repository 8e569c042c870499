"""Measures the time of `predict` on one file, and of the network alone, in turns on one thread."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import onnxruntime

import tinyvit


def main() -> None:
    """Print the median times, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="artifact that predicts")
    parser.add_argument("network", help=".onnx file whose input is that of the network")
    parser.add_argument("photograph", help="image file")
    parser.add_argument("--runs", type=int, default=30)
    args = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(args.network, options, ["CPUExecutionProvider"])
    network_input = session.get_inputs()[0]
    shape = [side if isinstance(side, int) else 1 for side in network_input.shape]
    pixels = {network_input.name: np.random.default_rng(0).random(shape, np.float32)}
    times_ms: dict[str, list[float]] = {"predict": [], "network": []}
    with tinyvit.Classifier(args.file, threads=1) as classifier:
        for run in range(args.runs + 2):
            predict_ms = _time(lambda: classifier.predict(args.photograph))
            network_ms = _time(lambda: session.run(None, pixels))
            if run >= 2:  # The first runs also load libraries.
                times_ms["predict"].append(predict_ms)
                times_ms["network"].append(network_ms)
    medians = {name: statistics.median(values) for name, values in times_ms.items()}
    result = {
        "ratio": medians["predict"] / medians["network"],
        "predict_ms": medians["predict"],
        "network_ms": medians["network"],
        "package": tinyvit.__file__,
    }
    print(json.dumps(result))


def _time(function: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    function()
    return (time.perf_counter() - start_s) * 1e3


if __name__ == "__main__":
    main()
