"""Measure how long the stages of a prediction take in the web page.

    python examples/web/measure.py photo.jpg large.jpg --runs 30

Build the page first, with the models in public/ (see README.md). This needs `pip install
playwright` and Chromium (Debian's package chromium). Each photograph is classified many times
before the next one, because the runtime plans its memory again whenever the size of the image
changes. The first prediction includes loading the page and the float32 model.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from pathlib import Path

from playwright.sync_api import Page
from screenshot import HERE, TIMEOUT_MS, open_page, serve_page

VIEWPORT = (1000, 640)
"""Width and height of the page in pixels."""

PRECISIONS = ("float32", "int8")
"""The models that the page offers, by the values of their radio buttons."""

FIRST_RUNS = 7
"""Number of new browsers in which the first prediction is timed."""

_TIMINGS = re.compile(r"Decoding.*?: (\d+) ms .* Resizing and network: (\d+) ms")

Times = dict[Path, list[tuple[int, int]]]
"""Photograph -> for each run, the milliseconds of decoding, and of resizing with the network."""


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("--runs", type=int, default=30, help="predictions for each photograph")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="int8", help="the model to measure"
    )
    arguments = parser.parse_args()
    with serve_page(HERE) as address:
        first_s = [
            measure_first_prediction(address, arguments.photographs[0]) for _ in range(FIRST_RUNS)
        ]
        with open_page(*VIEWPORT) as page:
            page.goto(address)
            select_model(page, arguments.precision)
            times = measure(page, arguments.photographs, arguments.runs)
    print(
        f"first prediction in a new browser (float32): {statistics.median(first_s):.2f} s (median "
        f"of {FIRST_RUNS} runs)"
    )
    for path, pairs in times.items():
        decoding, running = (statistics.median(values) for values in zip(*pairs))
        print(
            f"{path.name}: decoding {decoding:.0f} ms, resizing and network {running:.0f} ms "
            f"({arguments.precision}, medians of {len(pairs)} runs)"
        )
    return 0


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


def select_model(page: Page, precision: str) -> None:
    """Select a model, and wait until it is loaded.

    Args:
        page: The page of this example.
        precision: One of PRECISIONS.
    """
    page.wait_for_function("document.querySelector('#status').textContent.includes('It runs in')")
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
            page.evaluate("document.querySelector('#timings').textContent = ''")
            page.set_input_files("#file", path)
            page.wait_for_function(
                "document.querySelector('#timings').textContent !== ''", timeout=TIMEOUT_MS
            )
            match = _TIMINGS.fullmatch(page.inner_text("#timings"))
            assert match is not None, page.inner_text("#timings")
            if run:
                times[path].append((int(match[1]), int(match[2])))
    return times


if __name__ == "__main__":
    sys.exit(main())
