"""The project's own figures: what the page says is what the records say. The measuring itself is run by people."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from tests.bench.report.records import BOARD, DESK, accuracy, judged, latency, timed
from tinyvit.bench import machine
from tinyvit.bench.record import ReferenceComparison
from tinyvit.errors import MissingDependencyError
from tinyvit.studies import figures, peers


def test_the_kind_of_a_machine() -> None:
    assert figures.kind(DESK) == "x86-64-avx2"
    assert figures.kind(BOARD) == "aarch64-dotprod"


def test_records_that_are_there_are_not_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    val = tmp_path / "val"
    (tmp_path / "demo.onnx").touch()
    (tmp_path / "demo.int8.onnx").touch()
    records = tmp_path / "records"
    records.mkdir()
    for threads, ms in ((1, 30), (2, 17)):
        record = timed(
            latency("x/demo.onnx", ms),
            latency("x/demo.int8.onnx", ms * 0.6),
            warnings=("noisy", "demo.onnx became faster"),
        )
        (records / f"latency-{threads}.json").write_text(record.to_json())
    right = judged(
        accuracy("x/demo.onnx", 852),
        accuracy(
            "x/demo.int8.onnx", 849, against=ReferenceComparison("demo.onnx", 99.3, 5, 2, 0.45)
        ),
    )
    (records / "accuracy.json").write_text(right.to_json())
    command = [
        "--calib-data",
        str(val),
        "--val-data",
        str(val),
        "--artifacts",
        str(tmp_path),
        "--records",
        str(records),
        "-o",
        str(tmp_path / "out"),
    ]
    assert figures.main(command) == 0
    assert "measuring" not in capsys.readouterr().err
    page = (tmp_path / "out" / "x86-64-avx2.md").read_text()
    assert "| `onnx` | 84.9 (82.5 to 87.0) | 99.3% | 1.00 | 0.6" in page
    assert "- noisy\n" in page
    assert "became" not in page
    assert "ours / stock" not in page  # only with --peers


def test_the_pair_is_one_network(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    if importlib.util.find_spec("timm") is None:
        pytest.skip("needs timm and torchvision, which are for this comparison only")
    stock, ours = peers.make_pair("tiny_vit_5m_224", tmp_path)
    assert stock.stat().st_size > ours.stat().st_size / 2


@pytest.mark.parametrize(
    ("package", "remedy"), [("timm", "pip install timm"), ("torch", r"tinyvit-edge\[export\]")]
)
def test_what_is_missing_is_named_before_anything_is_made(
    package: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=remedy):
        peers.make_pair("tiny_vit_5m_224", tmp_path)


def test_machine_facts_are_one_line() -> None:
    assert "\n" not in machine.describe_cpu()
    assert "cores" in machine.describe_cpu()
