import pytest

from tinyvit.studies import profile


@pytest.mark.parametrize("extra", [[], ["--without"]], ids=["profiler", "taken out"])
def test_the_table_has_the_networks_nodes(extra, demo, capsys):
    pytest.importorskip("onnx")
    assert profile.main([str(demo["onnx"]), "--rounds", "3", *extra]) == 0
    rows = [
        line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")
    ]
    counts = {row[0].strip("| "): row[-1].strip(" |") for row in rows}
    assert counts["Gelu"] == "23"
    assert counts["LayerNormalization"] == "21"
    assert all(float(row[1]) > 0 for row in rows[1:])
