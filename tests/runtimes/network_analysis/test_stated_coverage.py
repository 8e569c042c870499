"""The check of networks whose files state all sizes."""

from __future__ import annotations

from tinyvit.runtimes.formats.stated_operators import StatedNetwork, StatedOperator
from tinyvit.runtimes.network_analysis.coverage_result import RefusedOperator
from tinyvit.runtimes.network_analysis.stated_coverage import check_stated


def make_operator(name: str, multiplications: int | None = 0, refusal: str = "") -> StatedOperator:
    return StatedOperator(name, f"{name} 1", 4, True, multiplications, refusal)


def test_the_share_is_that_of_the_multiplications() -> None:
    operators = (make_operator("MatMul", 30), make_operator("Einsum", 10))
    coverage = check_stated(StatedNetwork("openvino", operators, False, False))
    assert coverage.refused == (
        RefusedOperator("Einsum", "Einsum 1", "NPUs do not have this operator"),
    )
    assert coverage.refused_share == 0.25


def test_an_unknown_product_leaves_the_share_unknown() -> None:
    operators = (make_operator("MatMul", None), make_operator("Erf"))
    assert check_stated(StatedNetwork("openvino", operators, False, False)).refused_share is None


def test_a_name_counts_only_in_its_language() -> None:
    for language, count in (("mil", 1), ("openvino", 0)):
        network = StatedNetwork(language, (make_operator("MatMul"),), False, False)
        assert len(check_stated(network).refused) == count


def test_the_reason_of_the_file_comes_first() -> None:
    network = StatedNetwork("xnnpack", (make_operator("Gelu", 0, "why"),), True, True, {"X": 2})
    coverage = check_stated(network)
    assert [item.reason for item in coverage.refused] == ["why"]
    assert coverage.notes == ("delegate calls: 2 of X; operators outside of them: 1",)
