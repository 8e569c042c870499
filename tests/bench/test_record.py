"""A record comes back as it was written; what is none is refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tinyvit.bench.record import (
    AccuracyResult,
    ArtifactInfo,
    ClassAccuracy,
    DeviceInfo,
    LatencyRatio,
    LatencyResult,
    Record,
    ReferenceComparison,
    read_record,
)
from tinyvit.errors import RequestError

DEVICE = DeviceInfo("board", "Linux 6", "aarch64", "Cortex", ("dotprod",), 4, None, None, 1500.0)
SUBJECT = ArtifactInfo(
    "a.onnx", "0" * 64, 7, "demo", "int8", {"engine": "onnxruntime", "threads": 2}, 0.9
)
LATENCY = LatencyResult(
    *(
        SUBJECT,
        "single-stream",
        1,
        3,
        5,
        True,
        1.0,
        2,
        2.5,
        4,
        None,
        None,
        None,
        None,
        500,
        ((1.0, 2), (4.0,)),
        3,
    ),
    ratio=LatencyRatio("b.onnx", 0.5, 0.4, 0.6),
)
ACCURACY = AccuracyResult(
    *(SUBJECT, 10, 1, 20, 80.0, 100.0, (49.0, 94.3), (72.2, 100.0), 3.5, "its own", 9.5),
    *(
        ReferenceComparison("b.onnx", 90.0, 1, 0, 1.0),
        (ClassAccuracy("cat", "n1", 5, 80.0),),
        (1, 0),
    ),
)
SETTINGS: dict[str, str | int | float | bool | None] = {"batch": 1, "threads": None}


@pytest.mark.parametrize(
    "record",
    [
        Record(
            "latency",
            "2026-01-01T00:00:00+00:00",
            "tinyvit-edge 1",
            DEVICE,
            SETTINGS,
            ("noisy",),
            ("x.pte: damaged",),
            (LATENCY,),
        ),
        Record(
            "accuracy",
            "2026-01-01T00:00:00+00:00",
            "tinyvit-edge 1",
            DEVICE,
            SETTINGS,
            (),
            accuracy=(ACCURACY,),
            data={"name": "val"},
        ),
    ],
    ids=lambda record: record.kind,
)
def test_a_record_comes_back(record: Record, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(record.to_json())
    assert read_record(tmp_path / "record.json") == record
    assert json.loads(record.to_json())["results"][0]["artifact"] == "a.onnx"


def test_a_result_is_flat() -> None:
    result = json.loads(Record("latency", "", "", DEVICE, {}, (), (), (LATENCY,)).to_json())[
        "results"
    ][0]
    assert (result["median_ms"], result["engine"]["threads"], result["ratio"]["to"]) == (
        2,
        2,
        "b.onnx",
    )


def changed(**changes: Any) -> str:
    plain = json.loads(Record("latency", "", "", DEVICE, {}, (), (), (LATENCY,)).to_json())
    return json.dumps({**plain, **changes})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (changed(schema=2), "schema 2, this version reads 1"),
        ("{}", "no schema version"),
        ("[" * 100_000, "no record"),
        ("\0", "no record"),
        (changed(kind="speed"), "no record"),
        (changed(device={}), "has no"),
        (changed(warnings="noisy"), "warnings is not"),
        (changed(results=[{"artifact": "a"}]), "has no"),
        (changed(results=7), "no record"),
        (changed(extra=1), "extra that is not known"),
    ],
)
def test_what_is_no_record_is_refused(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(RequestError, match=why):
        read_record(tmp_path / "bad.json")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="no text"):
        read_record(tmp_path / "bad.json")
