"""The study of encoders measures files in turns, and compares them with the stock export."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.recorded_progress import RecordedProgress
from tests.helpers.small_classifiers import hash_content, save_onnx
from tests.helpers.small_encoders import EMBEDDING, make_encoder_manifest, make_encoder_network
from tinyvit.bench.latency.percentiles import RatioInterval
from tinyvit.manifest_parts import Parity, Quantization
from tinyvit.studies.encoder_rows import (
    EncoderFile,
    EncoderRow,
    describe_fidelity,
    format_table,
    measure_files,
)


@pytest.fixture
def own_and_stock(tmp_path: Path) -> tuple[Path, Path]:
    """An encoder with a manifest, and the same network as another tool would export it."""
    manifest = make_encoder_manifest((EMBEDDING,), 1)
    stock = save_onnx(tmp_path / "stock.onnx", make_encoder_network(manifest), None)
    parity = Parity(4.4e-6, "the checkpoint's network in PyTorch", "onnxruntime")
    manifest = replace(manifest, content_sha256=hash_content(stock), parity=parity)
    return save_onnx(tmp_path / "own.onnx", make_encoder_network(manifest), manifest), stock


def test_files_are_compared_with_the_stock_export_in_the_same_engine(
    own_and_stock: tuple[Path, Path],
) -> None:
    own, stock = own_and_stock
    files = [EncoderFile(stock, "onnxruntime", is_stock=True), EncoderFile(own)]
    stock_row, own_row = measure_files(files, 6, RecordedProgress())
    assert (stock_row.name, stock_row.ratio, stock_row.fidelity) == ("stock.onnx", None, "")
    assert own_row.engine.startswith("onnxruntime ")
    assert own_row.size_bytes == own.stat().st_size
    assert own_row.ratio is not None
    assert own_row.ratio.low is not None
    assert own_row.peak_bytes is not None
    assert own_row.fidelity == "difference 4e-06"


def test_int8_is_described_by_its_similarity() -> None:
    record = Quantization(
        method="m",
        calibration_sha256="0" * 64,
        calibration_count=32,
        recipe_sha256="0" * 64,
        weight_bits=7,
        required_cpu_feature="any",
        cosine=0.99871,
        neighbor_agreement=84.7,
        float_units=("neck.0",),
    )
    manifest = replace(make_encoder_manifest((EMBEDDING,), 1), quantization=record)
    assert describe_fidelity(manifest) == "cosine 0.9987, 85% of neighbors, 1 unit in float32"
    assert describe_fidelity(None) == ""


def test_the_table_has_a_row_for_each_file() -> None:
    ratio = RatioInterval(0.914, 0.9, 0.93)
    rows = [
        EncoderRow("stock.onnx", "onnxruntime 1", 28_000_000, 20.0, None, None, ""),
        EncoderRow("own.onnx", "onnxruntime 1", 23_200_000, 18.3, ratio, 2**27, "difference 4e-06"),
    ]
    _, _, stock, own = format_table(rows)
    assert stock == "| stock.onnx | onnxruntime 1 | 28.0 | 20.0 |  |  |  |"
    assert own == (
        "| own.onnx | onnxruntime 1 | 23.2 | 18.3 | 0.91 (0.90 to 0.93) | 128 | difference 4e-06 |"
    )


@pytest.mark.slow
def test_the_page_has_a_table_for_each_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    if importlib.util.find_spec("timm") is None:
        pytest.skip("needs timm and torchvision, which are for this comparison only")
    from tests.helpers.random_images import save_random_images
    from tinyvit.studies import encoders

    photos = save_random_images(tmp_path / "photos", range(40))
    command = ["--calib-data", str(photos), "--calib-count", "32", "--img-size", "64"]
    command += ["--target", "onnx", "--rounds", "3", "-o", str(tmp_path / "page")]
    assert encoders.main(command) == 0
    page = Path(capsys.readouterr().out.strip()).read_text()
    for kind in ("embedding", "features"):
        assert f"## Output {kind}, TinyViT-5M, 64 pixels" in page
        assert f"| stock.{kind}.onnx | onnxruntime" in page
        assert f"| {kind}.int8.onnx | onnxruntime" in page
    assert page.count("| cosine 0.99") == 2
