"""Measures how many image files are classified per second."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import tinyvit

_WARM_UP = 16


def main() -> None:
    """Print the rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="artifact that predicts")
    parser.add_argument("folder", type=Path, help="folder of image files")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--streams", type=int, default=1, help="the first states have no streams")
    args = parser.parse_args()
    paths = sorted(args.folder.iterdir())
    streams = {"streams": args.streams} if args.streams > 1 else {}
    with tinyvit.Classifier(args.file, threads=args.threads, **streams) as classifier:
        classifier.predict(paths[:_WARM_UP])
        start_s = time.perf_counter()
        classifier.predict(paths)
        seconds = time.perf_counter() - start_s
    print(json.dumps({"images_per_s": len(paths) / seconds, "package": tinyvit.__file__}))


if __name__ == "__main__":
    main()
