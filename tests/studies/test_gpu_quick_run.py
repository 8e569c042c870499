"""The study of a GPU runs on the CPU with tiny sizes and measures all its parts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from tinyvit.studies.gpu.__main__ import main
from tinyvit.studies.gpu.page import main as write_page
from tinyvit.studies.gpu.settings import PARTS

pytestmark = pytest.mark.slow

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


def test_a_page_of_a_quick_run(record: dict[str, Any], tmp_path: Path) -> None:
    path, page = tmp_path / "record.json", tmp_path / "page.md"
    path.write_text(json.dumps(record))
    assert write_page([str(path), "-o", str(page)]) == 0
    assert "| 5m_224 | no teacher | 0 |" in page.read_text()
