"""Other tools beside ours: what they print is understood, and one that is not there is said with where it is from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tinyvit.bench.artifact_info import Refusals
from tinyvit.bench.latency.baselines import BENCHMARK_TOOLS, measure_baselines
from tinyvit.bench.latency.workload import OpenWorkload, open_workload
from tinyvit.runtimes.base import RuntimeOptions

SAID = {
    "openvino": (
        "[ INFO ] Latency:\n[ INFO ]    Median:        18.99 ms\n[ INFO ]    Average:       19.25 ms\n",
        18.99,
    ),
    "litert": (
        '{\n "latency": {\n  "avg_ms": 6.79,\n  "median_ms": 6.77,\n  "std_ms": 0.1\n }\n}',
        6.77,
    ),
    "onnxruntime": (
        "Min Latency: 0.0164 s\nP50 Latency: 0.0171201 s\nP90 Latency: 0.0192 s\n",
        17.1201,
    ),
    "tensorrt": (
        "[I] Enqueue Time: min = 0.1 ms, median = 0.2 ms\n[I] Latency: min = 1.1 ms, max = 2 ms, mean = 1.2 ms, median = 1.25 ms, x\n",
        1.25,
    ),
}


@pytest.mark.parametrize("engine", sorted(BENCHMARK_TOOLS))
def test_what_a_tool_prints_is_understood(engine: str) -> None:
    said, median = SAID[engine]
    found = BENCHMARK_TOOLS[engine].median.search(said)
    assert found is not None
    assert float(found[1]) * BENCHMARK_TOOLS[engine].unit_ms == pytest.approx(median)


@pytest.fixture
def opened(demo: dict[str, Path]) -> Iterator[OpenWorkload]:
    with open_workload(str(demo["onnx"]), None, RuntimeOptions(threads=1)) as one:
        yield one


@pytest.mark.parametrize("name", ["tool", "timm"])
def test_a_rival_that_is_not_there_is_named_with_its_source(
    name: str, opened: OpenWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    refusals = Refusals()
    assert measure_baselines([name], opened, 1, refusals) == []
    (line,) = refusals.lines
    assert ("build onnxruntime" in line) if name == "tool" else ("pip install timm" in line)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["openvino"])
def test_an_engines_own_tool_is_run(engine: str, demo: dict[str, Path]) -> None:
    if shutil.which(BENCHMARK_TOOLS[engine].name) is None:
        pytest.skip(f"{BENCHMARK_TOOLS[engine].name} is not on PATH")
    with open_workload(str(demo[engine]), None, RuntimeOptions(threads=1)) as one:
        (peer,) = measure_baselines(["tool"], one, 1, refusals := Refusals())
    assert refusals.lines == []
    assert peer.median_ms > 0
    assert peer.ratio.low <= peer.ratio.median <= peer.ratio.high
