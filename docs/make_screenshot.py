"""Makes the README's image of a report: records -> tinyvit-bench report -> Chromium -> a PNG.

    python docs/make_screenshot.py RECORD... -o docs/images/report.png

Needs Chromium (the package chromium on Debian) and tinyvit-edge[bench].
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


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description="Make an image of a report.")
    add = parser.add_argument
    add("records", nargs="+", metavar="RECORD", help="Records to report.")
    add("-o", "--output", type=Path, required=True, metavar="PNG", help="Image to write.")
    add("--width", type=int, default=1280, metavar="PX", help="Width (default: 1280).")
    add("--height", type=int, default=960, metavar="PX", help="Height (default: 960).")
    add("--dark", action="store_true", help="Show the page in dark mode.")
    args = parser.parse_args()
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        print("error: Chromium is not installed: apt-get install chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        if code := cli.main(["report", *args.records, "-o", str(page)]):
            return code
        command = [
            browser,
            *_FLAGS,
            f"--window-size={args.width},{args.height}",
            f"--user-data-dir={folder}/profile",
            f"--screenshot={args.output.resolve()}",
            *(["--blink-settings=preferredColorScheme=0"] if args.dark else []),
            page.as_uri(),
        ]
        return subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S).returncode


if __name__ == "__main__":
    sys.exit(main())
