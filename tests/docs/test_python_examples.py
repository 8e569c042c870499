"""The Python examples on the pages of the documentation run as they are written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tests.helpers.module_graph import ROOT
from tests.helpers.records import make_latency, make_latency_record

BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = [
    pytest.param(code, id=f"{path.relative_to(ROOT)}-{number}")
    for path in PAGES
    for number, code in enumerate(BLOCK.findall(path.read_text(encoding="utf-8")))
]
RUNNABLE = (
    "README.md",
    "docs/tutorials/first-export.md",
    "docs/reference/images.md",
    "docs/reference/python/bench.md",
    "docs/reference/python/export.md",
)
"""Pages whose examples need nothing but the demo model, its record and the example photographs. The
others need an NPU, MobileSAM, or a data set of the reader."""


@pytest.mark.parametrize("code", EXAMPLES)
def test_example_is_valid_python(code: str) -> None:
    compile(code, "example", "exec")


@pytest.mark.parametrize("page", RUNNABLE)
def test_example_runs(
    page: str,
    demo: dict[str, Path],
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if page != "docs/reference/python/export.md":  # This one writes the file.
        shutil.copy(demo["onnx"], tmp_path / "demo.onnx")
    shutil.copytree(images, tmp_path / "examples" / "images")
    for name, photograph in (("a.jpg", "cat.jpg"), ("b.png", "coffee.jpg")):
        shutil.copy(images / photograph, tmp_path / name)
    (tmp_path / "latency.json").write_text(
        make_latency_record(make_latency("demo.onnx", 20)).to_json()
    )
    monkeypatch.chdir(tmp_path)
    (code,) = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    exec(compile(code, page, "exec"), {})
    assert capsys.readouterr().out.strip()
