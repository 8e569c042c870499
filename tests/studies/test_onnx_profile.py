"""The table of the ONNX profile lists the nodes of the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tinyvit.bench.latency.interleave import Timing
from tinyvit.studies import onnx_profile


@pytest.mark.parametrize("options", [[], ["--without"]], ids=["profiler", "reduced graphs"])
def test_table_lists_the_nodes_of_the_network(
    options: list[str], demo: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    assert onnx_profile.main([str(demo["onnx"]), "--rounds", "3", "--threads", "1", *options]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    header, *rows = (line.strip("| ").split(" | ") for line in lines)
    assert header[0] == "demo.onnx"
    counts = {row[0]: row[-1] for row in rows}
    assert counts["Gelu"] == "23"
    assert counts["LayerNormalization"] == "21"
    assert all(float(row[1].removesuffix(" |")) > 0 for row in rows)


def test_the_lowest_decile_of_a_few_noisy_runs_is_not_negative(
    demo: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")

    def return_noisy_times(runs: Mapping[str, object], rounds: int) -> dict[str, Timing]:
        return {name: Timing(((1.0,), (100.0,), (100.0,))[:rounds]) for name in runs}

    monkeypatch.setattr(onnx_profile, "run_interleaved", return_noisy_times)
    assert onnx_profile.main([str(demo["onnx"]), "--rounds", "3", "--without"]) == 0
    assert "| nothing | 20.80 |" in capsys.readouterr().out
