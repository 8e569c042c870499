"""Latency records of real files in real engines: what is in them, not how fast this machine is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

import pytest

from tinyvit.bench import cli
from tinyvit.bench.latency.cold_start import measure_cold_start
from tinyvit.bench.latency.measure import LatencyConfig, measure_latency
from tinyvit.bench.latency.roofline import measure_peak_rates, share_of_peak
from tinyvit.bench.latency.workload import OpenWorkload
from tinyvit.bench.record import LatencyResult, PeakRates, Record
from tinyvit.errors import ArtifactError, RequestError
from tinyvit.runtimes.registry import is_installed

QUICK = {"runs": 4, "seconds": 5.0, "cold": 0}


def test_one_file(demo: dict[str, Path]) -> None:
    record = measure_latency(
        [str(demo["onnx"])],
        LatencyConfig(threads=(1,), runs=4, seconds=5, cold=1, operators=True),
        name="desk",
    )
    (one,) = record.latency
    assert (record.device.name, record.kind, record.refusals, record.settings["timed"]) == (
        "desk",
        "latency",
        (),
        "network alone",
    )
    assert (one.subject.engine["engine"], one.subject.engine["threads"], one.subject.precision) == (
        "onnxruntime",
        1,
        "float32",
    )
    assert 0 < one.min_ms <= one.median_ms <= one.max_ms
    assert (one.samples >= 4, one.p90_ms, one.p99_bound_ms, one.ratio) == (True, None, None, None)
    assert sum(map(len, one.turns_ms)) == one.samples
    assert one.subject.int8_macs == 0
    assert one.work_gmacs == pytest.approx(
        1.25, abs=0.05
    )  # the variants' table has 1.255 with 1000 classes
    assert one.cold is not None
    assert 50e6 < (one.cold.peak_bytes or 50e6 + 1) < 1e9
    assert len(one.operators) > 3


def test_several_files_engines_threads_and_batches(demo: dict[str, Path]) -> None:
    engines = tuple(name for name in ("onnxruntime", "openvino") if is_installed(name))
    record = measure_latency(
        [str(demo["onnx"])],
        LatencyConfig(runtimes=engines, threads=(1, 2), batches=(1, 2), **QUICK),
    )  # type: ignore[arg-type]
    seen = [
        (one.subject.engine["engine"], one.subject.engine["threads"], one.batch)
        for one in record.latency
    ]
    assert seen == [
        (engine, threads, batch) for engine in engines for threads in (1, 2) for batch in (1, 2)
    ]
    first, *others = record.latency
    assert first.ratio is None
    for one in others:
        assert one.ratio is not None
        assert one.ratio.to == f"{demo['onnx']} (onnxruntime, threads 1, batch 1)"
        assert one.ratio.low <= one.ratio.median <= one.ratio.high


def test_the_whole_way_by_stage(demo: dict[str, Path], images: Path) -> None:
    from tinyvit.bench.latency.workload import read_images

    record = measure_latency(
        [str(demo["onnx"])], LatencyConfig(images=read_images(images), **QUICK)
    )  # type: ignore[arg-type]
    (one,) = record.latency
    assert list(one.stages_ms) == ["decode", "resize", "network", "top-k"]
    assert 0 < sum(one.stages_ms.values()) <= one.max_ms
    assert record.settings["timed"] == "from bytes to classes"


@pytest.mark.parametrize(
    ("scenario", "batch"), [("single-stream", 1), ("multi-stream", 8), ("offline", 8)]
)
def test_pictures_a_query(demo: dict[str, Path], scenario: str, batch: int) -> None:
    (one,) = measure_latency([str(demo["onnx"])], LatencyConfig(scenario=scenario, **QUICK)).latency  # type: ignore[arg-type]
    assert (one.scenario, one.batch) == (scenario, batch)
    assert one.images_per_s == pytest.approx(batch * 1e3 / one.mean_ms)


class KnownTimes:
    """A clock that only queries move, each by the next of these milliseconds, again and again."""

    def __init__(self, times_ms: Sequence[float]) -> None:
        self.seconds, self.times = 0.0, cycle(times_ms)

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def query(self, opened: OpenWorkload, pictures: int) -> Callable[[], object]:
        def run() -> None:
            self.seconds += next(self.times) / 1e3

        return run


@pytest.mark.parametrize(
    ("scenario", "rate", "batch"),
    [
        ("single-stream", None, 1),
        ("multi-stream", None, 8),
        ("offline", None, 8),
        ("server", 0.001, 1),
    ],
)
def test_known_times_are_measured_right_in_every_scenario(
    scenario: str,
    rate: float | None,
    batch: int,
    demo: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = KnownTimes(
        [10, *range(1, 101)]
    )  # the 10 is dealt out in warm-up and moves the rest about
    monkeypatch.setattr("tinyvit.bench.latency.measure.network_query", clock.query)
    plan = LatencyConfig(scenario=scenario, rate=rate, runs=1000, seconds=1e9, cold=0)  # type: ignore[arg-type]
    (one,) = measure_latency([str(demo["onnx"])], plan, clock=clock).latency
    assert one.samples >= 1000
    assert (one.min_ms, one.median_ms, one.mean_ms) == pytest.approx((1, 50, 50), abs=1.01)
    assert (one.p90_ms, one.p99_ms, one.max_ms) == pytest.approx((90, 99, 100), abs=1.01)
    assert one.p99_bound_ms == pytest.approx(100, abs=1.01)
    assert one.images_per_s == pytest.approx(rate or batch * 1e3 / one.mean_ms)


def test_a_server(demo: dict[str, Path]) -> None:
    (one,) = measure_latency(
        [str(demo["onnx"])], LatencyConfig(scenario="server", rate=20, **QUICK)
    ).latency  # type: ignore[arg-type]
    assert (one.runs_per_s, one.images_per_s, one.samples, one.ratio) == (20, 20, 4, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scenario": "server"},
        {"rate": 3.0},
        {"scenario": "server", "rate": 1.0, "p99_ms": 1.0},
        {"scenario": "server", "rate": 1.0, "batches": (2,)},
        {"scenario": "server", "rate": 0.0},
        {"runs": 0},
        {"threads": (0,)},
        {"seconds": float("nan")},
    ],
)
def test_plans_that_contradict_themselves(wrong: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        LatencyConfig(**wrong)  # type: ignore[arg-type]


def test_what_cannot_be_measured_is_said_and_the_rest_measured(
    demo: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    command = [
        "latency",
        str(tmp_path / "bad.onnx"),
        str(demo["onnx"]),
        "--runs",
        "4",
        "--cold",
        "0",
        "--threads",
        "1",
        "--json",
    ]
    assert cli.main(command) == 1
    out, err = capsys.readouterr()
    record = Record.from_json(out, "stdout")
    assert len(record.results) == 1
    assert "bad.onnx" in record.refusals[0]
    assert err.startswith("error: ")
    assert json.loads(out)["results"][0]["artifact"] == str(demo["onnx"])


def test_nothing_to_measure(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError,
        match=r"none.onnx cannot be read \(No such file or directory\): check the path",
    ):
        measure_latency([str(tmp_path / "none.onnx")], LatencyConfig())
    with pytest.raises(
        RequestError, match=r"none of 2 can be measured; the first: .*a.onnx cannot be read"
    ):
        measure_latency([str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")], LatencyConfig())


def test_the_reference_evaluator_is_not_timed(demo: dict[str, Path]) -> None:
    with pytest.raises(RequestError, match="its time says nothing of a device"):
        measure_latency([str(demo["onnx"])], LatencyConfig(runtimes=("coreml-reference",)))


def test_a_table_for_people(demo: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.main(
            [
                "latency",
                str(demo["onnx"]),
                "--runs",
                "4",
                "--cold",
                "1",
                "--threads",
                "1",
                "--operators",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "| demo.onnx | onnxruntime" in out
    assert "withheld: " in out
    assert "new process: import" in out
    assert "Gemm" in out


def test_a_cold_start_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    with pytest.raises(ArtifactError, match=r"cannot run .*bad.onnx \(.*damaged"):
        measure_cold_start(str(tmp_path / "bad.onnx"), [], 1)


def test_the_share_of_the_roofline(demo: dict[str, Path]) -> None:
    (one,) = measure_latency([str(demo["onnx"])], LatencyConfig(**QUICK)).latency  # type: ignore[arg-type]
    at = LatencyResult.__dataclass_fields__.keys()
    known = LatencyResult(
        **{**{name: getattr(one, name) for name in at}, "median_ms": 20.0, "work_gmacs": 1.0}
    )
    assert share_of_peak(known, PeakRates(1, 100, 400, 1000)) == pytest.approx(0.5)
    assert share_of_peak(
        known, PeakRates(1, 1e9, 1e9, known.subject.size_bytes / 1e9 / 0.01)
    ) == pytest.approx(0.5)


def test_integers_are_reached_faster_or_as_fast() -> None:
    found = measure_peak_rates(1)
    assert min(found.float32_gmacs, found.int8_gmacs, found.memory_gbytes) > 0.1
