"""The study of a GPU, run on the CPU with tiny sizes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
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
from tinyvit.studies.gpu.timing import use_precision
from tinyvit.variants import VARIANTS

STEP_KINDS = {"no teacher", "store", "tiny_vit_5m_64px in the loop"}


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of a quick run."""
    if torch.cuda.is_available():
        pytest.skip("--device cpu is for machines without a GPU")
    path = tmp_path_factory.mktemp("gpu") / "record.json"
    assert main(["--device", "cpu", "--quick", "--out", str(path)]) == 0
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def find_numbers(value: object) -> Iterator[float]:
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from find_numbers(item)


def test_every_part_is_measured(record: dict[str, Any]) -> None:
    assert record["passed"] is True
    assert tuple(record["parts"]) == PARTS
    assert all(part["rows"] and part["seconds"] > 0 for part in record["parts"].values())
    assert [
        row for part in record["parts"].values() for row in part["rows"] if "status" in row
    ] == []
    assert all(math.isfinite(number) for number in find_numbers(record))


def test_losses_equal_those_of_the_cpu(record: dict[str, Any]) -> None:
    part = record["parts"]["losses"]
    reference, float32, bfloat16 = (row["losses"] for row in part["rows"])
    assert len(reference) == 5
    assert len(set(reference)) == 5
    assert float32 == pytest.approx(reference, rel=1e-5)
    assert bfloat16 == pytest.approx(reference, rel=1e-2)
    assert bfloat16 != reference
    assert [(check["limit"], check["passed"]) for check in part["checks"]] == [
        (1e-5, True),
        (1e-2, True),
    ]


def test_steps_and_loops_have_all_kinds(record: dict[str, Any]) -> None:
    (row,) = record["parts"]["steps"]["rows"]
    assert set(row["kinds"]) == STEP_KINDS
    assert all(kind["images_per_s"] > 0 for kind in row["kinds"].values())
    assert set(row["kinds"]["store"]["ratio_to_no_teacher"]) == {"median", "low", "high"}
    assert "ratio_to_store" in row["kinds"]["tiny_vit_5m_64px in the loop"]
    loops = record["parts"]["loops"]["rows"]
    assert {row["kind"] for row in loops} == {*STEP_KINDS, "loading only"}


def test_storing_measures_each_step(record: dict[str, Any]) -> None:
    rows = record["parts"]["storing"]["rows"]
    assert [row["step"] for row in rows] == [
        "save-logits",
        "making views in one thread",
        "teacher, with normalization and softmax on the CPU",
        "teacher, softmax and top K on the device",
        "selecting top K and packing records",
    ]
    assert rows[0]["bytes_per_image"] == 48
    assert rows[0]["images_per_s"] > 0


def test_a_rate_needs_more_than_one_batch() -> None:
    meter = RateMeter()
    meter.advance("storing", 16, 16)
    with pytest.raises(RequestError, match="all 16 images in one batch"):
        _ = meter.images_per_s
    meter.advance("storing", 32, 32)
    assert meter.images_per_s > 0


def test_compiled_logits_equal_eager_ones(record: dict[str, Any]) -> None:
    for name, mode in (("latency", "eager"), ("compiled", "compiled")):
        part = record["parts"][name]
        (row,), (check,) = part["rows"], part["checks"]
        assert row["mode"] == mode
        assert row["same_class"] == 1
        assert 0 < row["logits_difference"] <= check["limit"] == 1e-4


def test_the_machine_is_described_without_its_name(record: dict[str, Any]) -> None:
    machine = record["machine"]
    assert machine["torch"] == torch.__version__
    assert machine["gpu"] is None
    assert not {"name", "host", "path"} & set(machine)


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
    with use_precision("tf32"):
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    with use_precision("float32"):
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
    assert "| 5m_224, 1,000 classes | cuda, bfloat16, batch 256 | no teacher | 64.9 |" in (
        page.read_text()
    )


def test_a_page_of_a_quick_run(record: dict[str, Any], tmp_path: Path) -> None:
    path, page = tmp_path / "record.json", tmp_path / "page.md"
    path.write_text(json.dumps(record))
    assert write_page([str(path), "-o", str(page)]) == 0
    assert "| 5m_224 | no teacher | 0 |" in page.read_text()


@pytest.mark.parametrize("content", ["{}", "[]", '{"machine": 1, "parts": {}}', "not JSON"])
def test_a_file_that_is_no_record_is_refused(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "record.json"
    path.write_text(content)
    assert write_page([str(path), "-o", str(tmp_path / "page.md")]) == 1
    assert f"{path} is not a record of the GPU study" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()
