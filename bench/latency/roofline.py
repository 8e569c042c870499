"""Measures the machine's peak compute and memory rates, and how close a network comes to them.

A network takes at least the longer of two times: the time of its multiply-accumulates at the peak
rate of their data type, and the time to read its weights once (Williams, Waterman and Patterson,
"Roofline: an insightful visual performance model", CACM 2009). The compute rates are measured with
onnxruntime's product of two large matrices, and the memory rate with numpy's copy of large arrays.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from tinyvit.bench.onnx_protobuf import build_matrix_product_model
from tinyvit.bench.record import LatencyResult, PeakRates

_MATRIX_SIZE = 1024
"""Rows and columns of the matrices."""
_ARRAY_BYTES = 64 * 2**20
"""Size of the array that each thread copies, larger than the caches."""
_REPEATS = 30


def measure_peak_rates(threads: int) -> PeakRates:
    """Measure the peak rates of this machine, each as the best of 30 repetitions.

    Args:
        threads: CPU threads to use.
    """
    rng = np.random.default_rng(0)
    shape = (_MATRIX_SIZE, _MATRIX_SIZE)
    float32_model = build_matrix_product_model(
        "MatMul", _MATRIX_SIZE, rng.normal(size=shape).astype(np.float32), "float32", "float32"
    )
    int8_model = build_matrix_product_model(
        "MatMulInteger", _MATRIX_SIZE, rng.integers(-63, 64, shape, np.int8), "uint8", "int32"
    )
    float32_input = rng.normal(size=shape).astype(np.float32)
    int8_input = rng.integers(0, 256, shape, np.uint8)
    gmacs = _MATRIX_SIZE**3 / 1e9
    return PeakRates(
        threads=threads,
        float32_gmacs_per_s=gmacs / _time_product(float32_model, float32_input, threads),
        int8_gmacs_per_s=gmacs / _time_product(int8_model, int8_input, threads),
        memory_gb_per_s=_measure_copy_rate(threads) / 1e9,
    )


def compute_peak_share(result: LatencyResult, peak_rates: PeakRates) -> float | None:
    """Compare the latency of a network with the lowest possible one on the machine.

    Args:
        result: The measured latency, with the network's multiply-accumulates.
        peak_rates: The peak rates of the machine.

    Returns:
        The lowest possible time per image, divided by the measured median time per image, 0 to 1;
        None if the number of multiply-accumulates is unknown.
    """
    int8_share = result.artifact.int8_mac_share
    if result.gmacs_per_image is None or int8_share is None:
        return None
    compute_s = result.gmacs_per_image * (
        int8_share / peak_rates.int8_gmacs_per_s + (1 - int8_share) / peak_rates.float32_gmacs_per_s
    )
    weights_gb = result.artifact.size_bytes / 1e9
    memory_s = weights_gb / peak_rates.memory_gb_per_s / result.batch
    return max(compute_s, memory_s) * 1e3 / (result.median_ms / result.batch)


def _time_product(
    model: bytes, matrix: npt.NDArray[np.float32] | npt.NDArray[np.uint8], threads: int
) -> float:
    """Return the shortest time in seconds in which onnxruntime runs a model of one product."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    return _shortest_time(lambda: session.run(None, {"x": matrix}))


def _measure_copy_rate(threads: int) -> float:
    """Return the bytes per second that `threads` threads read and write while they copy arrays."""
    sources = [np.ones(_ARRAY_BYTES, np.uint8) for _ in range(threads)]
    copies = [np.empty_like(source) for source in sources]
    with ThreadPoolExecutor(threads) as pool:
        time_s = _shortest_time(lambda: list(pool.map(np.copyto, copies, sources)))
    return 2 * _ARRAY_BYTES * threads / time_s


def _shortest_time(run: Callable[[], object]) -> float:
    """Return the shortest time in seconds of several runs."""
    times_s = []
    for _ in range(_REPEATS):
        start_s = time.perf_counter()
        run()
        times_s.append(time.perf_counter() - start_s)
    return min(times_s)
