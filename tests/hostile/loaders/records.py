"""Hostile benchmark records: `tinyvit-bench report` and `tinyvit-bench compare`."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.hostile_text import HOSTILE_TEXT, has_control_characters
from tests.helpers.records import make_full_records
from tests.hostile.commands import parse_strict_json, run_command
from tests.hostile.crafting import (
    craft_fields,
    craft_json_texts,
)
from tests.hostile.hostile_files import GIB, HostileFile, Loader, make_lazy_file
from tests.hostile.report_checks import check_csv, check_html, check_markdown
from tests.hostile.special_files import make_sparse_writer, yield_special_files
from tinyvit.bench import cli
from tinyvit.bench.record import Record, read_record
from tinyvit.bench.report.console import (
    format_accuracy_record,
    format_latency_record,
    format_preprocess_check,
)
from tinyvit.text.safe_text import print_lines

_NAME = "record.json"
_FIXED_TEXTS = ("kind", "scenario", "schema")
"""Fields in which not every text is possible."""
_FORMULAS = ("=1+1", "+1", "-1", "@SUM(1)", "  =1", "a;=1", ';"=1', "\t=1", "\r=1", "x\r\n=1,2")
_FORMULAS += ("\uff1d1", "a;\t=1", "a; =1", "'=1", '"=1"', "\u00a0=1", "\ufeff=1", ";;=1", "\0=1")
_MARKUP = ("<script>", "</td></tr></table>", "<!--", "--><b>", "]]>", "&#27;", "&lt;", "{css}")
_MARKUP += ("$\\frac{a}{$", "a|b", "`", "![x](y)", "<svg onload=x>", '" onload="x', "' x='", "{}")
_MARKUP += ("#010203", "font: 'x sans-serif", " xmlns='x'", ' width="1"', "\u2028# x", "x\n# y")
_MARKUP += ("<metadata>", "</metadata>", "</style>", "https://x.invalid", "\\", "\\|", "&amp;")


def _list_samples() -> list[Record]:
    """Return small records of both kinds that together have every field."""
    records = []
    for record in make_full_records():
        latencies = tuple(
            replace(latency, turns_ms=tuple(turn[:2] for turn in latency.turns_ms[:30]))
            for latency in record.latency
        )
        records.append(replace(record, latency=latencies))
    return records


def make_samples(folder: Path) -> Sequence[Path]:
    """Write a record for each of two devices, and one of accuracies."""
    pytest.importorskip("matplotlib", reason="draws the charts")
    paths = []
    for number, record in enumerate(_list_samples()):
        paths.append(folder / f"{number}.json")
        paths[-1].write_text(record.to_json())
    return paths


def report(path: Path) -> None:
    """Write a report in each format, and check that it contains the record as plain text."""
    for suffix in ("csv", "md", "html"):
        output = Path(f"report.{suffix}")
        run_command(cli.main, ["report", path, "-o", output, "--title", HOSTILE_TEXT])
    records = [read_record(path)]
    check_csv(Path("report.csv").read_bytes().decode(), records)
    check_markdown(Path("report.md").read_bytes().decode(), records)
    check_html(Path("report.html").read_bytes().decode(), records)


def compare(path: Path) -> None:
    """Compare a record with itself and with valid ones, and print it as other commands do."""
    run_command(cli.main, ["compare", path, path])
    printed = run_command(cli.main, ["compare", path, path, "--json", "--max-drop", "-1"])
    parse_strict_json(printed)
    record = read_record(path)
    for number, other in enumerate(_list_samples()):
        if record.kind == other.kind:
            sample = Path(f"{number}.json")
            sample.write_text(other.to_json())
            for pair in ((path, sample), (sample, path)):
                run_command(cli.main, ["compare", *pair, "--across-devices"])
    formats = (format_latency_record, format_accuracy_record, format_preprocess_check)
    for format_record in formats if record.kind == "accuracy" else formats[:1]:
        print_lines(*format_record(record))
    assert not has_control_characters(record.to_json())
    assert Record.from_json(record.to_json(), "the copy") == record


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield records with extreme fields, texts and numbers of entries."""
    latency, _, accuracy = (json.loads(record.to_json()) for record in _list_samples())
    yield from yield_special_files(_NAME)
    yield from craft_json_texts(_NAME, latency)
    yield from _craft_texts(latency, accuracy)
    yield from _craft_long_texts(latency)
    yield from _craft_stages(latency)
    yield from _craft_counts(latency, accuracy)
    yield from _craft_numbers(latency, accuracy)
    yield HostileFile("a record and 2^33 zeros", make_sparse_writer(_NAME, 2**33, b'{"schema": 3'))
    for document in (latency, accuracy):
        yield from craft_fields(_NAME, document, generator, count=60)


def _write(description: str, document: Any) -> HostileFile:
    """Make a file of a record, as JSON text that is made when it is written."""

    def make() -> bytes:
        # The encoder calls this function for each `_Repeated`.
        return json.dumps(document, default=_Repeated.expand).encode()

    return make_lazy_file(_NAME, description, make)


@dataclass(frozen=True)
class _Repeated:
    """A long text or list, which takes memory only while it is written."""

    item: Any
    count: int

    def expand(self) -> Any:
        """Return the text, or the list of equal items."""
        return self.item * self.count if isinstance(self.item, str) else [self.item] * self.count


def _craft_texts(latency: Any, accuracy: Any) -> Iterator[HostileFile]:
    """Yield records in which all texts are formulas or markup."""
    for text in (*_FORMULAS, *_MARKUP):
        for document in (latency, accuracy):
            yield _write(f"{text!a} in every text", _change_texts(document, text))


def _change_texts(value: Any, text: str) -> Any:
    """Return a copy of a JSON document in which every text that may be any text is another."""
    if isinstance(value, dict):
        return {
            key: item if key in _FIXED_TEXTS else _change_texts(item, text)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_change_texts(item, text) for item in value]
    return text if isinstance(value, str) else value


def _craft_long_texts(latency: Any) -> Iterator[HostileFile]:
    """Yield records with long names of devices and artifacts, which reports repeat."""
    result, device = latency["results"][0], latency["device"]
    for length, count in ((5000, 256), (9000, 200), (5_000_000, 1)):
        for text in ("a", "\x1b", "<"):
            for field in ("name", "cpu"):
                changed = {**device, field: _Repeated(text, length)}
                document = {**latency, "device": changed, "results": _Repeated(result, count)}
                yield _write(f"{length} times {text!a} as {field} of the device", document)
            artifact = {**result["artifact"], "path": _Repeated(text, length)}
            results = _Repeated({**result, "artifact": artifact}, count)
            yield _write(f"paths of {length} times {text!a}", {**latency, "results": results})
    lines = _Repeated(_Repeated("\x1b", 9000), 1000)
    for field in ("warnings", "failures"):
        yield _write(f"long {field}", {**latency, field: lines})
    settings = {f"{number}\x1b": _Repeated("<", 9000) for number in range(1000)}
    yield _write("long settings", {**latency, "settings": settings})
    for count in (1001, 3_000_000):
        changed = {**device, "cpu_features": _Repeated("AVX", count)}
        yield _write(f"{count} features", {**latency, "device": changed})


def _craft_stages(latency: Any) -> Iterator[HostileFile]:
    """Yield records with many stages and operators."""
    result = latency["results"][0]
    for count in (1, 2, 256, 257):
        stages = {f"stage {number}": 1.0 for number in range(32)}
        results = _Repeated({**result, "stages_ms": stages}, count)
        yield _write(f"{count} results of 32 stages", {**latency, "results": results})
        others = [
            {**result, "stages_ms": {f"{i} {number}": 1.0 for number in range(32)}}
            for i in range(count)
        ]
        yield _write(f"{count} times other stages", {**latency, "results": others})
        operators = _Repeated(result["operators"][0], 512)
        many = _Repeated({**result, "operators": operators}, count)
        yield _write(f"{count} results of 512 operators", {**latency, "results": many})
        long_name = {**result["operators"][0], "name": "<" * 9000}
        long = _Repeated({**result, "operators": _Repeated(long_name, 512)}, min(count, 50))
        yield _write(f"{count} results of long operators", {**latency, "results": long})


def _craft_counts(latency: Any, accuracy: Any) -> Iterator[HostileFile]:
    """Yield records with the largest allowed numbers of entries, and with more."""
    result, first = latency["results"][0], accuracy["results"][0]
    for count in (255, 256, 257, 5000):
        yield _write(f"{count} accuracies", {**accuracy, "results": _Repeated(first, count)})
        named = [
            {**result, "artifact": {**result["artifact"], "path": f"{i}", "sha256": f"{i}"}}
            for i in range(count)
        ]
        yield _write(f"{count} artifacts", {**latency, "results": named})
        baselines = _Repeated(latency["baselines"][0], count)
        yield _write(f"{count} baselines", {**latency, "baselines": baselines})
    for field, value in (
        ("turns_ms", _Repeated([1.0] * 10, 400_000)),
        ("turns_ms", _Repeated([1.0], 2_400_000)),
        ("turns_ms", [_Repeated(1.0, 4_000_000)]),
        ("turns_ms", []),
    ):
        changed = [{**result, field: value}]
        yield _write(f"{field}: {value!a:.40}", {**latency, "results": changed})
    classes = _Repeated(first["classes"][0], 30_000)
    results = _Repeated({**first, "classes": classes}, 20)
    yield _write("20 times 30,000 classes", {**accuracy, "results": results})
    predictions = _Repeated(10**18, 4_000_000)
    changed = [{**first, "predictions": predictions}]
    yield _write("4 million predictions", {**accuracy, "results": changed})
    for document in (latency, accuracy):
        yield _write("no results", {**document, "results": []})


def _craft_numbers(latency: Any, accuracy: Any) -> Iterator[HostileFile]:
    """Yield records whose numbers contradict each other, or are at the ends of their ranges."""
    result, first = latency["results"][0], accuracy["results"][0]
    ratio = latency["results"][1]["ratio"]
    changes: list[dict[str, Any]] = [{"median_ms": value} for value in (1e-6, 1e15, 1e-7, 1)]
    changes += [{"sample_count": value, "p99_ms": None} for value in (-5, 0, 10**15)]
    changes += [{"stages_ms": {"a": value, "b": 1e15}} for value in (-1e15, 1e-300, 0, 1e15)]
    changes += [{"turns_ms": [[1e-6], [1e15]] * 20, "median_ms": value} for value in (1e-6, 1e15)]
    changes += [{"turns_ms": [[]] * 20}, {"turns_ms": [[1], []] * 20}, {"batch": -1}]
    changes += [{"peak_share": value} for value in (-1e15, 1e15)]
    changes += [{"ratio": {**ratio, "low": value}} for value in (None, 1e15)]
    for change in changes:
        document = {**latency, "results": [{**result, **change}, *latency["results"][1:]]}
        yield _write(f"a latency with {change!a:.60}", document)
    intervals = ([90, 10], [0, 0], [100, 0], [0, 100])
    accuracies: list[dict[str, Any]] = [{"top1_interval": interval} for interval in intervals]
    accuracies += [{"top5_interval": [100, 0]}, {"top1": 0, "top1_interval": [50, 60]}]
    accuracies += [{"classified_count": value} for value in (0, -1, -(10**15), 10**15, 10**18)]
    accuracies += [{"classified_count": -3, "top1": 100}, {"total_count": -1}]
    for change in accuracies:
        yield _write(
            f"an accuracy with {change!a:.60}", {**accuracy, "results": [{**first, **change}]}
        )


LOADERS = (
    Loader("records: report", report, make_samples, craft, memory_bytes=2 * GIB),
    Loader("records: compare", compare, make_samples, craft, memory_bytes=2 * GIB),
)
