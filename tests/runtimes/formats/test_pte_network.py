"""What is read of .pte files without ExecuTorch; the files are made table by table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.pte_tables import GELU, make_pte, make_xnnpack_part
from tinyvit.errors import ArtifactError
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.formats import pte_network
from tinyvit.runtimes.formats.executorch import EXECUTORCH
from tinyvit.runtimes.formats.stated_operators import StatedNetwork, StatedOperator
from tinyvit.runtimes.network_analysis.coverage import check_coverage
from tinyvit.runtimes.network_analysis.coverage_result import Coverage, RefusedOperator

PART = make_xnnpack_part()
OUTSIDE = "it is outside of the part for the delegate XnnpackBackend"


def write(folder: Path, data: bytes) -> Path:
    path = folder / "a.pte"
    path.write_bytes(data)
    return path


def read(folder: Path, data: bytes) -> StatedNetwork:
    return EXECUTORCH.read_stated_network(write(folder, data))


def coverage_of(folder: Path, data: bytes) -> Coverage:
    return check_coverage(read_artifact(write(folder, data)))


def test_operators_of_the_part_and_outside_of_it_are_read(tmp_path: Path) -> None:
    network = read(tmp_path, make_pte(PART, kernel="aten::erf.out"))
    assert network.operators == (
        StatedOperator("Gelu", "value 0", 2, True, 0),
        StatedOperator("aten::erf.out", "", 0, True, 0, OUTSIDE),
    )
    assert network.delegate_calls == {"XnnpackBackend": 1}
    assert not network.has_unread_parts


def test_the_coverage_names_the_delegate(tmp_path: Path) -> None:
    coverage = coverage_of(tmp_path, make_pte(PART, kernel="aten::erf.out"))
    assert coverage.refused == (RefusedOperator("aten::erf.out", "", OUTSIDE),)
    assert coverage.describe() == [
        "coverage: accelerators refuse 1 of 2 operators, with 0.0% of the multiplications",
        f"  1 aten::erf.out: {OUTSIDE}",
        "  delegate calls: 1 of XnnpackBackend; operators outside of them: 1",
    ]


def test_parts_of_other_delegates_are_counted_but_not_read(tmp_path: Path) -> None:
    coverage = coverage_of(tmp_path, make_pte(b"?", "VulkanBackend", kernel="aten::erf.out"))
    assert coverage.operator_count is None
    assert coverage.refused_share is None
    assert coverage.delegate_calls == {"VulkanBackend": 1}
    assert coverage.describe()[0] == (
        "coverage: accelerators refuse 1 operator of those that are known"
    )
    assert "are not read" in coverage.describe()[-1]
    inside_only = coverage_of(tmp_path, make_pte(b"?", "VulkanBackend"))
    assert inside_only.describe()[0].endswith("refuse 0 operators of those that are known")


def test_a_file_without_delegates_leaves_everything_to_the_cpu(tmp_path: Path) -> None:
    data = make_pte(PART, delegate="", call_count=0, kernel="aten::erf.out")
    (operator,) = read(tmp_path, data.replace(b"aten::erf.out", b"aten::exp.out")).operators
    assert operator.name == "aten::exp.out"
    assert "for the delegate" in operator.refusal


def test_dimensions_and_operators_inside_of_a_part_are_refused(tmp_path: Path) -> None:
    five = coverage_of(tmp_path, make_pte(make_xnnpack_part((1, 2, 2, 2, 2))))
    assert [item.reason for item in five.refused] == ["a tensor has 5 dimensions, more than 4"]
    unusual = coverage_of(tmp_path, make_pte(make_xnnpack_part(kind=17)))
    assert unusual.refused == (
        RefusedOperator("Floor", "value 0", "NPUs do not have this operator"),
    )
    newer = coverage_of(tmp_path, make_pte(make_xnnpack_part(kind=99)))
    assert newer.refused[0].operator == "XNNPACK node 99"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (make_pte(PART, call_index=1), "an operator that does not exist"),
        (make_pte(PART, call_index=-1), "an operator that does not exist"),
        (make_pte(PART, part_index=1), "a part that does not exist"),
        (make_pte(make_xnnpack_part(input_id=5)), "a value that does not exist"),
        (make_pte(make_xnnpack_part([1] * 65)), "more than 64"),
        (make_pte(PART, kernel="aten::bmm.out"), "has 0 arguments"),
        (make_pte(PART)[:200], "shorter than its header states"),
        (b"\xff\xff\0\0ET12" + bytes(100), "damaged or incomplete"),
    ],
)
def test_damaged_files_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=message):
        read(tmp_path, data)


def test_a_part_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="damaged or incomplete"):
        read(tmp_path, make_pte(PART[:30]))


def test_tables_that_are_shared_count_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = make_xnnpack_part(kind=GELU, node_count=30, value_count=30)
    monkeypatch.setattr(pte_network, "_MAX_ENTRIES", 200)
    assert len(read(tmp_path, make_pte(part, call_count=3)).operators) == 90
    with pytest.raises(ArtifactError, match="more than 200"):
        read(tmp_path, make_pte(part, call_count=4))
