"""Killed exports leave whole outputs or none, and long use needs no more memory."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.recorded_progress import RecordedProgress
from tests.helpers.small_classifiers import build_classifier
from tinyvit.errors import RequestError
from tinyvit.studies import endurance
from tinyvit.studies.endurance import Endurance, Sample, format_endurance
from tinyvit.studies.faults import KillableExport, kill_exports

MEGABYTE = 1_000_000


def build_small_classifier(folder: Path, suffix: str) -> Path:
    return build_classifier(folder, suffix, "host", batch="batch", with_manifest=True)


@pytest.mark.slow
def test_killed_int8_exports_leave_a_whole_output_or_none(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    export = KillableExport(tmp_path, img_size=64)
    counts = kill_exports(export, 4, random.Random(0), RecordedProgress())
    assert counts.kills + counts.finished == 4
    assert counts.whole + counts.without_output == counts.kills
    assert (counts.incomplete, counts.remaining, counts.is_clean) == (0, (), True)
    assert export.is_whole()


def test_what_killed_exports_leave_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exports of this test damage the output and leave a folder."""
    (tmp_path / "work").mkdir()
    export = KillableExport(tmp_path / "work", img_size=32)
    (tmp_path / "artifact").mkdir()
    whole = build_small_classifier(tmp_path / "artifact", ".onnx").read_bytes()

    def start(export: KillableExport) -> subprocess.Popen[bytes]:
        export.output.write_bytes(b"half")
        (export.output_folder / ".demo.onnx.0123456789").mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    def finish(export: KillableExport) -> float:
        export.output.write_bytes(whole)
        return 0.1

    monkeypatch.setattr(KillableExport, "start", start)
    monkeypatch.setattr(KillableExport, "finish", finish)
    counts = kill_exports(export, 3, random.Random(0), RecordedProgress())
    assert (counts.kills, counts.finished, counts.incomplete) == (3, 0, 3)
    assert (counts.whole, counts.without_output, counts.with_leftovers) == (0, 0, 3)
    assert counts.remaining == (".demo.onnx.0123456789",)
    assert not counts.is_clean


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux")
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_predictions_and_opens_are_recorded(suffix: str, tmp_path: Path) -> None:
    if suffix == ".xml":
        pytest.importorskip("openvino")
    path = build_small_classifier(tmp_path, suffix)
    for measure, action, count in (
        (endurance.measure_predictions, "predict", 2_000),
        (endurance.measure_opens, "open", 40),
    ):
        result = measure(path, count)
        assert (result.file, result.action, result.total_count) == (path.name, action, count)
        assert [sample.count for sample in result.samples] == [
            count * number // 20 for number in range(21)
        ]
        assert result.samples[2].descriptors == result.samples[-1].descriptors
        # A leak of one image of 12 KB for each prediction would be 22 MB.
        assert result.growth_bytes < 20 * MEGABYTE


def test_a_system_without_proc_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endurance, "_PROCESS_FOLDER", tmp_path / "proc")
    with pytest.raises(RequestError, match="has no folder /proc: run this command on Linux"):
        endurance.measure_opens(tmp_path / "x.onnx", 1)


def test_the_growth_is_counted_after_the_first_tenth() -> None:
    memory = [10, 80, 90, *range(91, 109)]
    samples = tuple(
        Sample(50 * number, megabytes * MEGABYTE, descriptors=7, threads=3)
        for number, megabytes in enumerate(memory)
    )
    result = Endurance("a.onnx", "onnxruntime", "predict", 1.0, samples)
    assert result.growth_bytes == 18 * MEGABYTE
    assert format_endurance(result) == (
        "| a.onnx | onnxruntime | predict | 1,000 | 10 / 93 / 98 / 103 / 108 | +18.0 | 7 to 7 |"
        " 3 to 3 |"
    )
