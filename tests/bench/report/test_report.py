"""A page that shows what the records say, loads nothing, and lets no record speak in its own markup."""

from __future__ import annotations

import csv
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.bench.report.records import HOSTILE, accuracy, everything, judged, latency, timed
from tinyvit.bench import cli
from tinyvit.bench.record import Record
from tinyvit.bench.report.rows import make_rows, pareto_front

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Reader(HTMLParser):
    """Checks that tags close in order; keeps the text, the tags and the attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)


def written(records: list[Record], folder: Path, suffix: str) -> str:
    paths = []
    for i, record in enumerate(records):
        paths.append(folder / f"{i}.json")
        paths[-1].write_text(record.to_json())
    assert cli.main(["report", *map(str, paths), "-o", str(folder / f"report{suffix}")]) == 0
    return (folder / f"report{suffix}").read_text()


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_says_everything_and_loads_nothing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = written(everything(), tmp_path, ".html")
    reader = read(page)
    text = " ".join(reader.text)
    for figure in (
        "withheld: 300 runs",
        "0.550 (0.540 to 0.560)",
        "85.20%",
        "84.90%",
        "99.30%",
        "16, not steady",
        "benchmark_app",
        "72%",
        "444",
    ):
        assert figure in text, figure
    for thing in (
        "QGemm",
        "integers",
        "2.25",
        "140",
        "powersave",
        "Cortex-A78",
        "x.pte: damaged",
        "other processes used 12%",
        HOSTILE,
    ):
        assert thing in text, thing
    assert text.index("x.pte: damaged") < text.index("other processes") < text.index("Summary")
    assert (
        sum(tag == "svg" for tag, _ in reader.seen) == 6
    )  # a scatter and bars of each device, stages, accuracy
    assert all(each.get("aria-label") for tag, each in reader.seen if tag == "svg")
    assert "script" not in {tag for tag, _ in reader.seen}
    links = [
        value
        for _, each in reader.seen
        for key, value in each.items()
        if key in ("src", "href", "xlink:href")
    ]
    assert all(value and value.startswith("#") for value in links)
    assert not re.search(r"@import|url\((?!#)", page)


def test_only_what_was_measured_is_shown(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    text = " ".join(read(written([timed(latency("demo.onnx", 20))], tmp_path, ".html")).text)
    assert "Latency" in text
    for absent in (
        "Accuracy",
        "Stages",
        "Cold start",
        "Operators",
        "top-1",
        "Beside other tools",
        "refused",
    ):
        assert absent not in text, absent


def test_markdown_reads_back(tmp_path: Path) -> None:
    text = written(everything(), tmp_path, ".md")
    tables = [block for block in text.split("\n\n") if block.startswith("| ")]
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    assert "<script" not in text
    assert "- **refused**: desk: x.pte: damaged" in text


def test_a_table_reads_back(tmp_path: Path) -> None:
    found = list(csv.DictReader(written(everything(), tmp_path, ".csv").splitlines()))
    assert [row["device"] for row in found] == ["desk"] * 3 + ["board"] * 2
    assert float(found[0]["median ms"]) == pytest.approx(20, rel=0.01)
    assert found[2]["file"] == HOSTILE.rpartition("/")[2]


def test_a_formula_is_text(tmp_path: Path) -> None:
    assert "\n'=cmd()," in written([timed(latency("=cmd()", 20))], tmp_path, ".csv")


def test_results_of_the_same_file_are_joined() -> None:
    found = make_rows(everything())
    assert [bool(row.accuracy) for row in found] == [True] * 5
    assert [row.device.name for row in found] == ["desk"] * 3 + ["board"] * 2
    (alone,) = make_rows([judged(accuracy("demo.onnx", 1))])
    assert alone.latency is None


def test_the_front() -> None:
    assert pareto_front([(20, 85), (11, 84.9), (40, 70), (30, 90), (11, 80), (35, 90)]) == [1, 0, 3]
    assert pareto_front([]) == []


@pytest.mark.parametrize("suffix", [".html", ".md", ".csv"])
def test_a_record_of_another_version_is_refused_and_nothing_left(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.json").write_text(
        json.dumps({**json.loads(timed(latency("a", 1)).to_json()), "schema": 0})
    )
    assert (
        cli.main(["report", str(tmp_path / "old.json"), "-o", str(tmp_path / f"report{suffix}")])
        == 1
    )
    assert "schema 0, this version reads 1" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]


def test_an_existing_file_and_a_wrong_suffix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text(timed(latency("a", 1)).to_json())
    (tmp_path / "report.md").write_text("mine")
    assert cli.main(["report", str(tmp_path / "a.json"), "-o", str(tmp_path / "report.md")]) == 1
    assert (tmp_path / "report.md").read_text() == "mine"
    assert (
        cli.main(
            ["report", str(tmp_path / "a.json"), "-o", str(tmp_path / "report.md"), "--overwrite"]
        )
        == 0
    )
    assert cli.main(["report", str(tmp_path / "a.json"), "-o", str(tmp_path / "report.pdf")]) == 1
    assert "cannot be a .pdf" in capsys.readouterr().err


def test_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (tmp_path / "a.json").write_text(timed(latency("a", 1)).to_json())
    assert cli.main(["report", str(tmp_path / "a.json"), "-o", str(tmp_path / "report.html")]) == 1
    assert "pip install 'tinyvit-edge[bench]'" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()
    assert cli.main(["report", str(tmp_path / "a.json"), "-o", str(tmp_path / "report.md")]) == 0
