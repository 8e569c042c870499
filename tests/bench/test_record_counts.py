"""Records with more entries than any benchmark has are refused before they are used."""

from __future__ import annotations

from typing import Any

import pytest

from tinyvit.bench.record import Record
from tinyvit.bench.record.counts import require_possible_counts
from tinyvit.errors import RequestError


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"results": [{}] * 257}, "results has 257 entries, more than 256"),
        ({"baselines": [{}] * 5000}, "baselines has 5000 entries, more than 256"),
        ({"warnings": [""] * 1001}, "warnings has 1001 entries, more than 1000"),
        ({"failures": [""] * 1001}, "failures has 1001 entries"),
        ({"settings": {str(i): 0 for i in range(1001)}}, "settings has 1001 entries"),
        ({"dataset": {str(i): 0 for i in range(1001)}}, "dataset has 1001 entries"),
        (
            {"results": [{"stages_ms": {str(i): 1 for i in range(5000)}}]},
            "stages_ms has 5000 entries, more than 32",
        ),
        ({"results": [{"operators": [{}] * 513}]}, "operators has 513 entries, more than 512"),
        ({"results": [{"classes": [{}] * 30_001}]}, "classes has 30001 entries"),
        ({"results": [{"turns_ms": [[1] * 5_000_000]}]}, "more than 5000000 entries"),
        (
            {"results": [{"stages_ms": {str(i): 1}} for i in range(33)]},
            "its results have 33 different stages, more than 32",
        ),
        (
            {"results": [{"network": {"units": [{}] * 4097}}]},
            "units has 4097 entries, more than 4096",
        ),
        (
            {"kind": "sensitivity", "results": [{}] * 33},
            "results has 33 entries, more than 32",
        ),
        ({"results": [{"turns_ms": [[]] * 100_001}]}, "turns_ms has 100001 entries"),
        ({"device": {"cpu_features": [""] * 1001}}, "cpu_features has 1001 entries"),
        ({"date": "x" * 10_001}, "it has a text of more than 10000 characters"),
        ({"results": [{"artifact": {"path": "x" * 10_001}}]}, "more than 10000 characters"),
        ({"settings": {"x" * 10_001: 0}}, "it has a text of more than 10000 characters"),
    ],
)
def test_too_many_entries_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_possible_counts(data)


def test_the_largest_counts_are_accepted() -> None:
    result = {
        "stages_ms": {str(i): 1 for i in range(32)},
        "operators": [{}] * 512,
        "classes": [{}] * 30_000,
        "turns_ms": [[1] * 100_000],
    }
    require_possible_counts({"results": [result] * 2, "warnings": [""] * 1000})
    require_possible_counts({"results": [{}] * 256})
    unit_result = {"network": {"units": [{}] * 4096}}
    require_possible_counts({"kind": "sensitivity", "results": [unit_result] * 32})
    require_possible_counts({"results": "no list", "device": "no object"})
    require_possible_counts({"warnings": ["x" * 10_000], "results": [{"stages_ms": [1]}]})


def test_a_record_with_too_many_results_names_the_limit() -> None:
    text = '{"schema": 3, "kind": "latency", "results": [' + ",".join(["1"] * 257) + "]}"
    with pytest.raises(RequestError, match=r"a.json is not a record.*more than 256"):
        Record.from_json(text, "a.json")
