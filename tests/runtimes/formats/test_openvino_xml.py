"""Reading .xml files from unknown sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyvit.errors import ArtifactError
from tinyvit.runtimes.formats import openvino_xml
from tinyvit.runtimes.formats.openvino_xml import XmlVisitor, parse_xml


class Recorder(XmlVisitor):
    """Records what it is called for."""

    reads_text = True

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, ...]] = []
        self.positions: list[int] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.events.append(("start", *self.open_elements, *attributes.values()))
        self.positions.append(self.position)

    def end(self, name: str) -> None:
        self.events.append(("end", *self.open_elements))

    def add_text(self, text: str) -> None:
        self.events.append(("text", text))


def parse(folder: Path, text: str) -> Recorder:
    path, recorder = folder / "a.xml", Recorder()
    path.write_text(text, "utf-8")
    parse_xml(path, recorder)
    return recorder


@pytest.mark.parametrize("chunk_bytes", [2**26, 7])
def test_elements_are_visited_in_order(
    chunk_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_xml, "_CHUNK_BYTES", chunk_bytes)
    recorder = parse(tmp_path, '<a x="1"><b>7</b></a>')
    assert recorder.events == [
        ("start", "a", "1"),
        ("start", "a", "b"),
        ("text", "7"),
        ("end", "a", "b"),
        ("end", "a"),
    ]
    assert recorder.positions == [0, 9]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<a>" * 257 + "</a>" * 257, "nested more than 256 elements"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "declares a document type"),
        ("<?xml version='1.0' encoding='utf-7'?><a/>", "in the encoding utf-7"),
        ("<a>", "damaged or incomplete"),
        ("", "damaged or incomplete"),
    ],
)
def test_hostile_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=message):
        parse(tmp_path, text)


def test_sizes_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_xml, "_CHUNK_BYTES", 16)
    with pytest.raises(ArtifactError, match="it has a text of more than"):
        parse(tmp_path, f'<a b="{"c" * 64}"/>')
    monkeypatch.setattr(openvino_xml, "_MAX_XML_BYTES", 10)
    with pytest.raises(ArtifactError, match="is larger than 0 MiB"):
        parse(tmp_path, "<a>a long text</a>")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        parse_xml(tmp_path / "missing.xml", Recorder())
