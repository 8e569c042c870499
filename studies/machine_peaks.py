"""Measures the highest rates of products that any engine here reaches, and the rate of copies.

The products are those of two square matrices in onnxruntime and in OpenVINO, in float32 and in
int8. Peaks of other engines are not measured, because they have no Python interface for a single
product; if a kernel of theirs is faster, a network can be faster than the bound of these peaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.bench.latency.roofline import measure_peak_rates, measure_shortest_time_s
from tinyvit.runtimes.engines.openvino import shared_core

MATRIX_SIZES = (256, 512, 1024)
"""Numbers of rows and columns of the matrices; for some engines the smaller ones are faster."""
_LIMIT = np.float32(127 / 32)
"""Largest value of the quantized matrices, whose scale is 1/32."""


@dataclass(frozen=True)
class ProductRate:
    """The rate of one kind of product.

    Attributes:
        engine: Name of the engine.
        precision: "float32" or "int8".
        matrix_size: Number of rows and of columns of the matrices.
        gmacs_per_s: Billions of multiply-accumulates per second, the best of 30 repetitions.
    """

    engine: str
    precision: str
    matrix_size: int
    gmacs_per_s: float


@dataclass(frozen=True)
class MachinePeaks:
    """The highest rates with one number of threads.

    Attributes:
        threads: Number of CPU threads.
        products: All measured products.
        memory_gb_per_s: Bytes that a large copy reads and writes, in 10**9 bytes per second.
    """

    threads: int
    products: tuple[ProductRate, ...]
    memory_gb_per_s: float

    def find_best(self, precision: str) -> ProductRate:
        """Return the fastest product of a precision.

        Args:
            precision: "float32" or "int8".
        """
        rates = [rate for rate in self.products if rate.precision == precision]
        return max(rates, key=lambda rate: rate.gmacs_per_s)

    def join(self, other: MachinePeaks) -> MachinePeaks:
        """Return the higher rates of two measurements; other work on the machine lowers them.

        Args:
            other: Another measurement of the same products with the same number of threads.
        """
        products = tuple(
            max(pair, key=lambda rate: rate.gmacs_per_s)
            for pair in zip(self.products, other.products)
        )
        memory_gb_per_s = max(self.memory_gb_per_s, other.memory_gb_per_s)
        return MachinePeaks(self.threads, products, memory_gb_per_s)


def measure_machine_peaks(threads: int, matrix_sizes: Sequence[int] = MATRIX_SIZES) -> MachinePeaks:
    """Measure the peaks of this machine.

    Args:
        threads: Number of CPU threads.
        matrix_sizes: Numbers of rows and columns of the matrices.
    """
    products: list[ProductRate] = []
    memory_rates = []
    for size in matrix_sizes:
        rates = measure_peak_rates(threads, size)
        memory_rates.append(rates.memory_gb_per_s)
        products += (
            ProductRate("onnxruntime", "float32", size, rates.float32_gmacs_per_s),
            ProductRate("onnxruntime", "int8", size, rates.int8_gmacs_per_s),
        )
        if find_spec("openvino") is not None:
            products += _measure_openvino(threads, size)
    return MachinePeaks(threads, tuple(products), max(memory_rates))


def _measure_openvino(threads: int, size: int) -> Iterator[ProductRate]:
    """Measure OpenVINO's products of one size; quantizing the first matrix is part of the time."""
    matrix = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
    }
    for precision in ("float32", "int8"):
        model = _build_openvino_product(matrix, is_quantized=precision == "int8")
        request = shared_core().compile_model(model, "CPU", settings).create_infer_request()
        time_s = measure_shortest_time_s(partial(request.infer, [matrix]))
        yield ProductRate("openvino", precision, size, size**3 / time_s / 1e9)


def _build_openvino_product(matrix: npt.NDArray[np.float32], *, is_quantized: bool) -> Any:
    """Build an openvino.Model that multiplies its input by a constant matrix."""
    import openvino
    from openvino import opset13

    parameter = opset13.parameter(list(matrix.shape), np.float32)
    factors = [parameter, opset13.constant(matrix)]
    if is_quantized:
        ranges = (-_LIMIT - np.float32(1 / 32), _LIMIT) * 2
        factors = [opset13.fake_quantize(factor, *ranges, 256) for factor in factors]
    product = opset13.matmul(*factors, False, False)
    return openvino.Model([product], [parameter])
