"""The table of the ONNX profile lists the nodes of the network."""

from __future__ import annotations

from pathlib import Path

import pytest

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
