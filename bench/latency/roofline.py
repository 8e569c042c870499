"""Measures the machine's peak compute and memory rates, and how close a network comes to them.

A network takes at least the longer of two times: the time that its multiply-accumulates (MACs) take
at the peak rate of their data type, and the time to read its weights once from memory (Williams,
Waterman and Patterson, "Roofline: an insightful visual performance model", CACM 2009). The compute
rates are measured with products of two large matrices in onnxruntime, and the memory rate with
copies of large arrays in numpy.
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
"""Default number of rows and of columns of the matrices."""
_ARRAY_BYTES = 64 * 2**20
"""Size of the array that each thread copies; larger than the caches, so that memory is measured."""
_REPETITIONS = 30


def measure_peak_rates(threads: int, matrix_size: int = _MATRIX_SIZE) -> PeakRates:
    """Measure the peak rates of this machine, each as the best of 30 repetitions.

    Args:
        threads: Number of CPU threads to use.
        matrix_size: Number of rows and of columns of the matrices.
    """
    rng = np.random.default_rng(0)
    shape = (matrix_size, matrix_size)
    float32_model = build_matrix_product_model(
        op_type="MatMul",
        rows=matrix_size,
        weights=rng.normal(size=shape).astype(np.float32),
        input_dtype="float32",
        output_dtype="float32",
    )
    # The int8 weights have 7 bits, since 8-bit weights can overflow on processors without VNNI.
    int8_model = build_matrix_product_model(
        op_type="MatMulInteger",
        rows=matrix_size,
        weights=rng.integers(-63, 64, shape, np.int8),
        input_dtype="uint8",
        output_dtype="int32",
    )
    float32_input = rng.normal(size=shape).astype(np.float32)
    uint8_input = rng.integers(0, 256, shape, np.uint8)
    gmacs = matrix_size**3 / 1e9
    return PeakRates(
        threads=threads,
        float32_gmacs_per_s=gmacs / _time_product(float32_model, float32_input, threads),
        int8_gmacs_per_s=gmacs / _time_product(int8_model, uint8_input, threads),
        memory_gb_per_s=_measure_copy_rate(threads) / 1e9,
    )


def compute_peak_share(result: LatencyResult, peak_rates: PeakRates) -> float | None:
    """Compare the latency of a network with the lowest latency that the peak rates allow.

    Args:
        result: The measured latency, with the network's multiply-accumulates.
        peak_rates: The peak rates of the machine.

    Returns:
        The lowest possible time per image, divided by the measured median time per image. This is
        at most 1, unless caches deliver the weights faster than the memory. None if the number of
        multiply-accumulates is unknown.
    """
    int8_share = result.artifact.int8_mac_share
    if result.gmacs_per_image is None or int8_share is None:
        return None
    int8_s = int8_share * result.gmacs_per_image / peak_rates.int8_gmacs_per_s
    float32_s = (1 - int8_share) * result.gmacs_per_image / peak_rates.float32_gmacs_per_s
    weights_gb = result.artifact.size_bytes / 1e9  # almost all of the file is weights
    memory_s = weights_gb / peak_rates.memory_gb_per_s / result.batch  # read once per query
    lowest_ms_per_image = max(int8_s + float32_s, memory_s) * 1e3
    return lowest_ms_per_image / (result.median_ms / result.batch)


def _time_product(
    model: bytes, matrix: npt.NDArray[np.float32] | npt.NDArray[np.uint8], threads: int
) -> float:
    """Return the shortest time in seconds in which onnxruntime multiplies `matrix` by the weights.

    `model` is an ONNX model that consists of this one product, with the input "x".
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    return measure_shortest_time_s(lambda: session.run(None, {"x": matrix}))


def _measure_copy_rate(threads: int) -> float:
    """Return the bytes that all threads together read and write per second when copying arrays."""
    sources = [np.ones(_ARRAY_BYTES, np.uint8) for _ in range(threads)]
    copies = [np.empty_like(source) for source in sources]
    with ThreadPoolExecutor(threads) as pool:
        time_s = measure_shortest_time_s(lambda: list(pool.map(np.copyto, copies, sources)))
    # Each copied byte is read once and written once.
    return 2 * _ARRAY_BYTES * threads / time_s


def measure_shortest_time_s(run: Callable[[], object]) -> float:
    """Return the shortest time in seconds of 30 runs.

    Args:
        run: Function that is timed.
    """
    times_s = []
    for _ in range(_REPETITIONS):
        start_s = time.perf_counter()
        run()
        times_s.append(time.perf_counter() - start_s)
    return min(times_s)
