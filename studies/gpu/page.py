"""Writes a record of the GPU study as a Markdown page.

python -m tinyvit.studies.gpu.page docs/results/gpu-h200.json -o docs/results/gpu-h200.md
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tinyvit.bench.latency.percentiles import MIN_TURNS, RatioInterval
from tinyvit.bench.report.console import format_table_row
from tinyvit.bench.report.tables import format_ratio
from tinyvit.cli import make_parser, run_guarded
from tinyvit.errors import RequestError
from tinyvit.files.file_io import write_atomically
from tinyvit.serialization import read_json

_EXAMPLES = "  python -m tinyvit.studies.gpu.page gpu.json -o gpu.md"
_MAX_RECORD_BYTES = 2**24
_MARK = "\N{DAGGER}"
"""Follows a ratio that has no interval."""
_STEPS_TEXT = """\
The student is the network that is trained. It learns from class labels alone ("no teacher"), from a
teacher's predictions that were saved before the training ("store"), or from a teacher that runs in
every step ("in the loop"). [Training](../reference/training.md) has the details."""
_MARK_TEXT = f"{_MARK} No interval: it needs {MIN_TURNS} rounds or more."
_LATENCY_TEXT = """\
Compiled networks use `torch.compile(mode="reduce-overhead")`.
Compare the compiled ones: at batch 1, most of the eager time is the time in which Python starts
operations."""
_SKIPPED_TEXT = "An empty cell was not measured, because the study has a time budget."
_LOOPS_TEXT = """\
Decoding the JPEG files limits these loops, unless their rate is close to that of the same training
step above. So differences between the teachers say little here: compare the training steps."""

_Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Command-line arguments; None takes those of the process.

    Returns:
        The exit code.
    """
    parser = make_parser(
        "python -m tinyvit.studies.gpu.page",
        "Write a record of the GPU study as a Markdown page.",
        _EXAMPLES,
    )
    parser.add_argument("record", type=Path, help="a JSON file that the study wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the page to write")
    return run_guarded(partial(_write_page, parser.parse_args(argv)))


def format_page(record: dict[str, Any]) -> str:
    """Format a record of the study.

    Args:
        record: The parsed record.

    Returns:
        The page, in Markdown. Measurements that were skipped or failed are left out.
    """
    machine, parts = record["machine"], record["parts"]
    sections = (
        _format_steps(parts["steps"]["rows"]),
        _format_latency(parts["latency"]["rows"] + parts["compiled"]["rows"]),
        _format_storing(parts["storing"]["rows"]),
        _format_loops(parts["loops"]["rows"]),
        _format_checks(parts.values()),
    )
    title = (
        f"# {machine['gpu']}\n\n{machine['gpu']}, driver {machine['driver']}, CUDA"
        f" {machine['cuda']}, torch {machine['torch']}; {machine['cpu']}; {record['date']}.\n\n"
        "This page is written by `python -m tinyvit.studies.gpu.page` from the record beside it,"
        " which\n`python -m tinyvit.studies.gpu` measured. All images are synthetic. Ratios are"
        " medians of alternating runs."
    )
    return "\n\n".join((title, *sections)) + "\n"


def _write_page(arguments: argparse.Namespace) -> int:
    """Read the record and write the page."""
    path: Path = arguments.record
    try:
        page = format_page(read_json(path, _MAX_RECORD_BYTES))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{path} is not a record of the GPU study ({type(error).__name__}: {error})",
            "give a file that python -m tinyvit.studies.gpu --out wrote",
        ) from error
    write_atomically(arguments.output, page)
    return 0


def _format_steps(rows: list[_Row]) -> str:
    """Format the time and memory of each kind of training step (no teacher, store, in the loop)."""
    body = []
    for row in _select_measured_rows(rows):
        for kind, result in row["kinds"].items():
            memory = result["peak_memory_bytes"]
            body.append(
                (
                    f"{_shorten_variant(row['student'])}, {row['num_classes']:,} classes",
                    f"{row['device']}, {row['precision']}, batch {row['batch']:,}",
                    kind,
                    f"{result['median_ms']:.1f}",
                    f"{result['images_per_s']:,.0f}",
                    _format_ratio(result.get("ratio_to_no_teacher")),
                    _format_ratio(result.get("ratio_to_store")),
                    "" if memory is None else f"{memory / 2**30:.1f}",
                )
            )
    header = (
        "student",
        "device",
        "teacher",
        "ms",
        "images/s",
        "time / no teacher",
        "time / store",
        "peak GiB",
    )
    texts = [_STEPS_TEXT]
    if any(_MARK in cell for cells in body for cell in cells):
        texts.append(_MARK_TEXT)
    return _format_section("Training steps", texts, header, body)


def _format_latency(rows: list[_Row]) -> str:
    """Format the latency of eager and compiled networks, the two of one case side by side."""
    cases: dict[tuple[str, str, int], dict[str, _Row]] = {}
    for row in _select_measured_rows(rows):
        case = (row["variant"], row["precision"], row["batch"])
        cases.setdefault(case, {})[row["mode"]] = row
    body = []
    for (variant, precision, batch), modes in cases.items():
        compiled = modes.get("compiled")
        body.append(
            (
                _shorten_variant(variant),
                precision,
                str(batch),
                f"{modes['eager']['median_ms']:.2f}" if "eager" in modes else "",
                f"{compiled['median_ms']:.2f}" if compiled else "",
                f"{compiled['compile_s']:.0f}" if compiled else "",
            )
        )
    header = ("variant", "precision", "batch", "eager ms", "compiled ms", "compilation s")
    texts = [_LATENCY_TEXT]
    if any("" in cells for cells in body):
        texts.append(_SKIPPED_TEXT)
    return _format_section("Latency in PyTorch", texts, header, body)


def _format_storing(rows: list[_Row]) -> str:
    """Format the throughput of storing logits, and of its steps."""
    body = []
    for row in _select_measured_rows(rows):
        # A row contains either one result, or one result for each batch size.
        results = (
            {str(row.get("batch", "")): row} if "images_per_s" in row else _index_by_batch(row)
        )
        for batch, result in results.items():
            rate = f"{result['images_per_s']:,.0f}"
            body.append((row["step"], _shorten_variant(row.get("teacher", "")), batch, rate))
    header = ("step", "teacher", "batch", "images/s")
    return _format_section("Storing logits", [], header, body)


def _format_loops(rows: list[_Row]) -> str:
    """Format the throughput of training loops that decode JPEG files."""
    body = [
        (
            _shorten_variant(row["student"]),
            row["kind"],
            str(row["workers"]),
            f"{row['images_per_s']:,.0f}",
        )
        for row in _select_measured_rows(rows)
    ]
    header = ("student", "teacher", "worker processes", "images/s")
    title = "Training loops that decode JPEG files"
    return _format_section(title, [_LOOPS_TEXT], header, body)


def _format_checks(parts: Iterable[dict[str, Any]]) -> str:
    """Format the value of each check, its limit, and whether the check passed."""
    body = [
        (check["name"], f"{check['value']:.1e}", f"{check['limit']:.0e}", _yes_no(check["passed"]))
        for part in parts
        for check in part["checks"]
    ]
    return _format_section("Checks", [], ("check", "value", "limit", "passed"), body)


def _select_measured_rows(rows: list[_Row]) -> list[_Row]:
    """Return the rows with results: those without a status such as "skipped: time budget"."""
    return [row for row in rows if "status" not in row]


def _index_by_batch(row: _Row) -> dict[str, _Row]:
    """Return batch size -> results, which the row contains under keys such as "batch_16"."""
    prefix = "batch_"
    return {key[len(prefix) :]: value for key, value in row.items() if key.startswith(prefix)}


def _format_ratio(ratio: dict[str, Any] | None) -> str:
    """Format a ratio with its interval, or with a mark if it has none; "" without a ratio."""
    if not ratio:
        return ""
    interval = RatioInterval(**ratio)
    return f"{interval.median:.2f}{_MARK}" if interval.low is None else format_ratio(interval)


def _shorten_variant(name: str) -> str:
    """Return the name of a variant without the family's prefix; other names are unchanged."""
    return name.removeprefix("tiny_vit_")


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def _format_section(
    title: str, texts: Sequence[str], header: Sequence[str], body: Sequence[Sequence[str]]
) -> str:
    """Format a heading, paragraphs, and a table."""
    lines = [header, ["---"] * len(header), *body]
    return "\n\n".join((f"## {title}", *texts, "\n".join(map(format_table_row, lines))))


if __name__ == "__main__":
    raise SystemExit(main())
