"""The README's picture of a report: records -> tinyvit-bench report -> Chromium -> a PNG.

    python docs/make_screenshot.py RECORD... -o docs/images/report.png

Needs Chromium (Debian's package chromium) and tinyvit-edge[bench].
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tinyvit.bench import cli

_FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync --hide-scrollbars"


def main() -> int:
    """The command; returns its exit code."""
    made = argparse.ArgumentParser(description="Make a picture of a report.")
    made.add_argument("records", nargs="+")
    made.add_argument("-o", "--output", type=Path, required=True)
    made.add_argument("--width", type=int, default=1280, help="pixels; default 1280")
    made.add_argument("--height", type=int, default=960, help="pixels; default 960")
    made.add_argument("--dark", action="store_true", help="as a system in dark mode shows it")
    args = made.parse_args()
    browser = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if browser is None:
        print("error: Chromium is not installed: apt-get install chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        if code := cli.main(["report", *args.records, "-o", str(page)]):
            return code
        shown = [
            f"--window-size={args.width},{args.height}",
            f"--user-data-dir={folder}/profile",
            f"--screenshot={args.output.resolve()}",
        ]
        scheme = ["--blink-settings=preferredColorScheme=0"] if args.dark else []
        return subprocess.run(
            [browser, *_FLAGS.split(), *shown, *scheme, page.as_uri()],
            capture_output=True,
            timeout=120,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
