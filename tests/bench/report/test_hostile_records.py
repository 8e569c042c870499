"""Text and numbers of hostile records stay plain text in every report, or are refused."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any
from xml.dom import minidom

import pytest

from tests.helpers.hostile_text import HOSTILE_TEXT, has_control_characters
from tests.helpers.records import make_full_records, make_latency, make_latency_record
from tinyvit.bench import cli
from tinyvit.bench.record import Record
from tinyvit.bench.report.console import format_accuracy_record, format_latency_record

ENUMERATIONS = ("kind", "scenario", "date")
"""Fields of text in which only certain values are possible, and the date, which is sorted."""

IMPOSSIBLE_NUMBERS = ["1" + "0" * 400, "-1e308", "1e999", "NaN", "9" * 5000, "99999999999999999999"]
"""JSON numbers that no measurement has."""


def fill_with_hostile_text(value: Any, name: str = "") -> Any:
    """Return a copy of a record in which every text that may be any text is hostile."""
    if is_dataclass(value) and not isinstance(value, type):
        changes = {
            field.name: fill_with_hostile_text(getattr(value, field.name), field.name)
            for field in fields(value)
            if field.name not in ENUMERATIONS
        }
        return replace(value, **changes)
    if isinstance(value, tuple):
        return tuple(fill_with_hostile_text(item) for item in value)
    if isinstance(value, dict):
        return {f"{key}{HOSTILE_TEXT}": fill_with_hostile_text(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    # Equal texts, such as hashes, must stay equal, and different ones different.
    return value + HOSTILE_TEXT if name == "sha256" else HOSTILE_TEXT


@pytest.fixture(scope="module")
def hostile_records() -> list[Record]:
    return [fill_with_hostile_text(record) for record in make_full_records()]


@pytest.fixture(scope="module")
def record_paths(
    hostile_records: list[Record], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    folder = tmp_path_factory.mktemp("hostile")
    paths = [folder / f"{number}.json" for number in range(len(hostile_records))]
    for path, record in zip(paths, hostile_records):
        path.write_text(record.to_json())
    return paths


def write_report(paths: list[Path], output: Path) -> str:
    """Write a report and return its content, with line breaks as they are in the file."""
    assert cli.main(["report", *map(str, paths), "-o", str(output)]) == 0
    return output.read_bytes().decode("utf-8")


@pytest.mark.parametrize("suffix", [".html", ".md", ".csv"])
def test_no_report_has_control_characters(
    suffix: str, record_paths: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if suffix == ".html":
        pytest.importorskip("matplotlib")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = write_report(record_paths, tmp_path / f"report{suffix}")
    assert "\\u001b[2J" in text.replace("\\\\", "\\").replace("\\[", "[")
    if suffix != ".csv":
        assert "<b>" not in text.replace("<b>warning</b>", "").replace("<b>failure</b>", "")
    assert not has_control_characters(text + "".join(capsys.readouterr()))


def test_the_console_has_no_control_characters(
    record_paths: list[Path], hostile_records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", str(record_paths[0]), str(record_paths[0])]) == 1
    assert not has_control_characters("".join(capsys.readouterr()))
    for record in hostile_records:
        format_record = format_latency_record if record.latency else format_accuracy_record
        rows = [line for line in format_record(record) if line.startswith("| ")]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_charts_show_names_as_plain_text(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = ["$\\frac{a}{$.onnx", "$x^2$.onnx", "a\x1b\ud800<script>&.onnx"]
    record = make_latency_record(*(make_latency(name, 20 + i) for i, name in enumerate(names)))
    path = tmp_path / "record.json"
    path.write_text(record.to_json())
    page = write_report([path], tmp_path / "report.html")
    (svg,) = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    document = minidom.parseString(svg.encode())
    texts = {"".join(_list_texts(element)) for element in document.getElementsByTagName("text")}
    assert {"$\\frac{a}{$.onnx", "$x^2$.onnx", "a\\u001b\\ud800<script>&.onnx"} <= texts


def _list_texts(element: Any) -> Iterator[str]:
    return (child.data for child in element.childNodes if child.nodeType == child.TEXT_NODE)


def test_latex_is_not_started_even_if_the_user_enables_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    path = tmp_path / "record.json"
    path.write_text(make_latency_record(make_latency("\\input{x}", 20)).to_json())
    assert "\\input{" in write_report([path], tmp_path / "report.html")


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=cmd()", "'=cmd()"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("  =1", "'  =1"),
        ("＝1", "'＝1"),  # noqa: RUF001 (full-width)
        ("a;=1;+1", "a;'=1;'+1"),
        ('a;"=1', "a;'\"=1"),
        ('a; ""=1', 'a;\' ""=1'),
        ("\r=1", "\\u000d=1"),
        ("\t=1", "\\u0009=1"),
        ("\rnew,row", "\\u000dnew,row"),
        ('a"\n,b', 'a"\\u000a,b'),
        ("plain-1=2.onnx", "plain-1=2.onnx"),
    ],
)
def test_a_cell_of_csv_is_one_cell_and_no_formula(name: str, cell: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(make_latency_record(make_latency(name, 20)).to_json())
    text = write_report([path], tmp_path / "report.csv")
    assert "\r" not in text
    assert len(text.splitlines()) == 2
    header, row = csv.reader(io.StringIO(text, newline=""))
    assert dict(zip(header, row))["artifact"] == cell


def list_number_places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Iterate over the places (keys and indices) of all numbers in nested JSON values."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, (dict, list)):
            yield from list_number_places(item, (*place, key))
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            yield (*place, key)


@pytest.mark.parametrize("number", IMPOSSIBLE_NUMBERS, ids=lambda number: number[:10])
def test_impossible_numbers_are_refused_or_harmless(
    number: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = tmp_path / "record.json", tmp_path / "report.md"
    for record in make_full_records():
        data = json.loads(record.to_json())
        places = [place for place in list_number_places(data) if "turns_ms" not in place]
        for place in places:
            path.write_text(json.dumps(replace_at(data, place)).replace('"number"', number))
            for command in (
                ["report", str(path), "-o", str(output), "--overwrite"],
                ["compare", str(path), str(path)],
            ):
                assert cli.main(command) in (0, 1)
                assert "unexpected" not in capsys.readouterr().err


def replace_at(data: Any, place: tuple[Any, ...]) -> Any:
    """Return a copy of nested JSON values with the text "number" at a place."""
    if not place:
        return "number"
    copy = data.copy()
    copy[place[0]] = replace_at(data[place[0]], place[1:])
    return copy


@pytest.mark.parametrize(
    ("place", "number", "reason"),
    [
        (("results", 0, "median_ms"), 0, "median_ms is not from 1e-06 to 1e+15"),
        (("results", 0, "turns_ms"), [[0.0]], "turns_ms is not from 1e-06 to 1e+15"),
        (("results", 0, "max_ms"), 1e308, "max_ms is not from -1e+15 to 1e+15"),
        (("results", 0, "batch"), 10**400, "batch is a number of more than 64 bits"),
        (("device", "memory_bytes"), 10**400, "memory_bytes is a number of more than 64 bits"),
    ],
    ids=["zero", "zero in a turn", "large", "large and whole", "large and optional"],
)
def test_a_number_out_of_range_is_named(
    place: tuple[Any, ...],
    number: Any,
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "record.json"
    data = json.loads(make_latency_record(make_latency("a", 1)).to_json())
    path.write_text(json.dumps(replace_at(data, place)).replace('"number"', json.dumps(number)))
    assert cli.main(["report", str(path), "-o", str(tmp_path / "report.md")]) == 1
    assert reason in capsys.readouterr().err


def test_a_record_without_settings_can_be_printed(hostile_records: list[Record]) -> None:
    latency, accuracy = hostile_records[0], hostile_records[-1]
    assert "timed: not stated" in format_latency_record(replace(latency, settings={}))
    assert format_accuracy_record(replace(accuracy, dataset={}))[0].startswith("images from an")


def test_a_file_name_that_is_not_utf8_can_be_reported(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.onnx")
    path = tmp_path / "record.json"
    path.write_text(make_latency_record(make_latency("café", 1), failures=(name,)).to_json())
    assert "caf\\\\udce9.onnx" in write_report([path], tmp_path / "report.md")


@pytest.mark.parametrize("interval", [[60.0, 50.0], [0.0, 10.0], [90.0, 100.0]])
def test_an_interval_without_the_accuracy_is_drawn(interval: list[float], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    latency, _, accuracy = make_full_records()
    results = tuple(
        replace(result, top1_interval=(interval[0], interval[1])) for result in accuracy.accuracy
    )
    paths = [tmp_path / "latency.json", tmp_path / "accuracy.json"]
    paths[0].write_text(latency.to_json())
    paths[1].write_text(replace(accuracy, accuracy=results).to_json())
    assert "Accuracy against latency" in write_report(paths, tmp_path / "report.html")


@pytest.mark.parametrize("suffix", [".html", ".md"])
@pytest.mark.parametrize("place", ["names", "warnings"])
def test_a_report_of_millions_of_characters_is_refused(
    suffix: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latency = make_latency("a" * 9999, 20)
    record = make_latency_record(*[latency] * (256 if place == "names" else 1))
    if place == "warnings":
        record = replace(record, warnings=("b" * 9999,) * 210)
    path = tmp_path / "record.json"
    path.write_text(record.to_json())
    assert cli.main(["report", str(path), "-o", str(tmp_path / f"report{suffix}")]) == 1
    message = capsys.readouterr().err
    assert re.search(r"the report would have \d{7} characters, more than 2097152", message)
