"""Measure how long the stages of a prediction take in the web page.

    python examples/web/measure.py photo.jpg large.jpg --runs 30

Build the page first, with the models in public/ (see README.md). This needs `pip install
playwright` and Chromium (Debian's package chromium). Each photograph is classified many times
before the next one, because the runtime plans its memory again whenever the size of the image
changes. Two times are measured in new browsers: the first prediction includes loading the page and
the float32 model, and the first image is chosen when this model has been loaded. --page measures
another copy of this example, and --json prints the times for programs.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page
from screenshot import HERE, TIMEOUT_MS, open_page, serve_page

VIEWPORT = (1000, 640)
"""Width and height of the page in pixels."""

PRECISIONS = ("float32", "int8")
"""The models that the page offers, by the values of their radio buttons."""

FIRST_RUNS = 7
"""Usual number of new browsers for each of the two times that are measured in new ones."""

_TIMINGS = re.compile(r"Decoding.*?: (\d+) ms .* Resizing and network: (\d+) ms")

Times = dict[Path, list[tuple[int, int]]]
"""Photograph -> for each run, the milliseconds of decoding, and of resizing with the network."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("--runs", type=int, default=30, help="predictions for each photograph")
    parser.add_argument("--browsers", type=int, default=FIRST_RUNS, help="new browsers")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="int8", help="the model to measure"
    )
    parser.add_argument("--page", type=Path, default=HERE, help="folder of the built page")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main() -> int:
    """Run the command and return its exit code."""
    arguments = make_parser().parse_args()
    with serve_page(arguments.page.resolve()) as address:
        photograph = arguments.photographs[0]
        result = measure_in_new_browsers(address, photograph, arguments.browsers)
        times: Times = {}
        if arguments.runs:
            with open_page(*VIEWPORT) as page:
                page.goto(address)
                select_model(page, arguments.precision)
                times = measure(page, arguments.photographs, arguments.runs)
    photographs = [
        {"name": path.name, "decoding_ms": decoding_ms, "network_ms": network_ms}
        for path, (decoding_ms, network_ms) in compute_medians(times).items()
    ]
    if arguments.json:
        print(json.dumps({**result, "photographs": photographs}))
        return 0
    if result:
        print(
            f"in new browsers (float32, medians of {arguments.browsers}): first prediction"
            f" {result['first_prediction_s']:.2f} s after opening the page, first image"
            f" {result['first_image_ms']:.0f} ms after choosing it"
        )
    for times_of_one in photographs:
        print(
            f"{times_of_one['name']}: decoding {times_of_one['decoding_ms']:.0f} ms, resizing and "
            f"network {times_of_one['network_ms']:.0f} ms ({arguments.precision}, medians of "
            f"{arguments.runs} runs)"
        )
    return 0


def measure_in_new_browsers(address: str, photograph: Path, browsers: int) -> dict[str, float]:
    """Return the medians of the times that are measured in new browsers; none without browsers.

    Args:
        address: The address of the page.
        photograph: An image file.
        browsers: Number of browsers for each time.
    """
    if not browsers:
        return {}

    def find_median(function: Callable[[str, Path], float]) -> float:
        return statistics.median(function(address, photograph) for _ in range(browsers))

    return {
        "first_prediction_s": find_median(measure_first_prediction),
        "first_image_ms": find_median(measure_first_image),
    }


def compute_medians(times: Times) -> dict[Path, tuple[float, float]]:
    """Return the median milliseconds of decoding, and of resizing with the network.

    Args:
        times: The times of each photograph.
    """
    return {
        path: (
            statistics.median(decoding_ms for decoding_ms, _ in pairs),
            statistics.median(network_ms for _, network_ms in pairs),
        )
        for path, pairs in times.items()
    }


def measure_first_prediction(address: str, photograph: Path) -> float:
    """Return the seconds from opening the page in a new browser to its first prediction.

    Args:
        address: The address of the page.
        photograph: An image file, which is chosen as soon as the page has loaded its code.
    """
    with open_page(*VIEWPORT) as page:
        start_s = time.perf_counter()
        page.goto(address, wait_until="domcontentloaded")
        page.set_input_files("#file", photograph)
        page.wait_for_function(
            "document.querySelector('#timings').textContent !== ''", timeout=TIMEOUT_MS
        )
        return time.perf_counter() - start_s


def measure_first_image(address: str, photograph: Path) -> float:
    """Return the milliseconds that the page states for the first image after loading its model.

    Args:
        address: The address of the page.
        photograph: An image file.
    """
    with open_page(*VIEWPORT) as page:
        page.goto(address)
        wait_for_model(page)
        return sum(classify(page, photograph))


def wait_for_model(page: Page) -> None:
    """Wait until the page has loaded its first model.

    Args:
        page: The page of this example.
    """
    page.wait_for_function(
        "document.querySelector('#status').textContent.includes('It runs in')", timeout=TIMEOUT_MS
    )


def classify(page: Page, photograph: Path) -> tuple[int, int]:
    """Classify an image; return the milliseconds of decoding, and of resizing with the network.

    Args:
        page: The page, with a loaded model.
        photograph: An image file.
    """
    page.evaluate("document.querySelector('#timings').textContent = ''")
    page.set_input_files("#file", photograph)
    page.wait_for_function(
        "document.querySelector('#timings').textContent !== ''", timeout=TIMEOUT_MS
    )
    match = _TIMINGS.fullmatch(page.inner_text("#timings"))
    assert match is not None, page.inner_text("#timings")
    return int(match[1]), int(match[2])


def select_model(page: Page, precision: str) -> None:
    """Select a model, and wait until it is loaded.

    Args:
        page: The page of this example.
        precision: One of PRECISIONS.
    """
    wait_for_model(page)
    page.check(f"input[name=precision][value={precision}]")
    page.wait_for_function(
        "precision => document.querySelector('#status').textContent.includes(precision)",
        arg=precision,
    )


def measure(page: Page, photographs: list[Path], runs: int) -> Times:
    """Classify each photograph several times. The first time is not counted.

    Args:
        page: The page, with a loaded model.
        photographs: The image files.
        runs: Number of times that are counted.
    """
    times: Times = {path: [] for path in photographs}
    for path in photographs:
        for run in range(runs + 1):
            pair = classify(page, path)
            if run:
                times[path].append(pair)
    return times


if __name__ == "__main__":
    sys.exit(main())
