"""Take screenshots of the web page at the sizes of a computer's and a phone's screen.

    python examples/web/screenshot.py -o docs/images

Build the page first, with the model in public/ (see README.md). This needs `pip install playwright`
and Chromium (Debian's package chromium).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).resolve().parent

VIEWPORTS = {"web.png": (1000, 640), "web-phone.png": (390, 844)}
"""File name of a screenshot -> width and height of the viewport in pixels."""

CHROMIUM_FLAGS = (
    "--no-sandbox",  # the sandbox does not work for root, for example in a container
    "--use-fake-device-for-media-stream",  # a camera that shows a test image
    "--use-fake-ui-for-media-stream",  # permission to use the camera, without a dialog
)

START_TIMEOUT_S = 60
"""How long the server of the page may take to start."""

TIMEOUT_MS = 60_000
"""How long the page may take to show predictions."""


@contextmanager
def serve_page(folder: Path) -> Iterator[str]:
    """Serve the built page of this example or of a copy of this example.

    Args:
        folder: The folder that contains node_modules/ and dist/.

    Yields:
        The address of the page. The server stops at the end.

    Raises:
        SystemExit: The server does not start.
    """
    vite = folder / "node_modules" / "vite" / "bin" / "vite.js"
    command = ["node", str(vite), "preview", "--port", "0", "--host", "127.0.0.1"]
    environment = {**os.environ, "NO_COLOR": "1"}
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        # A server that prints no address is killed, which ends the search for it.
        timer = threading.Timer(START_TIMEOUT_S, server.kill)
        timer.start()
        try:
            assert server.stdout is not None
            # Vite prints a line that ends with the address.
            addresses = (line.split()[-1] for line in server.stdout if "http://" in line)
            address = next(addresses, None)
            timer.cancel()
            if address is None:
                raise SystemExit(
                    f"error: vite ended without serving {folder}: run 'npm ci' and 'npm run build'"
                    " there"
                )
            yield address
        finally:
            timer.cancel()
            server.kill()


@contextmanager
def open_page(width: int, height: int) -> Iterator[Page]:
    """Open an empty page in Debian's Chromium, with a camera that shows a test image.

    Args:
        width: Width of the viewport in pixels.
        height: Height of the viewport in pixels.

    Yields:
        The page. The browser closes at the end.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(CHROMIUM_FLAGS)
        )
        try:
            yield browser.new_page(viewport={"width": width, "height": height})
        finally:
            browser.close()


def take_screenshots(url: str, folder: Path) -> None:
    """Classify the example image of a cup of coffee, and write a screenshot for each viewport.

    Args:
        url: The address of the page.
        folder: An existing folder for the screenshots.
    """
    for name, (width, height) in VIEWPORTS.items():
        with open_page(width, height) as page:
            page.goto(url)
            page.click("#coffee")
            page.wait_for_selector("#predictions:not([hidden])", timeout=TIMEOUT_MS)
            page.screenshot(path=folder / name, full_page=True)


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description="Take screenshots of the built page.")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="Folder to write to."
    )
    folder = parser.parse_args().output
    with serve_page(HERE) as url:
        take_screenshots(url, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
