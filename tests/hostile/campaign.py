"""Tries hostile files with every loader, and prints a table: loader, tried, refused, failed.

    python -m tests.hostile.campaign [--count N] [--loader TEXT]... [--seed N] [--write]

The same seed makes the same files. `--write` puts the table into docs/results/hostile-files.md.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.hostile.child_process import Outcome, Trial, try_file
from tests.hostile.hostile_files import HostileFile, Loader
from tests.hostile.loaders import LOADERS
from tests.hostile.mutations import make_mutation
from tinyvit.data.decoding import map_ahead

WHOLE_COUNT = 10_000
"""Number of files of the whole campaign."""
_PAGE = Path(__file__).parents[2] / "docs" / "results" / "hostile-files.md"
_BEGIN, _END = "<!-- hostile files: begin -->", "<!-- hostile files: end -->"


@dataclass
class LoaderResult:
    """The results of one loader.

    Attributes:
        loader: The loader.
        counts: Number of files by outcome.
        failures: For each failure, the description of the file and the reason.
        longest_s: Longest duration of one file, in seconds.
        most_memory_bytes: Largest growth of the resident memory.
    """

    loader: Loader
    counts: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    failures: list[tuple[HostileFile, str]] = field(default_factory=list)
    longest_s: float = 0
    most_memory_bytes: int = 0

    @property
    def tried(self) -> int:
        """Number of files that were tried."""
        return sum(self.counts.values())

    def add(self, file: HostileFile, trial: Trial) -> None:
        """Add the trial of a file."""
        self.counts[trial.outcome] += 1
        if trial.outcome is Outcome.FAILED:
            self.failures.append((file, trial.reason))
        self.longest_s = max(self.longest_s, trial.seconds)
        self.most_memory_bytes = max(self.most_memory_bytes, trial.memory_bytes or 0)


def generate_files(loader: Loader, samples: Sequence[Path], seed: int) -> Iterator[HostileFile]:
    """Generate the hostile files of a loader without end: crafted ones first, then mutations."""
    yield from loader.craft(random.Random(f"{loader.name} {seed}"))
    number = 0
    while samples:
        sample, name = samples[number % len(samples)], f"{loader.name} {seed} {number}"
        yield _mutate(loader, sample, name)
        number += 1


def _mutate(loader: Loader, sample: Path, seed: str) -> HostileFile:
    """Make a mutation of a sample in the way of its loader."""
    if loader.mutate_sample is not None:
        return loader.mutate_sample(sample, seed)
    return make_mutation(sample, seed, loader.mutate)


def choose_few(loader: Loader, samples: Sequence[Path], count: int) -> list[HostileFile]:
    """Choose up to `count` crafted files, evenly spread, and as many mutations."""
    crafted = list(loader.craft(random.Random(f"{loader.name} 0")))
    step = max(len(crafted) // count, 1)
    seeds = (f"{loader.name} few {number}" for number in range(count))
    mutated = [_mutate(loader, sample, seed) for sample, seed in zip(cycle(samples), seeds)]
    return crafted[::step][:count] + mutated


def run_loader(loader: Loader, files: Iterable[HostileFile], workers: int) -> LoaderResult:
    """Try files with a loader.

    Args:
        loader: The loader.
        files: The hostile files.
        workers: Number of files to try at once.
    """

    def try_one(file: HostileFile) -> tuple[HostileFile, Trial]:
        return file, try_file(loader, file)

    result = LoaderResult(loader)
    # Some files keep their bytes, hundreds of megabytes, so few of them exist at a time.
    for file, trial in map_ahead(try_one, files, threads=workers, ahead=4 * workers):
        result.add(file, trial)
    return result


def make_table(results: Sequence[LoaderResult]) -> str:
    """Make the table of a campaign in Markdown."""
    lines = ["| loader | tried | accepted | refused | failed | longest (s) | most memory (MiB) |"]
    lines.append("|---|---|---|---|---|---|---|")
    for result in results:
        counts = " | ".join(str(result.counts[outcome]) for outcome in Outcome)
        figures = f"{result.longest_s:.1f} | {result.most_memory_bytes / 2**20:.0f}"
        lines.append(f"| {result.loader.name} | {result.tried} | {counts} | {figures} |")
    totals = (sum(result.counts[outcome] for result in results) for outcome in Outcome)
    tried = sum(result.tried for result in results)
    lines.append(f"| all | {tried} | " + " | ".join(map(str, totals)) + " | | |")
    return "\n".join(lines) + "\n"


def write_table(table: str) -> None:
    """Replace the table in docs/results/hostile-files.md."""
    text = _PAGE.read_text("utf-8")
    start, end = text.index(_BEGIN) + len(_BEGIN), text.index(_END)
    _PAGE.write_text(f"{text[:start]}\n{table}{text[end:]}", "utf-8")


def run_campaign(loaders: Sequence[Loader], count: int, seed: int = 0) -> list[LoaderResult]:
    """Try files with several loaders, as many with each.

    Args:
        loaders: The loaders.
        count: Number of files in all.
        seed: Determines the files.

    Returns:
        A result for each loader.
    """
    results = []
    for loader in loaders:
        with tempfile.TemporaryDirectory(prefix="hostile-samples-") as folder:
            try:
                samples = loader.make_samples(Path(folder))
            except pytest.skip.Exception as reason:
                print(f"{loader.name}: skipped ({reason})", flush=True)
                continue
            files = islice(generate_files(loader, samples, seed), -(-count // len(loaders)))
            results.append(run_loader(loader, files, workers=os.cpu_count() or 1))
        print_result(results[-1])
    return results


def print_result(result: LoaderResult) -> None:
    """Print the counts and the failures of a loader."""
    counts = ", ".join(f"{count} {outcome.value}" for outcome, count in result.counts.items())
    print(f"{result.loader.name}: {counts}", flush=True)
    for file, reason in result.failures:
        print(f"  {file.description}: {reason}", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run a campaign; return 1 if a file failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.campaign")
    parser.add_argument("--count", type=int, help="number of files in all (default: 10000)")
    parser.add_argument("--loader", action="append", help="only loaders whose name contains this")
    parser.add_argument("--seed", type=int, default=0, help="determines the files (default: 0)")
    parser.add_argument("--list", action="store_true", help="print the names of the loaders")
    parser.add_argument(
        "--write", action="store_true", help="write the table to docs/results/hostile-files.md"
    )
    options = parser.parse_args(arguments)
    loaders = [
        loader
        for loader in LOADERS
        if options.loader is None or any(text in loader.name for text in options.loader)
    ]
    if options.list:
        print("\n".join(loader.name for loader in loaders))
        return 0
    count = options.count or WHOLE_COUNT * len(loaders) // len(LOADERS)
    results = run_campaign(loaders, count, options.seed)
    table = make_table(results)
    print(table)
    if options.write:
        write_table(table)
    return int(any(result.failures for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
