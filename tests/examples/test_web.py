"""The web page works in Chromium, built and served as its README says.

Its predictions are compared with those of Python, and its messages, keyboard control and layout on
a phone are checked.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
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

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WEB = ROOT / "examples" / "web"
PHONE = (390, 844)
EXIF_ORIENTATION, ROTATED = 0x0112, 6
MULTIPLICATION_SIGN = "\N{MULTIPLICATION SIGN}"
MODEL_LOADING_MS = 2500
"""A time in milliseconds in which the page usually loads the model."""


@pytest.fixture(scope="module")
def screenshot() -> ModuleType:
    """The script of the example that serves the page and opens it."""
    for tool in ("npm", "chromium"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}: apt-get install {tool}")
    return load_script(WEB / "screenshot.py")


@pytest.fixture(scope="module")
def models(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo model and its preprocessing as model.onnx and model.int8.onnx."""
    from tinyvit.export import ExportConfig, export
    from tinyvit.quant.accuracy_budget import AccuracyBudget
    from tinyvit.quant.quantizer import QuantizationConfig

    folder, calib_data = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("calib")
    save_crops(images, calib_data, 32)
    quantization = QuantizationConfig(
        calib_data=calib_data, budget=AccuracyBudget(max_drop=100, min_agreement=0)
    )
    config = ExportConfig(model="demo", preprocess="full", output_path=folder / "model.onnx")
    export(config)
    export(replace(config, output_path=folder / "model.int8.onnx", quantization=quantization))
    return folder


@pytest.fixture(scope="module")
def built(screenshot: ModuleType, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built page."""
    web = tmp_path_factory.mktemp("examples") / "web"
    shutil.copytree(WEB, web, ignore=shutil.ignore_patterns("node_modules", "dist", "public"))
    shutil.copytree(WEB.parent / "images", web.parent / "images")
    shutil.copytree(models, web / "public")
    install = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund"], cwd=web, capture_output=True, text=True
    )
    if install.returncode and "network" in install.stderr:
        pytest.skip("npm ci did not reach the registry")
    assert install.returncode == 0, install.stderr
    subprocess.run(["npm", "run", "build"], cwd=web, check=True, capture_output=True)
    return web


@pytest.fixture(scope="module")
def url(screenshot: ModuleType, built: Path) -> Iterator[str]:
    """The address of the built page, served with the headers that threads need."""
    with screenshot.serve_page(built) as address:
        yield address


@pytest.fixture
def page(screenshot: ModuleType, url: str) -> Iterator[Any]:
    """The page on a phone. At the end, it must not have sent a request to any other host."""
    with screenshot.open_page(*PHONE) as page:
        other_hosts: list[str] = []

        def record_request(request: Any) -> None:
            if not request.url.startswith((url, "blob:", "data:")):
                other_hosts.append(request.url)

        page.on("request", record_request)
        page.goto(url)
        yield page
        assert not other_hosts


def test_a_server_that_does_not_start_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\necho no such module\nexit 1\n")
    node.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    script = load_script(WEB / "screenshot.py")
    with (
        pytest.raises(SystemExit, match="vite ended without serving"),
        script.serve_page(tmp_path),
    ):
        pass


def wait_for_scores(page: Any, previous_timings: str = "") -> dict[str, float]:
    """Wait until the page shows timings other than the previous ones; return label -> score."""
    page.wait_for_function(
        """previous => {
            const timings = document.querySelector('#timings').textContent;
            return timings && timings !== previous;
        }""",
        arg=previous_timings,
    )
    scores = page.eval_on_selector_all(
        "#prediction-list li",
        "items => items.map(li => [li.firstChild.textContent, Number(li.dataset.score)])",
    )
    return dict(scores)


def predict_scores(model: Path, image: Path) -> dict[str, float]:
    """Return label -> score of the Python package, the most probable class first."""
    from tinyvit import Classifier

    with Classifier(model) as classifier:
        return {prediction.label: prediction.score for prediction in classifier.predict(image)}


@pytest.mark.parametrize("name", ["cat.jpg", "coffee.jpg"])
def test_labels_and_scores_are_those_of_python(
    page: Any, images: Path, models: Path, name: str
) -> None:
    page.set_input_files("#file", images / name)
    scores = wait_for_scores(page)
    expected = predict_scores(models / "model.onnx", images / name)
    assert list(scores) == list(expected)
    assert scores == pytest.approx(expected, abs=0.01)
    assert page.evaluate("crossOriginIsolated"), "no threads"


@pytest.mark.parametrize(
    ("event", "transfer"),
    [("DragEvent('drop'", "dataTransfer"), ("ClipboardEvent('paste'", "clipboardData")],
)
def test_an_image_is_dropped_and_pasted(page: Any, event: str, transfer: str) -> None:
    page.evaluate(
        f"""async () => {{
            const image = await (await fetch(document.querySelector('#coffee img').src)).blob();
            const transfer = new DataTransfer();
            transfer.items.add(new File([image], 'coffee.jpg', {{ type: 'image/jpeg' }}));
            document.dispatchEvent(new {event}, {{ {transfer}: transfer, cancelable: true }}));
        }}"""
    )
    assert next(iter(wait_for_scores(page))) == "espresso"


@pytest.mark.parametrize(
    ("size", "reduced_size"), [((4032, 3024), "756 {} 1008"), ((4031, 3024), None)]
)
def test_a_phones_photograph_is_reduced_and_its_orientation_is_applied(
    page: Any,
    images: Path,
    models: Path,
    tmp_path: Path,
    size: tuple[int, int],
    reduced_size: str | None,
) -> None:
    photograph, exif = tmp_path / "photograph.jpg", Image.Exif()
    exif[EXIF_ORIENTATION] = ROTATED
    with Image.open(images / "coffee.jpg") as coffee:
        coffee.resize(size).save(photograph, exif=exif)
    page.set_input_files("#file", photograph)
    scores = wait_for_scores(page)
    expected = predict_scores(models / "model.onnx", photograph)
    assert scores == pytest.approx(expected, abs=0.01)
    timings = page.inner_text("#timings")
    if reduced_size is None:
        assert "reducing" not in timings
    else:
        assert f"reducing to {reduced_size.format(MULTIPLICATION_SIGN)}" in timings


def test_an_image_over_13_megapixels_is_reduced(page: Any, images: Path, tmp_path: Path) -> None:
    with Image.open(images / "coffee.jpg") as coffee:
        coffee.resize((4401, 3300)).save(tmp_path / "large.jpg")
    page.set_input_files("#file", tmp_path / "large.jpg")
    assert next(iter(wait_for_scores(page))) == "espresso"
    assert f"reducing to 4163 {MULTIPLICATION_SIGN} 3122" in page.inner_text("#timings")


def test_the_page_says_what_the_demo_is_and_requests_nothing_that_is_missing(
    screenshot: ModuleType, url: str
) -> None:
    with screenshot.open_page(*PHONE) as page:
        missing: list[str] = []

        def record_response(response: Any) -> None:
            if response.status >= 400:
                missing.append(response.url)

        page.on("response", record_response)
        page.goto(url)
        page.wait_for_function("document.querySelector('#status').textContent.includes('demo')")
        page.wait_for_function("!document.querySelector('#int8').disabled")
        status = page.inner_text("#status")
        assert "This is the demo model of tinyvit-edge, for trying it out. It knows only" in status
        assert "Images of anything else get a wrong label." in status
        assert missing == []


def test_the_switch_changes_the_model(page: Any, images: Path, models: Path) -> None:
    page.set_input_files("#file", images / "coffee.jpg")
    float_scores = wait_for_scores(page)
    page.check("#int8")
    page.wait_for_function("document.querySelector('#status').textContent.includes('int8')")
    page.wait_for_function(
        "score => document.querySelector('#prediction-list li').dataset.score != score",
        arg=str(float_scores["espresso"]),
    )
    expected = predict_scores(models / "model.int8.onnx", images / "coffee.jpg")
    best_score = next(iter(expected.values()))
    assert wait_for_scores(page)["espresso"] == pytest.approx(best_score, abs=0.01)


def test_a_file_that_is_no_image_gets_a_message(page: Any, tmp_path: Path) -> None:
    requests: list[Any] = []
    # The model is not sent before the error is shown.
    page.route("**/model.onnx", lambda request: requests.append(request))
    page.reload()
    (tmp_path / "notes.jpg").write_text("not an image")
    page.set_input_files("#file", tmp_path / "notes.jpg")
    page.wait_for_selector("#status.error")
    assert "notes.jpg is not an image" in page.inner_text("#status")
    assert page.is_hidden("#predictions")
    requests[0].continue_()
    page.wait_for_timeout(MODEL_LOADING_MS)
    assert "notes.jpg is not an image" in page.inner_text("#status"), "replaced by the model's text"


def test_the_next_image_replaces_the_message_by_the_models_description(
    page: Any, images: Path, tmp_path: Path
) -> None:
    page.set_input_files("#file", images / "coffee.jpg")
    wait_for_scores(page)
    description = page.inner_text("#status")
    assert "This is the demo model" in description
    (tmp_path / "notes.jpg").write_text("not an image")
    page.set_input_files("#file", tmp_path / "notes.jpg")
    page.wait_for_selector("#status.error")
    assert page.is_hidden("#image"), "the previous photograph beside the message"
    page.set_input_files("#file", images / "cat.jpg")
    page.wait_for_selector("#predictions", state="visible")
    assert page.inner_text("#status") == description
    assert page.is_visible("#image")


def test_a_model_that_leaves_resizing_to_its_caller_is_refused(
    page: Any, demo: dict[str, Path]
) -> None:
    page.route("**/model.onnx", lambda route: route.fulfill(path=demo["onnx"]))
    page.reload()
    page.wait_for_selector("#status.error")
    assert "tinyvit-export --preprocess full" in page.inner_text("#status")


def test_everything_is_reached_by_keyboard_and_fits_a_phone(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    focused = []
    for _ in range(6):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
    assert focused[:4] == ["file", "camera", "cat", "coffee"]
    assert "precision" in focused or "int8" in focused
    page.focus("#coffee")
    page.keyboard.press("Enter")
    assert next(iter(wait_for_scores(page))) == "espresso"


def test_the_camera_is_classified_until_it_is_stopped(page: Any) -> None:
    page.click("#camera")
    timings = page.text_content("#timings")
    wait_for_scores(page, timings)
    assert page.is_visible("#video")
    page.click("#camera")
    page.wait_for_selector("#video", state="hidden")


def test_the_times_of_a_page_in_another_folder_are_measured(built: Path, images: Path) -> None:
    options = ["--page", built, "--runs", "1", "--browsers", "1", "--json"]
    command = [sys.executable, WEB / "measure.py", images / "coffee.jpg", *options]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    times = json.loads(result.stdout)
    (photograph,) = times["photographs"]
    assert photograph["name"] == "coffee.jpg"
    assert photograph["network_ms"] > 0
    assert times["first_image_ms"] > 0
    assert times["first_prediction_s"] > 0
