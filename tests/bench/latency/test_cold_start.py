"""A cold start is measured in a new process, and its failure is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyvit.bench.latency.cold_start import measure_cold_start
from tinyvit.errors import ArtifactError


def test_failing_process_is_explained_by_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    with pytest.raises(ArtifactError, match=r"cannot run .*bad.onnx \(.*damaged"):
        measure_cold_start(str(tmp_path / "bad.onnx"), [], 1)


def test_times_and_memory_are_plausible(small_classifier: str) -> None:
    cold_start = measure_cold_start(small_classifier, ["--threads", "1"], 1)
    assert min(cold_start.import_ms, cold_start.load_ms, cold_start.first_inference_ms) > 0
    assert 20e6 < (cold_start.peak_memory_bytes or 20e6 + 1) < 1e9


def test_files_of_the_current_folder_are_neither_imported_nor_options(
    small_classifier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("json", "numpy", "onnxruntime", "tinyvit"):
        (tmp_path / f"{module}.py").write_text("open('pwned', 'w').close()\n")
    (tmp_path / "-x $(id).onnx").write_bytes(Path(small_classifier).read_bytes())
    monkeypatch.chdir(tmp_path)
    assert measure_cold_start("-x $(id).onnx", ["--threads", "1"], 1).load_ms > 0
    assert not (tmp_path / "pwned").exists()


def test_foreign_operators_run_only_on_request(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    # An image classifier needs no Sin.
    nodes = [node("Sin", ["image"], ["wave"]), node("GlobalAveragePool", ["wave"], ["mean"])]
    nodes.append(node("Flatten", ["mean"], ["logits"]))
    graph = onnx.helper.make_graph(
        nodes, "graph", [info("image", 1, [1, 3, 8, 8])], [info("logits", 1, [1, 3])]
    )
    imports = [onnx.helper.make_opsetid("", 19)]
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=imports, ir_version=9), tmp_path / "a.onnx"
    )
    with pytest.raises(ArtifactError, match=r"do not need \(Sin\)"):
        measure_cold_start(str(tmp_path / "a.onnx"), [], 1)
    arguments = ["--allow-foreign-operators"]
    assert measure_cold_start(str(tmp_path / "a.onnx"), arguments, 1).first_inference_ms > 0
