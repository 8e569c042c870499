"""What a new process pays: to import, to open a file, to answer once.

    python -m tinyvit.bench.latency.cold_start FILE [--runtime R] [--threads N]

Prints one JSON object. The file's bytes may lie in the system's cache, as after a first start since boot.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

from tinyvit.bench.record import ColdStart
from tinyvit.errors import ArtifactError, TinyViTError
from tinyvit.serialization import parse_dataclass

_RUNS = 10
"""After the first answer, so that the peak of memory is that of running."""
_TIMEOUT_S = 600


def measure_cold_start(path: str, options: Sequence[str], times: int = 3) -> ColdStart:
    """Medians of `times` new processes. options: as this module's command takes them. Raises ArtifactError where one fails."""
    command = [sys.executable, "-m", "tinyvit.bench.latency.cold_start", path, *options]
    found = []
    for _ in range(times):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
            found.append(parse_dataclass(ColdStart, json.loads(done.stdout)))
        except (subprocess.TimeoutExpired, ValueError) as error:
            said = (
                (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
                if isinstance(error, ValueError)
                else "it took too long"
            )
            raise ArtifactError(
                f"a new process cannot run {path} ({said})", "see whether tinyvit-verify can"
            ) from error
    peaks = [one.peak_memory_bytes for one in found if one.peak_memory_bytes is not None]
    return ColdStart(
        import_ms=statistics.median(one.import_ms for one in found),
        load_ms=statistics.median(one.load_ms for one in found),
        first_inference_ms=statistics.median(one.first_inference_ms for one in found),
        peak_memory_bytes=max(peaks) if peaks else None,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    made = argparse.ArgumentParser(
        prog="python -m tinyvit.bench.latency.cold_start", description="Time a cold start."
    )
    made.add_argument("file")
    made.add_argument("--runtime")
    made.add_argument("--threads", type=int)
    made.add_argument("--device", default="auto")
    args = made.parse_args(argv)
    try:
        print(json.dumps(asdict(_measure(args))))
    except TinyViTError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _measure(args: argparse.Namespace) -> ColdStart:
    begun = time.perf_counter()
    from importlib import import_module

    from tinyvit.bench.latency.workload import network_query, open_workload, pictures_per_query
    from tinyvit.runtimes.artifact import detect_format
    from tinyvit.runtimes.base import RuntimeOptions
    from tinyvit.runtimes.registry import engines_for_format, get_engine

    name = args.runtime or engines_for_format(detect_format(args.file))[0]
    with suppress(ImportError):  # opening says it better
        import_module(get_engine(name).PACKAGE)
    imported = time.perf_counter()
    with open_workload(args.file, name, RuntimeOptions(args.device, args.threads)) as opened:
        loaded = time.perf_counter()
        query = network_query(opened, pictures_per_query(opened, None, 1))
        prepared = time.perf_counter()
        query()
        answered = time.perf_counter()
        for _ in range(_RUNS):
            query()
    from tinyvit.bench.machine import (
        read_peak_memory_bytes,
    )  # only now: what it imports belongs to no one's time

    return ColdStart(
        (imported - begun) * 1e3,
        (loaded - imported) * 1e3,
        (answered - prepared) * 1e3,
        read_peak_memory_bytes(),
    )


if __name__ == "__main__":
    sys.exit(main())
