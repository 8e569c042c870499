"""How fast this machine can be at all: its largest rate of products and of bytes, and a network's part of it.

The bound of a network is the greater of two times: that of its multiply-accumulates at the machine's rate for their type, and that of
reading its weights once (Williams, Waterman and Patterson, "Roofline", CACM 2009). The rates are those of onnxruntime's own product of
two large matrices, and of numpy's copy, each on as many threads as the network has.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tinyvit.bench.onnx_protobuf import one_product
from tinyvit.bench.record import LatencyResult, PeakRates

_SIDE = 1024
_BYTES = 64 * 2**20
_REPEATS = 30


def measure_peak_rates(threads: int) -> PeakRates:
    """This machine's, on so many threads: the best of 30 tries of each."""
    rng = np.random.default_rng(0)
    float32 = one_product(
        "MatMul", _SIDE, rng.normal(size=(_SIDE, _SIDE)).astype(np.float32), "float32", "float32"
    )
    int8 = one_product(
        "MatMulInteger", _SIDE, rng.integers(-63, 64, (_SIDE, _SIDE), np.int8), "uint8", "int32"
    )
    products = _SIDE**3 / 1e9
    return PeakRates(
        threads=threads,
        float32_gmacs_per_s=products
        / _product_s(float32, rng.normal(size=(_SIDE, _SIDE)).astype(np.float32), threads),
        int8_gmacs_per_s=products
        / _product_s(int8, rng.integers(0, 256, (_SIDE, _SIDE), np.uint8), threads),
        memory_gb_per_s=_copied_bytes_per_s(threads) / 1e9,
    )


def share_of_peak(one: LatencyResult, machine: PeakRates) -> float | None:
    """The bound's part of the median time of a picture, 0 to 1; None where the network's work is not known."""
    if one.gmacs_per_image is None or one.artifact.int8_mac_share is None:
        return None
    integers = one.artifact.int8_mac_share
    products_s = one.gmacs_per_image * (
        integers / machine.int8_gmacs_per_s + (1 - integers) / machine.float32_gmacs_per_s
    )
    weights_s = one.artifact.size_bytes / 1e9 / machine.memory_gb_per_s / one.batch
    return max(products_s, weights_s) * 1e3 / (one.median_ms / one.batch)


def _product_s(model: bytes, x: Any, threads: int) -> float:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    return _best_s(lambda: session.run(None, {"x": x}))


def _copied_bytes_per_s(threads: int) -> float:
    """Bytes read and written."""
    given = [np.ones(_BYTES, np.uint8) for _ in range(threads)]
    made = [np.empty_like(each) for each in given]
    with ThreadPoolExecutor(threads) as pool:
        return 2 * _BYTES * threads / _best_s(lambda: list(pool.map(np.copyto, made, given)))


def _best_s(run: Any) -> float:
    times = []
    for _ in range(_REPEATS):
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)
    return min(times)
