"""Measures one prediction of a C++ program on one core, by the times that it prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

_TIMES = re.compile(
    r"decoding (\d{1,9}\.\d{1,3}) ms, resizing and network (\d{1,9}\.\d{1,3}) ms \(\d{1,9} runs\)"
)


def main() -> None:
    """Run the program `sys.argv[1]` with the other arguments, and print its times."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    output = subprocess.run(sys.argv[1:], check=True, stdout=subprocess.PIPE, text=True).stdout
    match = _TIMES.search(output)
    if match is None:
        raise SystemExit("the program printed no times")
    decoding_ms, rest_ms = float(match[1]), float(match[2])
    result = {"decoding_ms": decoding_ms, "rest_ms": rest_ms, "total_ms": decoding_ms + rest_ms}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
