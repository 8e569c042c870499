"""The study divides the time of files into kinds of work, and computes bounds from rates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.onnx_graphs import save_linear_layers
from tests.helpers.records import DESK
from tinyvit.bench.profilers import ExecutedNode
from tinyvit.studies.engine_bounds import EngineTimes, compute_bounds
from tinyvit.studies.engine_limits import main, measure_file
from tinyvit.studies.kernel_kinds import (
    ELEMENTWISE,
    MOVEMENT,
    PRODUCTS,
    QUANTIZATION,
    add_times,
    count_output_bytes,
    find_kind,
)
from tinyvit.studies.limits_page import LimitsRecord, format_page, make_record
from tinyvit.studies.machine_peaks import MachinePeaks, ProductRate, measure_machine_peaks

PEAKS = MachinePeaks(
    1,
    (
        ProductRate("onnxruntime", "float32", 256, 100.0),
        ProductRate("onnxruntime", "int8", 256, 300.0),
        ProductRate("openvino", "float32", 256, 90.0),
        ProductRate("openvino", "int8", 256, 400.0),
    ),
    memory_gb_per_s=10.0,
)
TIMES = EngineTimes(
    "demo.int8.onnx",
    "onnxruntime 1",
    1,
    wall_ms=10.0,
    size_bytes=5_000_000,
    kind_ms={PRODUCTS: 5.0, ELEMENTWISE: 3.0, QUANTIZATION: 1.0, MOVEMENT: 0.5},
    integer_macs=800_000_000,
    float_macs=100_000_000,
    output_bytes=20_000_000,
)


def make_node(name: str, macs: int = 0, output_bytes: int | None = None) -> ExecutedNode:
    """Make a node that took 1 ms."""
    return ExecutedNode(name, macs, is_integer=False, time_ms=1.0, output_bytes=output_bytes)


@pytest.mark.parametrize(
    ("kernel_name", "kind"),
    [
        ("Gelu", ELEMENTWISE),
        ("Softmax (NC, F32)", ELEMENTWISE),
        ("Subgraph jit_avx512_f32", ELEMENTWISE),
        ("MVN jit_avx512_f32", ELEMENTWISE),
        ("Invalid Unary Op", ELEMENTWISE),
        ("QuantizeLinear", QUANTIZATION),
        ("DequantizeLinear", QUANTIZATION),
        ("Convert (NC, QS8, QC8)", QUANTIZATION),
        ("DEQUANTIZE", QUANTIZATION),
        ("Transpose (ND, X32) Transpose", MOVEMENT),
        ("Static Reshape (NC)", MOVEMENT),
        ("ReorderInput", MOVEMENT),
        ("Reorder jit_uni_f32", MOVEMENT),
        ("Constant Pad (ND, X32)", MOVEMENT),
        ("STRIDED_SLICE", MOVEMENT),
        ("Concatenation ref_any", MOVEMENT),
    ],
)
def test_kernels_of_all_engines_have_a_kind(kernel_name: str, kind: str) -> None:
    assert find_kind(make_node(kernel_name)) == kind
    assert find_kind(make_node(kernel_name, macs=1)) == PRODUCTS


def test_times_are_added_by_kind() -> None:
    nodes = [make_node("Gemm", macs=5), make_node("Gelu"), make_node("Add")]
    assert add_times(nodes) == {PRODUCTS: 1.0, ELEMENTWISE: 2.0, QUANTIZATION: 0.0, MOVEMENT: 0.0}


def test_a_change_of_the_shape_writes_nothing() -> None:
    nodes = [make_node("Gelu", output_bytes=7), make_node("Reshape", output_bytes=7)]
    assert count_output_bytes(nodes) == 7
    assert count_output_bytes([*nodes, make_node("Transpose")]) is None


def test_bounds_are_from_the_fastest_products() -> None:
    bounds = compute_bounds(TIMES, PEAKS)
    assert bounds.products_ms == pytest.approx(800 / 400 + 100 / 100)
    assert bounds.weights_ms == pytest.approx(0.5)
    assert bounds.traffic_ms == pytest.approx((5 + 2 * 20) / 10)
    assert bounds.lowest_ms == bounds.products_ms
    assert TIMES.dispatch_ms == pytest.approx(0.5)


def test_weights_are_the_bound_of_a_network_with_few_products() -> None:
    times = EngineTimes("a", "b", 1, 1.0, 10**9, {}, integer_macs=0, float_macs=1)
    assert compute_bounds(times, PEAKS).lowest_ms == pytest.approx(100)


def test_without_a_profile_nothing_is_claimed() -> None:
    times = EngineTimes("a.engine", "tensorrt", 1, 1.0, 10**6, note="no profile of tensorrt")
    bounds = compute_bounds(times, PEAKS)
    assert (bounds.products_ms, bounds.lowest_ms, bounds.traffic_ms) == (None, None, None)
    assert times.dispatch_ms is None
    record = LimitsRecord("2026-01-01", DESK, (PEAKS,), (times,))
    assert format_page(record)[-1] == (
        "| a.engine | tensorrt |  | 1.00 |  |  |  |  |  |  |  |  | no profile of tensorrt |"
    )


def test_the_page_has_a_row_and_the_best_rates() -> None:
    record = LimitsRecord("2026-01-01", DESK, (PEAKS,), (TIMES,), ("noisy",))
    page = format_page(record)
    assert "| 1 | int8 product | openvino | 256 | **400** |" in page
    assert "| 1 | int8 product | onnxruntime | 256 | 300 |" in page
    assert "- noisy" in page
    assert "On 1 thread, a run takes 3.33 to 3.33 times the bound in int8." in page
    assert page[-1] == (
        "| demo.int8.onnx | onnxruntime 1 | 89% | 10.00 | 5.00 | 3.00 | 1.00 | 0.50 | 0.50 | 3.00"
        " | 3.33 | 4.50 |  |"
    )
    row = make_record(record)["rows"][0]
    assert row["dispatch_ms"] == pytest.approx(0.5)
    assert row["bounds"]["products_ms"] == pytest.approx(3.0)
    assert "name" not in make_record(record)["device"]


def test_the_higher_rates_of_two_measurements_count() -> None:
    slow = MachinePeaks(1, (ProductRate("onnxruntime", "int8", 256, 100.0),), 20.0)
    fast = MachinePeaks(1, (ProductRate("onnxruntime", "int8", 256, 300.0),), 10.0)
    assert slow.join(fast) == MachinePeaks(1, fast.products, 20.0)


def test_peaks_are_measured_in_each_installed_engine() -> None:
    pytest.importorskip("openvino")
    peaks = measure_machine_peaks(1, (64,))
    assert [(rate.engine, rate.precision) for rate in peaks.products] == [
        ("onnxruntime", "float32"),
        ("onnxruntime", "int8"),
        ("openvino", "float32"),
        ("openvino", "int8"),
    ]
    assert all(rate.gmacs_per_s > 0 for rate in peaks.products)
    assert peaks.memory_gb_per_s > 0


def test_integer_products_are_counted(tmp_path: Path) -> None:
    path = save_linear_layers(tmp_path / "a.onnx", has_float_bias=True)
    times = measure_file(str(path), 1, rounds=3, seconds=1)
    assert (times.integer_macs, times.float_macs) == (64 * 48, 48 * 10)
    assert times.wall_ms is not None
    assert times.kind_ms[PRODUCTS] > 0
    assert times.output_bytes is not None
    assert times.output_bytes >= 48 + 10 * 4  # the int8 output of the first layer, the result
    assert times.note == ""


def test_a_file_that_cannot_be_run_has_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"no network")
    times = measure_file(str(path), 1, rounds=1, seconds=1)
    assert times.wall_ms is None
    assert times.note.startswith("not measured: ")


def test_every_engine_has_a_row(
    demo_64_artifacts: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("onnx", "ort", "openvino", "executorch", "litert")
    targets = [name for name in names if name in demo_64_artifacts]
    files = [str(demo_64_artifacts[name].path) for name in targets]
    settings = ["--rounds", "3", "--seconds", "1", "--matrix-size", "64", "--threads", "1", "2"]
    assert main([*files, *settings, "-o", str(tmp_path)]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page.read_text().count("|---|") >= 3
    rows = json.loads(page.with_suffix(".json").read_text())["rows"]
    assert len(rows) == 2 * len(targets)
    for target, row in zip(targets * 2, rows):
        assert row["wall_ms"] > 0
        assert row["float_macs"] > 0
        is_litert_with_two = target == "litert" and row["threads"] == 2
        assert bool(row["kind_ms"]) != is_litert_with_two
        assert ("one thread only" in row["note"]) == is_litert_with_two
        assert ("no sizes" in row["note"]) == (target in ("executorch", "litert"))
