"""Latency records of real artifacts in real engines have the right content."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.clocks import FakeClock
from tests.helpers.small_classifiers import build_classifier
from tinyvit.bench import cli
from tinyvit.bench.latency import measure
from tinyvit.bench.latency.combinations import resolve_thread_count
from tinyvit.bench.latency.config import NETWORK_ALONE, LatencyConfig
from tinyvit.bench.latency.measure import measure_latency
from tinyvit.bench.latency.open_artifact import OpenArtifact
from tinyvit.bench.latency.queries import Query, read_images
from tinyvit.bench.record import PeakRates, Record
from tinyvit.errors import ArtifactError, RequestError
from tinyvit.runtimes.base import RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.registry import is_installed


def quick_config(**options: Any) -> LatencyConfig:
    return LatencyConfig(**{"runs": 4, "seconds": 5.0, "cold_starts": 0, **options})


def test_record_describes_one_artifact(demo: dict[str, Path]) -> None:
    record = measure_latency(
        [str(demo["onnx"])],
        quick_config(threads=(1,), cold_starts=1, operators=True),
        device_name="desk",
    )
    assert record.kind == "latency"
    assert record.device.name == "desk"
    assert record.failures == ()
    assert record.settings["timed"] == NETWORK_ALONE
    (result,) = record.latency
    engine = result.artifact.engine
    assert (engine.engine, engine.threads) == ("onnxruntime", 1)
    assert result.artifact.precision == "float32"
    assert 0 < (result.min_ms or 0) <= result.median_ms <= (result.max_ms or 0)
    assert result.sample_count >= 4
    assert (result.p90_ms, result.p99_bound_ms, result.ratio) == (None, None, None)
    assert sum(map(len, result.turns_ms)) == result.sample_count
    assert result.artifact.int8_mac_share == 0
    # The table of variants states 1.255 with 1000 classes.
    assert result.gmacs_per_image == pytest.approx(1.25, abs=0.05)
    assert result.cold_start is not None
    assert 50e6 < (result.cold_start.peak_memory_bytes or 50e6 + 1) < 1e9
    assert len(result.operators) > 3


def test_every_combination_is_compared_with_the_first(small_classifier: str) -> None:
    engines = tuple(name for name in ("onnxruntime", "openvino") if is_installed(name))
    record = measure_latency(
        [small_classifier], quick_config(engine_names=engines, threads=(1, 2), batches=(1, 2))
    )
    combinations = [
        (result.artifact.engine.engine, result.artifact.engine.threads, result.batch)
        for result in record.latency
    ]
    assert combinations == [
        (engine, threads, batch) for engine in engines for threads in (1, 2) for batch in (1, 2)
    ]
    assert record.latency[0].ratio is None
    for result in record.latency[1:]:
        assert result.ratio is not None
        assert result.ratio.reference == f"{small_classifier} (onnxruntime, threads 1, batch 1)"
        # A single turn of four queries gives no interval.
        assert (result.ratio.low, result.ratio.high) == (None, None)


def test_end_to_end_query_is_timed_by_stages(small_classifier: str, images: Path) -> None:
    record = measure_latency([small_classifier], quick_config(images=read_images(images)))
    (result,) = record.latency
    assert list(result.stages_ms) == ["decode", "resize", "network", "top-k"]
    assert 0 < sum(result.stages_ms.values()) <= (result.max_ms or 0)
    assert record.settings["timed"] == "from image bytes to classes"


@pytest.mark.parametrize(
    ("scenario", "batch"), [("single-stream", 1), ("multi-stream", 8), ("offline", 8)]
)
def test_a_query_has_as_many_images_as_the_scenario_requires(
    small_classifier: str, scenario: str, batch: int
) -> None:
    (result,) = measure_latency([small_classifier], quick_config(scenario=scenario)).latency
    assert (result.scenario, result.batch) == (scenario, batch)
    assert result.images_per_s == pytest.approx(batch * 1e3 / (result.mean_ms or 0))


@pytest.mark.parametrize(
    ("scenario", "rate", "batch"),
    [
        ("single-stream", None, 1),
        ("multi-stream", None, 8),
        ("offline", None, 8),
        ("server", 0.001, 1),
    ],
)
def test_known_times_are_measured_exactly(
    scenario: str,
    rate: float | None,
    batch: int,
    small_classifier: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock()
    # 101 times, so that the queries of the warm-up do not always take the same of them.
    times_ms = cycle([10, *range(1, 101)])

    def make_query(open_artifact: OpenArtifact, images_per_query: int) -> Query:
        return clock.make_query(times_ms)

    monkeypatch.setattr("tinyvit.bench.latency.combinations.make_network_query", make_query)
    config = quick_config(scenario=scenario, rate=rate, runs=1000, seconds=1e9)
    (result,) = measure_latency([small_classifier], config, clock=clock).latency
    assert result.sample_count >= 1000
    measured = (result.min_ms, result.median_ms, result.mean_ms)
    assert measured == pytest.approx((1, 50, 50), abs=1.01)
    measured = (result.p90_ms, result.p99_ms, result.max_ms)
    assert measured == pytest.approx((90, 99, 100), abs=1.01)
    assert result.p99_bound_ms == pytest.approx(100, abs=1.01)
    assert result.images_per_s == pytest.approx(rate or batch * 1e3 / (result.mean_ms or 0))


def test_server_result_states_the_arrival_rate(small_classifier: str) -> None:
    (result,) = measure_latency(
        [small_classifier], quick_config(scenario="server", rate=20)
    ).latency
    assert (result.queries_per_s, result.images_per_s, result.sample_count) == (20, 20, 4)
    assert result.ratio is None


def test_limit_that_no_rate_meets_is_an_error(small_classifier: str) -> None:
    with pytest.raises(
        RequestError,
        match=r"exceeds 0\.0001 ms at every arrival rate that was tried: give a higher",
    ):
        measure_latency([small_classifier], quick_config(scenario="server", p99_ms=1e-4))


def test_thread_count_of_an_engine_that_does_not_report_it() -> None:
    info = RuntimeInfo("tensorrt", "10", "GPU", None, "float32")
    assert resolve_thread_count(RuntimeOptions(), info, core_count=6) == 6
    assert resolve_thread_count(RuntimeOptions(threads=2), info, core_count=6) == 2
    assert (
        resolve_thread_count(
            RuntimeOptions(), RuntimeInfo("x", "1", "cpu", 3, "float32"), core_count=6
        )
        == 3
    )


def test_peak_rates_are_measured_with_the_threads_that_the_engine_uses(
    small_classifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default, engines use one thread per physical core, and a core may have two threads."""
    monkeypatch.setattr("tinyvit.runtimes.engines.onnxruntime.count_physical_cores", lambda: 1)
    monkeypatch.setattr("tinyvit.bench.machine.count_cores", lambda: 2)
    thread_counts: list[int] = []

    def measure_peak_rates(threads: int) -> PeakRates:
        thread_counts.append(threads)
        return PeakRates(threads, 1.0, 1.0, 1.0)

    monkeypatch.setattr(measure, "measure_peak_rates", measure_peak_rates)
    record = measure_latency([small_classifier], quick_config(roofline=True))
    assert record.latency[0].artifact.engine.threads == 1
    assert thread_counts == [1]


def test_failures_are_reported_and_the_rest_is_measured(
    small_classifier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"bad")
    options = ["--runs", "4", "--cold", "0", "--threads", "1", "--json"]
    assert cli.main(["latency", str(bad), small_classifier, *options]) == 1
    out, err = capsys.readouterr()
    record = Record.from_json(out, "stdout")
    assert len(record.latency) == 1
    assert "bad.onnx" in record.failures[0]
    assert err.startswith("error: ")
    assert json.loads(out)["results"][0]["artifact"]["path"] == small_classifier


def test_nothing_to_measure_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError,
        match=r"none.onnx cannot be read \(No such file or directory\): check the path",
    ):
        measure_latency([str(tmp_path / "none.onnx")], LatencyConfig())
    with pytest.raises(RequestError, match=r"all 2 measurements failed.*a.onnx cannot be read"):
        measure_latency([str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")], LatencyConfig())


def test_reference_evaluator_is_not_timed(small_classifier: str) -> None:
    with pytest.raises(RequestError, match="its latency is not that of a device"):
        measure_latency([small_classifier], LatencyConfig(engine_names=("coreml-reference",)))


def test_batch_must_be_a_multiple_of_a_fixed_batch(tmp_path: Path) -> None:
    path = str(build_classifier(tmp_path, ".onnx", "host", 2, with_manifest=True))
    with pytest.raises(RequestError, match=r"--batch is 3, but .*test.onnx takes 2 images per run"):
        measure_latency([path], quick_config(batches=(3,)))
    results = measure_latency([path], quick_config(batches=(2, 4))).latency
    assert [result.batch for result in results] == [2, 4]


def test_multiply_accumulates_are_those_of_one_image(tmp_path: Path) -> None:
    by_batch = {}
    for batch in (1, 4):
        folder = tmp_path / str(batch)
        folder.mkdir()
        path = str(build_classifier(folder, ".onnx", "host", batch, with_manifest=True))
        (result,) = measure_latency([path], quick_config(threads=(1,))).latency
        by_batch[batch] = result.gmacs_per_image
    assert by_batch[1]
    assert by_batch[4] == pytest.approx(by_batch[1])


def test_engines_that_cannot_open_the_artifact_are_named(small_classifier: str) -> None:
    config = quick_config(engine_names=("litert", "executorch"))
    with pytest.raises(RequestError, match="none of the engines litert, executorch can open it"):
        measure_latency([small_classifier], config)


def test_text_report_states_the_results(
    small_classifier: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--runs", "4", "--cold", "1", "--threads", "1", "--operators"]
    assert cli.main(["latency", small_classifier, *options]) == 0
    out = capsys.readouterr().out
    assert "| test.onnx | onnxruntime" in out
    assert "| withheld: needs 64 queries, has 4 | withheld: needs 662 queries, has 4 |" in out
    assert "cold start: import" in out
    assert "MatMul" in out
