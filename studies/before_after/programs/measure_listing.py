"""Measures the time and the memory of a list of labeled images, none of which is read.

`tinyvit-bench accuracy` opens its images in this way. The memory is the growth of the process.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import tinyvit
from tinyvit.data.dataset import DatasetLocation, open_dataset
from tinyvit.data.dataset_matching import match_dataset
from tinyvit.runtimes.artifact import read_artifact


def main() -> None:
    """Print the time and the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="artifact with the labels")
    parser.add_argument("folder", help="folder with one folder of images for each class")
    args = parser.parse_args()
    manifest = read_artifact(args.file).manifest
    assert manifest is not None  # tinyvit-export wrote the file
    Path("/proc/self/clear_refs").write_text("5")  # man 5 proc_pid_clear_refs
    before_bytes = _read_peak_bytes()
    start_s = time.perf_counter()
    matched = match_dataset(open_dataset(DatasetLocation(args.folder)), manifest.labels)
    seconds = time.perf_counter() - start_s
    grown_mib = (_read_peak_bytes() - before_bytes) / 2**20
    del matched
    print(json.dumps({"seconds": seconds, "mib": grown_mib, "package": tinyvit.__file__}))


def _read_peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
