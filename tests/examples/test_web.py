"""The page in Chromium, built and served as its README says: Python's answers, messages for what is no picture, keyboard and phone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from tests.helpers.image_files import save_crops
from tests.helpers.scripts import load_script

pytest.importorskip("torch", reason="exporting needs tinyvit-edge[export]")
pytest.importorskip("playwright", reason="pip install playwright")

ROOT = Path(__file__).parents[2]
WEB = ROOT / "examples" / "web"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    for tool in ("npm", "chromium"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}: apt-get install {tool}")
    return load_script(WEB / "screenshot.py")


@pytest.fixture(scope="module")
def models(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with preprocessing inside: model.onnx, and in int8 model.int8.onnx."""
    from tinyvit.export import ExportConfig, export
    from tinyvit.quant.accuracy_budget import AccuracyBudget
    from tinyvit.quant.quantizer import QuantizationConfig

    folder, calib = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("calib")
    save_crops(images, calib, 32)
    asked = QuantizationConfig(
        calib_data=calib, budget=AccuracyBudget(max_drop=100, min_agreement=0)
    )
    config = ExportConfig(model="demo", preprocess="full", output=folder / "model.onnx")
    export(config)
    export(replace(config, output=folder / "model.int8.onnx", quantization=asked))
    return folder


@pytest.fixture(scope="module")
def url(
    example: ModuleType, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The built page, served with the headers that threads need."""
    there = tmp_path_factory.mktemp("examples") / "web"
    left_out = shutil.ignore_patterns("node_modules", "dist", "public")
    shutil.copytree(WEB, there, ignore=left_out)
    shutil.copytree(WEB.parent / "images", there.parent / "images")
    shutil.copytree(models, there / "public")
    got = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund"], cwd=there, capture_output=True, text=True
    )
    if got.returncode and "network" in got.stderr:
        pytest.skip("npm ci did not reach the registry")
    assert got.returncode == 0, got.stderr
    subprocess.run(["npm", "run", "build"], cwd=there, check=True, capture_output=True)
    with example.served(there) as address:
        yield address


@pytest.fixture
def page(example: ModuleType, url: str) -> Iterator[Any]:
    """The page as a phone shows it, with nothing asked of any other host."""
    with example.browser(390, 844) as opened:
        elsewhere: list[str] = []
        opened.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((url, "blob:", "data:"))
                else elsewhere.append(request.url)
            ),
        )
        opened.goto(url)
        yield opened
        assert not elsewhere


def answer(page: Any, said: str = "") -> dict[str, float]:
    """{label: score} once the times are there, and others than before."""
    page.wait_for_function(
        "before => { const now = document.querySelector('#times').textContent; return now && now !== before }",
        arg=said,
    )
    found = page.eval_on_selector_all(
        "#results li", "all => all.map(li => [li.firstChild.textContent, Number(li.dataset.score)])"
    )
    return dict(found)


@pytest.mark.parametrize("name", ["cat.jpg", "coffee.jpg"])
def test_labels_and_scores_are_those_of_python(
    page: Any, images: Path, models: Path, name: str
) -> None:
    from tinyvit import Classifier

    page.set_input_files("#file", images / name)
    seen = answer(page)
    with Classifier(models / "model.onnx") as classifier:
        expected = {one.label: one.score for one in classifier.predict(images / name)}
    assert list(seen) == list(expected)
    assert seen == pytest.approx(expected, abs=0.01)
    assert page.evaluate("crossOriginIsolated"), "no threads"


@pytest.mark.parametrize(
    ("event", "data"),
    [("DragEvent('drop'", "dataTransfer"), ("ClipboardEvent('paste'", "clipboardData")],
)
def test_a_picture_is_dropped_and_pasted(page: Any, event: str, data: str) -> None:
    page.evaluate(
        f"""async () => {{
            const picture = await (await fetch(document.querySelector('#coffee img').src)).blob();
            const given = new DataTransfer();
            given.items.add(new File([picture], 'coffee.jpg', {{ type: 'image/jpeg' }}));
            document.dispatchEvent(new {event}, {{ {data}: given, cancelable: true }}));
        }}"""
    )
    assert next(iter(answer(page))) == "espresso"


def test_a_phones_photograph_is_taken_whole_and_turned(
    page: Any, images: Path, models: Path, tmp_path: Path
) -> None:
    from tinyvit import Classifier

    photo, turned = tmp_path / "photo.jpg", Image.Exif()
    turned[0x0112] = 6
    with Image.open(images / "coffee.jpg") as opened:
        opened.resize((4032, 3024)).save(photo, exif=turned)
    page.set_input_files("#file", photo)
    seen = answer(page)
    with Classifier(models / "model.onnx") as classifier:
        assert seen == pytest.approx(
            {one.label: one.score for one in classifier.predict(photo)}, abs=0.01
        )
    assert "first" not in page.inner_text("#times")


def test_the_switch_changes_the_file(page: Any, images: Path, models: Path) -> None:
    from tinyvit import Classifier

    page.set_input_files("#file", images / "coffee.jpg")
    first = answer(page)
    page.check("#int8")
    page.wait_for_function("document.querySelector('#status').textContent.includes('int8')")
    page.wait_for_function(
        "score => document.querySelector('#results li').dataset.score != score",
        arg=str(first["espresso"]),
    )
    with Classifier(models / "model.int8.onnx") as classifier:
        best = classifier.predict(images / "coffee.jpg")[0]
    assert answer(page)["espresso"] == pytest.approx(best.score, abs=0.01)


def test_what_is_no_picture_gets_a_message(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("not a picture")
    page.set_input_files("#file", tmp_path / "notes.jpg")
    page.wait_for_selector("#status.error")
    assert "notes.jpg is not a picture" in page.inner_text("#status")
    assert page.is_hidden("#answer")


def test_a_file_that_leaves_resizing_to_its_caller_is_refused(
    page: Any, demo: dict[str, Path]
) -> None:
    page.route("**/model.onnx", lambda route: route.fulfill(path=demo["onnx"]))
    page.reload()
    page.wait_for_selector("#status.error")
    assert "tinyvit-export --preprocess full" in page.inner_text("#status")


def test_everything_is_reached_by_keyboard_and_fits_a_phone(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
    assert reached[:4] == ["file", "camera", "cat", "coffee"]
    assert "precision" in reached or "int8" in reached
    page.focus("#coffee")
    page.keyboard.press("Enter")
    assert next(iter(answer(page))) == "espresso"


def test_the_camera_is_classified_until_it_is_stopped(page: Any) -> None:
    page.click("#camera")
    said = page.text_content("#times")
    answer(page, said)
    assert page.is_visible("#video")
    page.click("#camera")
    page.wait_for_selector("#video", state="hidden")
