"""Reports show what the records say, load nothing, and never treat text of a record as markup."""

from __future__ import annotations

import csv
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.helpers.install_commands import install_command
from tests.helpers.records import (
    HOSTILE,
    make_accuracy,
    make_accuracy_record,
    make_full_records,
    make_latency,
    make_latency_record,
    make_sensitivity_record,
)
from tinyvit.bench import cli
from tinyvit.bench.record import PeakRates, Record
from tinyvit.bench.report.rows import find_pareto_front, make_rows

VOID_TAGS = {"meta", "link", "br", "img", "hr", "input"}


class PageParser(HTMLParser):
    """Checks that tags close in order, and keeps the text and the tags with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open_tags: list[str] = []
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open_tags[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def write_report(records: list[Record], folder: Path, suffix: str) -> str:
    """Write a report with the command and return its text."""
    paths = [folder / f"{i}.json" for i in range(len(records))]
    for path, record in zip(paths, records):
        path.write_text(record.to_json())
    output = folder / f"report{suffix}"
    assert cli.main(["report", *map(str, paths), "-o", str(output)]) == 0
    return output.read_text()


def parse_page(page: str) -> PageParser:
    parser = PageParser()
    parser.feed(page)
    parser.close()
    assert parser.open_tags == []
    return parser


@pytest.fixture(scope="module")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The HTML page of `make_full_records`."""
    pytest.importorskip("matplotlib")
    return write_report(make_full_records(), tmp_path_factory.mktemp("page"), ".html")


@pytest.mark.parametrize(
    "text",
    [
        "withheld: needs 662 queries, has 300",
        "0.550 (0.540 to 0.560)",
        "85.20%",
        "84.90%",
        "99.30%",
        "16, not steady",
        "benchmark_app",
        "72%",
        "444",
        "QGemm",
        "integer",
        "2.25",
        "140",
        "powersave",
        "Cortex-A78",
        "x.pte: damaged",
        "other processes used 12%",
        HOSTILE,
    ],
)
def test_the_page_shows_what_the_records_say(full_page: str, text: str) -> None:
    assert text in parse_page(full_page).text


def test_the_headings_of_the_page_are_unique(full_page: str) -> None:
    headings = re.findall(r"<h2>(.*?)</h2>", full_page)
    assert len(headings) >= 10
    assert len(set(headings)) == len(headings)
    summary = re.search(r"<h2>Summary</h2>.*?</table>", full_page, re.DOTALL)
    assert summary is not None
    assert '<td data-name="artifact">' in summary[0] or '<td data-name="file">' in summary[0]


def test_equal_headings_are_numbered(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = write_report([make_sensitivity_record(), make_sensitivity_record()], tmp_path, ".html")
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert len(set(headings)) == len(headings)
    assert any(heading.endswith(" (2)") for heading in headings)


def test_the_report_has_a_default_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_text(make_latency_record(make_latency("a.onnx", 20)).to_json())
    assert cli.main(["report", "a.json"]) == 0
    assert capsys.readouterr().out == "report.html\n"
    assert Path("report.html").read_text().startswith("<!DOCTYPE html>")


def test_the_page_begins_with_failures_and_warnings(full_page: str) -> None:
    text = parse_page(full_page).text
    assert text.index("x.pte: damaged") < text.index("other processes") < text.index("Summary")


def test_the_page_has_charts_with_descriptions(full_page: str) -> None:
    charts = [attributes for tag, attributes in parse_page(full_page).tags if tag == "svg"]
    # The Pareto chart and the latencies of each device, the stages, and the accuracies.
    assert len(charts) == 6
    assert all(attributes.get("aria-label") for attributes in charts)


def test_the_page_loads_nothing(full_page: str) -> None:
    tags = parse_page(full_page).tags
    assert "script" not in {tag for tag, _ in tags}
    links = [
        value
        for _, attributes in tags
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href")
    ]
    assert all(value and value.startswith("#") for value in links)
    assert not re.search(r"@import|url\((?!#)", full_page)


def test_the_page_shows_only_what_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    record = make_latency_record(make_latency("demo.onnx", 20))
    text = parse_page(write_report([record], tmp_path, ".html")).text
    assert "Latency" in text
    absent = ("Accuracy", "Stages", "Cold start", "Operators", "top-1", "Baselines", "failure")
    assert [word for word in absent if word in text] == []


def test_the_page_shows_the_sensitivity_of_each_unit(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = parse_page(write_report([make_sensitivity_record()], tmp_path, ".html"))
    (chart,) = [attributes for tag, attributes in page.tags if tag == "svg"]
    description = chart["aria-label"] or ""
    assert description.startswith("Most sensitive units: stages.0.conv 80.0%; ")
    assert description.endswith("stages.3.exact -1.2%")
    for text in ("Most sensitive units of demo.int8.onnx", "80.0%, 17.2 dB", "0.0251", "24.12"):
        assert text in page.text
    for text in ("measured in onnxruntime 1.2.3", "two images cannot be read", HOSTILE):
        assert text in page.text
    absent = ("Latency", "Accuracy", "Summary", "failure")
    assert [word for word in absent if word in page.text] == []


def test_markdown_shows_the_sensitivity_of_each_unit(tmp_path: Path) -> None:
    text = write_report([make_sensitivity_record()], tmp_path, ".md")
    assert "| artifact | unit | share of error | SNR, dB | cosine | MACs |" in text
    assert "| demo.int8.onnx | stages.0.conv | 80.0% | 17.25 | 0.98750 | 75.0% |" in text
    assert "| demo.int8.onnx | stages.3.exact | -1.2% |  | 1.00000 | 0.0% |" in text


def test_a_csv_file_without_rows_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "record.json").write_text(make_sensitivity_record().to_json())
    output = tmp_path / "report.csv"
    assert cli.main(["report", str(tmp_path / "record.json"), "-o", str(output)]) == 1
    assert "contains only the summary of latencies and accuracies" in capsys.readouterr().err
    assert not output.exists()


def test_markdown_has_tables_of_equal_width_and_no_markup(tmp_path: Path) -> None:
    text = write_report(make_full_records(), tmp_path, ".md")
    tables = [block for block in text.split("\n\n") if block.startswith("| ")]
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    assert "<script" not in text
    assert "- **failure**: desk: x.pte: damaged" in text


def test_csv_has_one_row_per_result(tmp_path: Path) -> None:
    text = write_report(make_full_records(), tmp_path, ".csv")
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["device"] for row in rows] == ["desk"] * 3 + ["board"] * 2
    assert float(rows[0]["median ms"]) == pytest.approx(20, rel=0.01)
    assert rows[2]["artifact"] == HOSTILE.rpartition("/")[2]


def test_csv_has_no_formulas(tmp_path: Path) -> None:
    text = write_report([make_latency_record(make_latency("=cmd()", 20))], tmp_path, ".csv")
    assert "\n'=cmd()," in text


def test_latency_and_accuracy_of_the_same_file_are_joined() -> None:
    rows = make_rows(make_full_records())
    assert [bool(row.accuracy) for row in rows] == [True] * 5
    assert [row.device.name for row in rows] == ["desk"] * 3 + ["board"] * 2
    (row,) = make_rows([make_accuracy_record(make_accuracy("demo.onnx", 1))])
    assert row.latency is None


def test_labels_state_what_differs() -> None:
    batches = [make_latency("demo.onnx", 20, batch=batch) for batch in (1, 8)]
    rows = make_rows([make_latency_record(*batches, make_latency("demo.int8.onnx", 11))])
    assert [row.label for row in rows] == [
        "demo.onnx, batch 1",
        "demo.onnx, batch 8",
        "demo.int8.onnx, batch 1",
    ]


def test_labels_do_not_state_what_only_accuracies_lack() -> None:
    latency = make_latency("demo.onnx", 20)
    accuracy = make_accuracy("demo.onnx", 1)
    artifact = replace(
        accuracy.artifact, sha256="1" * 64, engine=replace(accuracy.artifact.engine, threads=3)
    )
    records = [
        make_latency_record(latency),
        make_accuracy_record(replace(accuracy, artifact=artifact)),
    ]
    assert [row.label for row in make_rows(records)] == [
        f"demo.onnx, threads {latency.artifact.engine.threads}",
        "demo.onnx, threads 3",
    ]


def test_peak_rates_are_those_of_the_latency_record(tmp_path: Path) -> None:
    records = [
        make_latency_record(
            make_latency(path, 20, peak_share=share),
            peak_rates=PeakRates(
                threads=threads,
                float32_gmacs_per_s=50 * threads,
                int8_gmacs_per_s=200 * threads,
                memory_gb_per_s=20,
            ),
        )
        for path, share, threads in (("one.onnx", 0.7, 1), ("two.onnx", 0.6, 2))
    ]
    text = write_report(records, tmp_path, ".md")
    assert "| one.onnx | 50 | 200 | 20 | 1 | 70% |" in text
    assert "| two.onnx | 100 | 400 | 20 | 2 | 60% |" in text


def test_the_pareto_front_has_no_dominated_point() -> None:
    points = [(20, 85), (11, 84.9), (40, 70), (30, 90), (11, 80), (35, 90)]
    assert find_pareto_front(points) == [1, 0, 3]
    assert find_pareto_front([]) == []


@pytest.fixture
def record_path(tmp_path: Path) -> Path:
    """A file with one latency record."""
    path = tmp_path / "a.json"
    path.write_text(make_latency_record(make_latency("a", 1)).to_json())
    return path


@pytest.mark.parametrize("suffix", [".html", ".md", ".csv"])
def test_a_record_of_another_version_is_refused_and_nothing_written(
    suffix: str, record_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record_path.write_text(json.dumps({**json.loads(record_path.read_text()), "schema": 0}))
    report = record_path.with_name(f"report{suffix}")
    assert cli.main(["report", str(record_path), "-o", str(report)]) == 1
    assert "schema version 0, but this version of tinyvit-edge reads version 3" in (
        capsys.readouterr().err
    )
    assert [path.name for path in record_path.parent.iterdir()] == ["a.json"]


def test_an_existing_report_is_replaced_only_on_request(record_path: Path) -> None:
    report = record_path.with_name("report.md")
    report.write_text("mine")
    assert cli.main(["report", str(record_path), "-o", str(report)]) == 1
    assert report.read_text() == "mine"
    assert cli.main(["report", str(record_path), "-o", str(report), "--overwrite"]) == 0
    assert report.read_text().startswith("# Benchmark report")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("report.pdf", "has the suffix .pdf, which does not name"),
        ("report", "has no suffix"),
    ],
)
def test_another_suffix_is_refused(
    name: str, message: str, record_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(record_path), "-o", str(record_path.with_name(name))]) == 1
    assert message in capsys.readouterr().err


def test_only_the_page_needs_matplotlib(
    record_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page, markdown = record_path.with_name("report.html"), record_path.with_name("report.md")
    assert cli.main(["report", str(record_path), "-o", str(page)]) == 1
    assert install_command("bench") in capsys.readouterr().err
    assert not page.exists()
    assert cli.main(["report", str(record_path), "-o", str(markdown)]) == 0
