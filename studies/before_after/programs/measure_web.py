"""Measures a built web page with the script examples/web/measure.py."""

from __future__ import annotations

import json
import subprocess
import sys


def main() -> None:
    """Run the script `sys.argv[1]` with the other arguments, and print its times."""
    command = [sys.executable, *sys.argv[1:], "--json"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    times = json.loads(output)
    photographs = times.pop("photographs")
    print(json.dumps({**times, **(photographs[0] if photographs else {})}))


if __name__ == "__main__":
    main()
