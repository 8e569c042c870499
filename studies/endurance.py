"""Records the memory and the file descriptors of long use: many predictions, then many opens.

    python -m tinyvit.studies.endurance FILE... [--predictions N] [--opens N] [--json]

FILE is an artifact (exported model file). One new process predicts a random image N times with it,
and another opens and closes it N times. Neither should need more and more memory. The memory is the
resident memory that Linux reports in /proc, so this command needs Linux.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tinyvit.bench.report.console import format_table_row
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.errors import RequestError
from tinyvit.files.file_io import expand_home
from tinyvit.processes.python_process import protect_worker_processes
from tinyvit.runtimes.classifier import Classifier

_PROGRAM = "python -m tinyvit.studies.endurance"
_PROCESS_FOLDER = Path("/proc/self")
_IMAGE_SIZE = 64
"""Width and height of the image that is predicted, in pixels."""
_SAMPLES = 20
"""Number of samples after the first, at equal distances."""
_WARMUP_SHARE = 0.1
"""Share of the repetitions before which growth is not counted: engines reserve memory for the
first predictions, and the allocator of the C library needs some time to reuse freed memory."""


@dataclass(frozen=True)
class Sample:
    """The state of a process after a number of repetitions.

    Attributes:
        count: Number of repetitions.
        memory_bytes: Resident memory in bytes.
        descriptors: Number of open file descriptors.
        threads: Number of threads.
    """

    count: int
    memory_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Endurance:
    """The samples of one kind of repetition with one artifact.

    Attributes:
        file: Name of the artifact's file.
        engine: Name of the engine.
        action: What was repeated, "predict" or "open".
        seconds: Duration of all repetitions.
        samples: The samples, in order.
    """

    file: str
    engine: str
    action: str
    seconds: float
    samples: tuple[Sample, ...]

    @property
    def growth_bytes(self) -> int:
        """The growth of the memory after `sample_after_warmup`, in bytes."""
        return self.samples[-1].memory_bytes - self.sample_after_warmup.memory_bytes

    @property
    def sample_after_warmup(self) -> Sample:
        """The first sample after a tenth of the repetitions."""
        warmup_count = _WARMUP_SHARE * self.total_count
        return next(sample for sample in self.samples if sample.count >= warmup_count)

    @property
    def total_count(self) -> int:
        """The number of repetitions in all."""
        return self.samples[-1].count


def measure_predictions(path: Path, count: int) -> Endurance:
    """Predict one random image many times in this process.

    Args:
        path: The artifact. Its best installed engine runs it.
        count: Number of predictions, at least 1.

    Returns:
        The samples.

    Raises:
        RequestError: This system has no folder /proc.
        TinyViTError: The artifact cannot be opened or run.
    """
    _require_proc()
    pixels = np.random.default_rng(0).integers(0, 256, (_IMAGE_SIZE, _IMAGE_SIZE, 3), np.uint8)
    image = Image.fromarray(pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files that are not from tinyvit-export
        with Classifier(path) as classifier:
            engine = classifier.describe().runtime.engine
            seconds, samples = _repeat(lambda: classifier.predict(image), count)
    return Endurance(path.name, engine, "predict", seconds, samples)


def measure_opens(path: Path, count: int) -> Endurance:
    """Open and close an artifact many times in this process.

    Args:
        path: The artifact. Its best installed engine opens it.
        count: Number of times, at least 1.

    Returns:
        The samples.

    Raises:
        RequestError: This system has no folder /proc.
        TinyViTError: The artifact cannot be opened.
    """
    _require_proc()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Classifier(path) as classifier:
            engine = classifier.describe().runtime.engine
        seconds, samples = _repeat(lambda: Classifier(path).close(), count)
    return Endurance(path.name, engine, "open", seconds, samples)


def _require_proc() -> None:
    if not _PROCESS_FOLDER.is_dir():
        raise RequestError("this system has no folder /proc", "run this command on Linux")


def _repeat(action: Callable[[], object], count: int) -> tuple[float, tuple[Sample, ...]]:
    """Repeat an action, and return the duration in seconds and the samples."""
    sample_counts = {round(count * number / _SAMPLES) for number in range(1, _SAMPLES + 1)}
    samples = [_take_sample(0)]
    start_s = time.perf_counter()
    for number in range(1, count + 1):
        action()
        if number in sample_counts:
            samples.append(_take_sample(number))
    return time.perf_counter() - start_s, tuple(samples)


def _take_sample(count: int) -> Sample:
    gc.collect()
    resident_pages = int((_PROCESS_FOLDER / "statm").read_text().split()[1])
    return Sample(
        count=count,
        memory_bytes=resident_pages * os.sysconf("SC_PAGE_SIZE"),
        descriptors=len(os.listdir(_PROCESS_FOLDER / "fd")),
        threads=len(os.listdir(_PROCESS_FOLDER / "task")),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code, 0.
    """
    parser = make_parser(
        _PROGRAM,
        "Record the memory and the file descriptors of many predictions and opens.",
        f"  {_PROGRAM} demo.onnx demo.xml",
    )
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="artifact, an exported model file")
    add(
        "--predictions",
        type=positive_int,
        default=1_000_000,
        metavar="N",
        help="predictions for each file (default: %(default)s)",
    )
    add(
        "--opens",
        type=positive_int,
        default=2_000,
        metavar="N",
        help="times that each file is opened and closed (default: %(default)s)",
    )
    add("--json", action="store_true", help="print all samples, one JSON object for each line")
    options = parser.parse_args(argv)
    return run_guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    context = multiprocessing.get_context("spawn")
    for file in options.files:
        for measure, count in (
            (measure_predictions, options.predictions),
            (measure_opens, options.opens),
        ):
            # A pool ends after one task, so that every measurement has a new process.
            with protect_worker_processes(), context.Pool(1) as pool:
                result = pool.apply(measure, (expand_home(file), count))
            text = json.dumps(asdict(result)) if options.json else format_endurance(result)
            print(text, flush=True)
    return 0


def format_endurance(result: Endurance) -> str:
    """Format the samples as a row of a Markdown table.

    Args:
        result: The samples.

    Returns:
        The file, engine, action, count, the memory in MB at five moments, the growth in MB after
        the first tenth, and the numbers of descriptors and threads at the first tenth and the end.
    """
    samples = result.samples
    quarters = [samples[round(share * (len(samples) - 1))] for share in (0, 0.25, 0.5, 0.75, 1)]
    memory = " / ".join(f"{sample.memory_bytes / 1e6:.0f}" for sample in quarters)
    early, last = result.sample_after_warmup, samples[-1]
    cells = (
        result.file,
        result.engine,
        result.action,
        f"{result.total_count:,}",
        memory,
        f"{result.growth_bytes / 1e6:+.1f}",
        f"{early.descriptors} to {last.descriptors}",
        f"{early.threads} to {last.threads}",
    )
    return format_table_row(cells)


if __name__ == "__main__":
    sys.exit(main())
