"""Records survive writing and reading; anything else is refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.records import (
    make_accuracy_record,
    make_full_records,
    make_latency,
    make_latency_record,
    make_sensitivity_record,
)
from tinyvit.bench.record import LatencyRatio, Record, read_record
from tinyvit.errors import RequestError

SETTINGS: dict[str, str | int | float | bool | None] = {"batch": 1, "threads": None}


@pytest.mark.parametrize("record", make_full_records(), ids=lambda r: f"{r.kind}-{r.device.name}")
def test_a_record_is_read_as_it_was_written(record: Record, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(record.to_json())
    assert read_record(tmp_path / "record.json") == record


def test_settings_and_predictions_are_read_as_they_were_written() -> None:
    result = make_full_records()[2].accuracy[0]
    record = make_accuracy_record(result, settings=SETTINGS)
    assert Record.from_json(record.to_json(), "test") == record


def test_a_sensitivity_record_is_read_as_it_was_written() -> None:
    record = make_sensitivity_record()
    data = json.loads(record.to_json())
    assert data["kind"] == "sensitivity"
    assert not {"latency", "accuracy", "sensitivity"} & data.keys()
    (result,) = data["results"]
    assert result["is_simulated"] is False
    assert result["network"]["image_count"] == 64
    assert result["network"]["units"][0] == {
        "unit": "stages.0.conv",
        "error": 0.02008,
        "share": 0.8,
        "snr_db": 17.25,
        "cosine": 0.9875,
        "macs": 3_000_000,
    }
    assert Record.from_json(record.to_json(), "test") == record


def test_a_cosine_above_one_is_refused() -> None:
    data = json.loads(make_sensitivity_record().to_json())
    data["results"][0]["network"]["units"][0]["cosine"] = 1.5
    with pytest.raises(RequestError, match="cosine is not from -1 to 1"):
        Record.from_json(json.dumps(data), "test")


def test_a_record_has_the_documented_keys() -> None:
    ratio = LatencyRatio("b.onnx", 0.5, 0.4, 0.6)
    data = json.loads(make_latency_record(make_latency("a.onnx", 20, ratio=ratio)).to_json())
    assert data["schema"] == 3
    assert "latency" not in data
    assert "accuracy" not in data
    (result,) = data["results"]
    assert result["artifact"]["path"] == "a.onnx"
    assert result["artifact"]["engine"] == {
        "engine": "onnxruntime",
        "version": "1.2.3-abc",
        "device": "cpu",
        "threads": 2,
        "precision": "float32",
    }
    assert result["median_ms"] == pytest.approx(20, rel=0.02)
    assert result["ratio"] == {"reference": "b.onnx", "median": 0.5, "low": 0.4, "high": 0.6}


def change_record(**changes: Any) -> str:
    data = json.loads(make_latency_record(make_latency("a.onnx", 20)).to_json())
    return json.dumps({**data, **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (change_record(schema=1), "schema version 1, but this version of tinyvit-edge reads .* 3"),
        ("{}", "no schema version"),
        ("[" * 100_000, "not a record of tinyvit-bench .*nested deeper"),
        ("\0", "not a record of tinyvit-bench"),
        ("7", "not a record of tinyvit-bench .*no schema version"),
        (change_record(kind="speed"), "not a record of tinyvit-bench .*known kind"),
        (change_record(kind=["latency"]), "not a record of tinyvit-bench .*known kind"),
        (change_record(device={}), "has no field name"),
        (change_record(warnings="noisy"), "warnings is not"),
        (change_record(results=[{"artifact": {}}]), "has no field"),
        (change_record(results=7), "latency is not"),
        (change_record(extra=1), "a field extra that is not known"),
    ],
)
def test_other_json_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(RequestError, match=message):
        read_record(tmp_path / "bad.json")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="not text in UTF-8"):
        read_record(tmp_path / "bad.json")


def test_a_large_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinyvit.bench.record.record.MAX_BYTES", 100)
    (tmp_path / "large.json").write_text(change_record())
    with pytest.raises(RequestError, match="larger than 100 bytes"):
        read_record(tmp_path / "large.json")
