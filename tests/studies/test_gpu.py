"""The study of a GPU, run on the CPU with tiny sizes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from tinyvit.errors import RequestError
from tinyvit.studies.gpu.__main__ import main
from tinyvit.studies.gpu.page import main as write_page
from tinyvit.studies.gpu.record import NO_TIME, Part, Record, round_floats
from tinyvit.studies.gpu.settings import PARTS, full_settings
from tinyvit.studies.gpu.storing import RateMeter
from tinyvit.studies.gpu.teachers import BUILDERS, command_line_name
from tinyvit.studies.gpu.timing import set_tf32
from tinyvit.variants import VARIANTS


def test_a_rate_needs_more_than_one_batch() -> None:
    meter = RateMeter()
    meter.advance("storing", 16, 16)
    with pytest.raises(RequestError, match="all 16 images in one batch"):
        _ = meter.images_per_s
    meter.advance("storing", 32, 32)
    assert meter.images_per_s > 0


def make_part(tmp_path: Path, budget_s: float = 60.0) -> tuple[Record, Part]:
    record = Record(tmp_path / "record.json", {}, total_s=60.0)
    return record, record.begin_part("steps", budget_s)


def test_failed_measurement_does_not_prevent_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> dict[str, Any]:
        raise RuntimeError("no kernel image\nsecond line")

    record, part = make_part(tmp_path)
    assert part.measure({"case": 1}, fail) is None
    assert part.measure({"case": 2}, lambda: {"median_ms": 1.0}) == {"case": 2, "median_ms": 1.0}
    rows = json.loads((tmp_path / "record.json").read_text())["parts"]["steps"]["rows"]
    assert rows == [
        {"case": 1, "status": "failed: RuntimeError: no kernel image"},
        {"case": 2, "median_ms": 1.0},
    ]
    assert not record.passed
    assert "second line" in capsys.readouterr().err


def test_measurement_without_time_is_skipped(tmp_path: Path) -> None:
    record, part = make_part(tmp_path, budget_s=10.0)
    assert part.measure({"case": 1}, dict, needed_s=20.0) is None
    assert part.rows == [{"case": 1, "status": NO_TIME}]
    assert record.passed


@pytest.mark.parametrize(("value", "passed"), [(0.1, True), (0.2, False), (math.nan, False)])
def test_check_fails_above_its_limit(tmp_path: Path, value: float, passed: bool) -> None:
    record, part = make_part(tmp_path)
    part.check("a difference", value, 0.1)
    assert record.passed is passed
    assert json.loads((tmp_path / "record.json").read_text())["passed"] is passed


def test_floats_are_rounded() -> None:
    assert round_floats({"a": (1.23456789, math.inf), "b": 3}) == {"a": [1.2346, "inf"], "b": 3}


def test_precision_is_restored() -> None:
    before = torch.backends.cudnn.allow_tf32
    with set_tf32("tf32"):
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    with set_tf32("float32"):
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


def test_full_settings_cover_all_variants_and_known_teachers() -> None:
    settings = full_settings()
    assert {case.variant for case in settings.latency_cases} == set(VARIANTS)
    assert {case.batch for case in settings.latency_cases} == {1, 64}
    teachers = {name for case in settings.step_cases for name in case.teachers}
    assert teachers | set(settings.teachers) <= set(BUILDERS)
    assert set(settings.budgets_s) == set(PARTS)
    assert settings.total_s < 480
    assert command_line_name("tiny_vit_21m_224") == "tinyvit.studies.gpu.teachers:make_tinyvit_21m"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--device cuda needs an NVIDIA GPU"),
        (["--device", "cpu"], "--device cpu would take hours"),
    ],
)
def test_impossible_devices_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "record.json")]) == 1
    assert message in capsys.readouterr().err


RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


@pytest.mark.parametrize("record_file", sorted(RESULTS.glob("gpu-*.json")), ids=lambda p: p.stem)
def test_the_pages_of_the_documentation_are_those_of_their_records(
    record_file: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    assert write_page([str(record_file), "-o", str(page)]) == 0
    assert page.read_text() == record_file.with_suffix(".md").read_text()
    first_step = json.loads(record_file.read_text())["parts"]["steps"]["rows"][0]
    milliseconds = first_step["kinds"]["no teacher"]["median_ms"]
    assert (
        "| 5m_224, 1,000 classes | cuda, bfloat16, batch 256 | no teacher "
        f"| {milliseconds:.1f} |" in page.read_text()
    )


def test_a_ratio_without_an_interval_and_an_empty_cell_are_explained() -> None:
    pages = {name: (RESULTS / f"gpu-{name}.md").read_text() for name in ("h100", "h200")}
    assert "| 1.01\N{DAGGER} |" in pages["h100"]
    assert pages["h100"].count("\N{DAGGER} No interval: it needs 6 rounds or more.") == 1
    assert "\N{DAGGER}" not in pages["h200"]
    for page in pages.values():
        assert "An empty cell was not measured, because the study has a time budget." in page


@pytest.mark.parametrize("content", ["{}", "[]", '{"machine": 1, "parts": {}}', "not JSON"])
def test_a_file_that_is_no_record_is_refused(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "record.json"
    path.write_text(content)
    assert write_page([str(path), "-o", str(tmp_path / "page.md")]) == 1
    assert f"{path} is not a record of the GPU study" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()
