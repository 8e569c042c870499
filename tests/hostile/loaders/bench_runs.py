"""Hostile input of measurements: journals of `tinyvit-bench accuracy --resume`, and what devices
and benchmark programs print.
"""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.helpers.records import make_full_records
from tests.helpers.small_classifiers import build_classifier
from tests.hostile.commands import parse_strict_json, run_command
from tests.hostile.crafting import (
    EXTREME_VALUES,
    craft_fields,
    craft_json_texts,
)
from tests.hostile.hostile_files import HostileFile, Loader, make_file
from tests.hostile.special_files import make_sparse_writer, yield_special_files
from tinyvit.bench import cli
from tinyvit.bench.devices import bundle
from tinyvit.bench.failures import Failures
from tinyvit.bench.latency import baselines
from tinyvit.bench.latency.open_artifact import open_in_engine
from tinyvit.errors import RequestError
from tinyvit.processes.output_capture import silence_file_descriptors
from tinyvit.runtimes.base import RuntimeOptions

_JOURNAL = "journal"
_OUTPUT = "output.txt"
_IMAGE_COUNT = 12


def _make_artifact(folder: Path) -> Path:
    # onnxruntime prints colored warnings about the constants that this classifier does not use.
    with silence_file_descriptors():
        return build_classifier(folder, ".onnx", "host", "batch", with_manifest=True)


def _make_images(folder: Path) -> Path:
    """Write class folders of a few images, always the same ones."""
    for number in range(_IMAGE_COUNT):
        class_folder = folder / f"n{number % 3:08}"
        class_folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (8, 9, 3), np.uint8)
        Image.fromarray(pixels).save(class_folder / f"{number}.png")
    return folder


def _evaluate(journal: Path, folder: Path) -> None:
    """Evaluate the small classifier, made in a folder, with a journal."""
    artifact, images = _make_artifact(folder), _make_images(folder / "val")
    options = ["--threads", "1", "--json", "--predictions"]
    printed = run_command(
        cli.main, ["accuracy", artifact, "--data", images, "--resume", journal, *options]
    )
    record = parse_strict_json(printed)
    assert isinstance(record, dict)
    assert record["results"][0]["total_count"] == _IMAGE_COUNT


@functools.cache
def _make_journal_lines() -> tuple[bytes, bytes]:
    """Make a complete journal, and return its two lines."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(None):
        journal = Path(folder, _JOURNAL)
        _evaluate(journal, Path(folder))
        header, line = journal.read_bytes().splitlines()
        return header, line


def make_journals(folder: Path) -> Sequence[Path]:
    """Make a complete journal, and one that was interrupted."""
    header, line = _make_journal_lines()
    journals = []
    for count in (_IMAGE_COUNT, 5):
        rows = json.dumps(json.loads(line)[:count]).encode()
        (folder / str(count)).mkdir()
        journals.append(folder / str(count) / _JOURNAL)
        journals[-1].write_bytes(header + b"\n" + rows + b"\n")
    return journals


def resume(path: Path) -> None:
    """Continue a run from a copy of the journal."""
    journal = Path(_JOURNAL)
    if path.is_file() and path.stat().st_size < 2**26 and not path.is_symlink():
        shutil.copyfile(path, journal)
    else:
        journal.symlink_to(path)
    _evaluate(journal, Path())


def craft_journals(generator: random.Random) -> Iterator[HostileFile]:
    """Yield journals with other settings, impossible predictions, and too many of them."""
    header, line = _make_journal_lines()
    settings, rows = json.loads(header), json.loads(line)
    yield from yield_special_files(_JOURNAL)
    yield from craft_json_texts(_JOURNAL, settings)
    write = partial(_make_journal, header)
    for number, name in enumerate(("classes", "score", "error")):
        for value in EXTREME_VALUES:
            row = [*rows[0][:number], value, *rows[0][number + 1 :]]
            yield write(f"{name} is {value!a:.40}", json.dumps([row]).encode())
    for classes in (
        [10],
        [-1],
        [2**63],
        [0, 0],
        [0] * 5,
        [0, 1, 2, 3, 4, 5],
        [0.0],
        [[0]],
        [10**400],
    ):
        yield write(f"classes are {classes!a:.40}", json.dumps([[classes, 0.5, ""]]).encode())
    for score in (1.5, -0.5, 1e-320, 1e308):
        yield write(f"the score {score}", json.dumps([[[0], score, ""]]).encode())
    yield write("an unreadable image with classes", json.dumps([[[0], 0.5, "bad"]]).encode())
    yield write("an image without classes and error", json.dumps([[[], 0.5, ""]]).encode())
    for count in (13, 64, 20_000):
        yield write(f"{count} predictions", json.dumps([rows[0]] * count).encode())
    for text in (b"\r", b"\n", b"\r\n", b" ", b"\0", b"\x0c", b"[]", b"[]\n", b"{}\n", b"\x1c"):
        yield write(f"{text!a} in between", text + line)
        yield write(f"{text!a} many times", text * 2**17)
        yield write(f"{text!a} in a line", line.replace(b", ", b", " + text, 3))
    yield HostileFile("2^29 zeros", make_sparse_writer(_JOURNAL, 2**29, header + b"\n"))
    yield HostileFile("2^35 zeros", make_sparse_writer(_JOURNAL, 2**35, header + b"\n"))

    def encode(changed: Any) -> bytes:
        return json.dumps(changed).encode() + b"\n" + line

    yield from craft_fields(_JOURNAL, settings, generator, 30, encode)


def _make_journal(header: bytes, description: str, lines: bytes) -> HostileFile:
    return make_file(_JOURNAL, description, header + b"\n" + lines + b"\n")


_DEVICE_SCRIPT = """\
#!/bin/sh
# Stands for every program on the device: it prints the hostile file on both streams.
case "$*" in
    *version_info*) echo 3 11 ;;
    *" tar "*|*" push "*) cat > /dev/null < /dev/null ;;
    *mktemp*) echo /data/local/tmp/tinyvit-hostile ;;
    devices) printf 'List\\n1234\\tdevice\\n' ;;
    *) cat "$HOSTILE_FILE"; head -c 100000 "$HOSTILE_FILE" >&2; exit "$HOSTILE_EXIT_CODE" ;;
esac
"""


def _write_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_DEVICE_SCRIPT)
    path.chmod(0o700)
    return path


def measure_on_devices(path: Path) -> None:
    """Measure on devices, reached in each way, that answer everything with the hostile file."""
    _require_regular(path)
    artifact = _make_artifact(Path())
    images = _make_images(Path("val"))
    for name in ("ssh", "adb"):
        _write_program(Path("bin", name))
    runner = _write_program(Path("onnxruntime_perf_test"))
    _write_program(Path("env/bin/python"))
    os.environ["PATH"] = f"{Path('bin').absolute()}:{os.environ['PATH']}"
    os.environ["HOSTILE_FILE"] = str(path)
    errors: list[RequestError] = []
    # The wheel, which takes a second, is not used.
    bundle.make_wheel = lambda folder: folder / "unused.whl"
    for exit_code, options in (
        (0, ["--local", "--use-env", Path("env").absolute(), "--data", images]),
        (255, ["--ssh", "user@host", "--use-env", "/env"]),
        (0, ["--adb", "--runner", runner]),
    ):
        os.environ["HOSTILE_EXIT_CODE"] = str(exit_code)
        try:
            run_command(cli.main, ["device", artifact, *options, "-o", "results"])
        except RequestError as error:
            errors.append(error)
    for file in Path("results").glob("*.json"):
        parse_strict_json(file.read_text())
    if errors:
        raise errors[0]


def _require_regular(path: Path) -> None:
    """A program that prints an endless file is stopped; a pipe would only make the shell wait."""
    if not path.is_file():
        raise RequestError("the crafted file is not a regular file", "skip it")


def measure_with_tools(path: Path) -> None:
    """Time the small classifier beside benchmark programs that print the hostile file."""
    _require_regular(path)
    os.environ["PATH"] = f"{Path('bin').absolute()}:{os.environ['PATH']}"
    os.environ.update(HOSTILE_FILE=str(path), HOSTILE_EXIT_CODE="0")
    failures = Failures()
    with open_in_engine(
        str(_make_artifact(Path())), "onnxruntime", RuntimeOptions(threads=1)
    ) as opened:
        for tool in baselines.BENCHMARK_TOOLS.values():
            program = _write_program(Path("bin", tool.program))
            try:
                median_ms = baselines.run_tool(tool, str(program.absolute()), opened, 1)
                assert 0 < median_ms < 1e18, f"the median is {median_ms}"
            except RequestError as error:
                failures.add(tool.program, error)
    if failures.messages:
        raise failures.make_error()


def make_outputs(folder: Path) -> Sequence[Path]:
    """Write what Python and benchmark programs on devices print."""
    verification = {"passed": True, "reasons": ["none"], "file": "test.onnx"}
    texts = {
        "verify": json.dumps(verification),
        "litert": "I0 count=1 curr=5\nI1 count=70 first=9 curr=5 min=4.5 max=9 avg=5e+1 std=1 p5=4"
        " median=5.25 p95=8\n",
        "onnxruntime": "Min Latency: 0.0041 s\nMax Latency: 0.02 s\nP50 Latency: 0.0199 s\n"
        "P90 Latency: 0.02 s\nP99 Latency: 0.02 s\n",
        "openvino": "[ INFO ]    Median:        5.25 ms\n",
        "tensorrt": "[I] Latency: min = 1 ms, max = 2 ms, mean = 1.5 ms, median = 1.5 ms\n",
        "android": "processor\t: 0\nFeatures\t: fp asimd\nMemTotal:   8000000 kB\n",
    }
    texts |= {f"record{i}": record.to_json() for i, record in enumerate(make_full_records())}
    paths = []
    for name, text in texts.items():
        (folder / name).mkdir()
        paths.append(folder / name / _OUTPUT)
        paths[-1].write_text(text)
    return paths


def craft_outputs(generator: random.Random) -> Iterator[HostileFile]:
    """Yield outputs with extreme numbers, long lines, and JSON with extreme fields."""
    numbers = ("0", "-1", "1e999", "9" * 400, ".", "...", "1.2.3", "e", "1e", "-", "٣", "1e-400")
    numbers += (
        "nan",
        "inf",
        "0x10",
        "1_0",
        "1e+",
        "1e308",
        "0.0",
        "\x1b[2J",
        "1" * 15 + "." + "9" * 20,
    )
    lines = ("P50 Latency: {} s", "Median:  {} ms", '"median_ms": {}', "] Latency: median = {} ms")
    lines += ("count=5 x min={0} max={0} avg={0} median={0}", "MemTotal: {} kB", "processor : {}")
    for number in numbers:
        text = "\n".join(line.format(number) for line in lines)
        yield make_file(_OUTPUT, f"the number {number!a:.40}", text.encode())
    for length in (999, 1001, 10**6):
        for text in (
            "count=5 ",
            "Median: ",
            "] Latency:",
            "processor\t",
            " ",
            "\x0c",
            "\u2028",
            "\r",
        ):
            repeated = (text * length)[: length * 3]
            yield make_file(_OUTPUT, f"{length} times {text!a}", repeated.encode())
    yield make_file(_OUTPUT, "bytes that are not UTF-8", bytes(range(256)) * 1000)
    yield make_file(_OUTPUT, "hostile text", HOSTILE_TEXT.encode("utf-8", "surrogatepass") * 50)
    yield HostileFile("2^29 zeros", make_sparse_writer(_OUTPUT, 2**29))
    yield HostileFile("2^40 zeros", make_sparse_writer(_OUTPUT, 2**40))
    verification = {
        "passed": False,
        "reasons": ["a", HOSTILE_TEXT],
        "file": "x",
        "checks": {"a": 1},
    }
    yield from craft_json_texts(_OUTPUT, verification)
    for key, value in ((key, value) for key in ("passed", "reasons") for value in EXTREME_VALUES):
        changed = {**verification, key: value}
        yield make_file(_OUTPUT, f"{key} is {value!a:.40}", json.dumps(changed).encode())
    reasons = {**verification, "reasons": ["\x1b" * 1000] * 50_000}
    yield make_file(_OUTPUT, "50,000 reasons", json.dumps(reasons).encode())
    for record in make_full_records()[::2]:
        yield from craft_fields(_OUTPUT, json.loads(record.to_json()), generator, 30)


LOADERS = (
    Loader("records: accuracy --resume", resume, make_journals, craft_journals),
    Loader("records: output of devices", measure_on_devices, make_outputs, craft_outputs),
    Loader("records: output of benchmark tools", measure_with_tools, make_outputs, craft_outputs),
)
