"""Pictures of the page, wide and as a phone shows it: npm run build first.

    python examples/web/screenshot.py -o docs/images

Needs pip install playwright, Chromium (Debian's package chromium), npm ci, and the model in public/.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).resolve().parent
WIDTHS = {"web.png": (1000, 640), "web-phone.png": (390, 844)}


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of the built page of `folder`, a copy of this example, while it is served."""
    vite = [
        "node",
        str(folder / "node_modules" / "vite" / "bin" / "vite.js"),
        "preview",
        "--port",
        "0",
        "--host",
        "127.0.0.1",
    ]
    with subprocess.Popen(
        vite, cwd=folder, stdout=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"}
    ) as server:
        try:
            assert server.stdout is not None
            yield next(line.split()[-1] for line in server.stdout if "http://" in line)
        finally:
            server.terminate()


@contextmanager
def browser(width: int, height: int) -> Iterator[Page]:
    """An empty page of Debian's Chromium, with a camera that shows a test picture."""
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", *camera]
        )
        try:
            yield opened.new_page(viewport={"width": width, "height": height})
        finally:
            opened.close()


def main() -> int:
    """The command; returns its exit code."""
    made = argparse.ArgumentParser(description="Make the pictures of the page.")
    made.add_argument("-o", "--output", type=Path, required=True, help="a folder")
    folder = made.parse_args().output
    with served(HERE) as url:
        for name, (width, height) in WIDTHS.items():
            with browser(width, height) as page:
                page.goto(url)
                page.click("#coffee")
                page.wait_for_selector("#answer:not([hidden])", timeout=60_000)
                page.screenshot(path=folder / name, full_page=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
