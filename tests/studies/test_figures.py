"""The page of figures states what the records state; the tests measure nothing."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.install_commands import install_command
from tests.helpers.records import (
    BOARD,
    DESK,
    make_accuracy,
    make_accuracy_record,
    make_latency,
    make_latency_record,
)
from tinyvit.bench import machine
from tinyvit.bench.record import ReferenceComparison
from tinyvit.errors import MissingDependencyError
from tinyvit.studies import figures, peers


def test_the_kind_of_a_machine_is_named() -> None:
    assert figures.name_machine_kind(DESK) == "x86-64-avx2"
    assert figures.name_machine_kind(BOARD) == "aarch64-dotprod"


@pytest.fixture
def records_folder(tmp_path: Path) -> Path:
    """The records of a complete run without peers."""
    folder = tmp_path / "records"
    folder.mkdir()
    for threads, ms in ((1, 30), (2, 17)):
        record = make_latency_record(
            make_latency("x/demo.onnx", ms),
            make_latency("x/demo.int8.onnx", ms * 0.6),
            warnings=(
                "noisy",
                "demo.onnx became faster",
                "the latency of demo.onnx had not settled after 300 warm-up queries",
            ),
        )
        (folder / f"latency-{threads}.json").write_text(record.to_json())
    comparison = ReferenceComparison("demo.onnx", 99.3, 5, 2, 0.45)
    accuracy = make_accuracy_record(
        make_accuracy("x/demo.onnx", 852),
        make_accuracy("x/demo.int8.onnx", 849, reference=comparison),
        make_accuracy("x/no-images/demo.int8.onnx", 847, reference=replace(comparison, worse=8)),
    )
    (folder / "accuracy.json").write_text(accuracy.to_json())
    return folder


def test_existing_records_are_not_measured_again(
    records_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo.onnx").touch()
    (tmp_path / "demo.int8.onnx").touch()
    (tmp_path / "no-images").mkdir()
    (tmp_path / "no-images" / "demo.int8.onnx").touch()
    data = ["--calib-data", str(tmp_path / "val"), "--val-data", str(tmp_path / "val")]
    folders = ["--artifacts", str(tmp_path), "--records", str(records_folder)]
    assert figures.main([*data, *folders, "-o", str(tmp_path / "out")]) == 0
    assert "measuring" not in capsys.readouterr().err
    page = (tmp_path / "out" / "x86-64-avx2.md").read_text()
    assert "| `onnx` | 84.9 (82.4 to 87.4) | 99.3% | 1.00 | 0.6" in page
    assert "| demo.int8.onnx | 84.7 (82.2 to 87.2) | 99.3% | 8 / 2 |" in page
    assert "- noisy\n" in page
    assert "became" not in page
    assert "settled" not in page
    assert "this project / stock" not in page  # only with --peers


def test_both_exports_of_a_pair_are_the_same_network(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    if importlib.util.find_spec("timm") is None:
        pytest.skip("needs timm and torchvision, which are for this comparison only")
    stock, own = peers.export_pair("tiny_vit_5m_224", tmp_path)
    assert stock.stat().st_size > own.stat().st_size / 2


@pytest.mark.parametrize(
    ("package", "remedy"),
    [("timm", "pip install timm"), ("torch", re.escape(install_command("export")))],
)
def test_a_missing_package_is_named_before_anything_is_exported(
    package: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=remedy):
        peers.export_pair("tiny_vit_5m_224", tmp_path)


def test_the_description_of_the_cpu_is_one_line() -> None:
    assert "\n" not in machine.describe_cpu()
    assert "cores" in machine.describe_cpu()
