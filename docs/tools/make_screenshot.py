"""Make the documentation's image of a benchmark report.

    python docs/tools/make_screenshot.py RECORD... -o docs/images/report.png

`tinyvit-bench report` makes a page of the records (JSON files of tinyvit-bench), and Chromium takes
the screenshot. This needs Chromium (Debian's package chromium) and tinyvit-edge[bench].
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tinyvit.bench import cli

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""Names of the browser's program in different distributions."""

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
    "--hide-scrollbars",
)
_TIMEOUT_S = 120


def find_browser() -> str | None:
    """Return the path of the first installed browser of `_BROWSERS`."""
    for name in _BROWSERS:
        if path := shutil.which(name):
            return path
    return None


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description="Make an image of a report.")
    add = parser.add_argument
    add("records", nargs="+", metavar="RECORD", help="Records to report.")
    add("-o", "--output", type=Path, required=True, metavar="PNG", help="Image to write.")
    add("--width", type=int, default=1280, metavar="PX", help="Width in pixels (default: 1280).")
    add("--height", type=int, default=960, metavar="PX", help="Height in pixels (default: 960).")
    add("--dark", action="store_true", help="Show the page in dark mode.")
    args = parser.parse_args()
    browser = find_browser()
    if browser is None:
        print("error: Chromium is not installed: apt-get install chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        exit_code = cli.main(["report", *args.records, "-o", str(page)])
        if exit_code != 0:
            return exit_code
        command = [
            browser,
            *_FLAGS,
            f"--window-size={args.width},{args.height}",
            f"--user-data-dir={folder}/profile",
            f"--screenshot={args.output.resolve()}",
            # Chromium's number of the dark mode is 0.
            *(["--blink-settings=preferredColorScheme=0"] if args.dark else []),
            page.as_uri(),
        ]
        return subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S).returncode


if __name__ == "__main__":
    sys.exit(main())
