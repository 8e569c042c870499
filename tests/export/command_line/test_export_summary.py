"""The summary of an export fits on a screen, and says what ran and which command works here."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tests.helpers.small_classifiers import build_classifier, make_manifest
from tinyvit.bench.latency.interleave import Timing
from tinyvit.export import ExportedArtifact
from tinyvit.export.checks.baseline_timing import SpeedComparison
from tinyvit.export.command_line.summary import describe_use, format_report, format_summary
from tinyvit.manifest_parts import Compilation, Parity
from tinyvit.runtimes.base import RuntimeInfo


@pytest.fixture
def artifact() -> ExportedArtifact:
    """What an export to ONNX on this machine returns; the file does not exist."""
    manifest = replace(
        make_manifest("host", 1),
        parity=Parity(
            max_abs_diff=1.2e-5, reference="the checkpoint's network in PyTorch", engine="ort"
        ),
    )
    timing = Timing(((5.0,),))
    return ExportedArtifact(
        path=Path("out/test.onnx"),
        manifest=manifest,
        files=(Path("out/test.onnx"),),
        size_bytes=10_250_000,
        engine=RuntimeInfo("onnxruntime", "1.0", "cpu", 1, "float32"),
        speed=SpeedComparison(timing, timing, "eager torch"),
        notes=("a note", "another"),
    )


def make_stand_in(artifact: ExportedArtifact) -> ExportedArtifact:
    """Describe an artifact whose engine, TensorRT, does not run on this machine."""
    path = Path("out/test.rtx.engine")
    return replace(
        artifact,
        path=path,
        files=(path,),
        manifest=replace(artifact.manifest, target="tensorrt"),
        size_bytes=9_040_000,
        speed=None,
        notes=("a note",),
    )


def find_line(lines: list[str], heading: str) -> str:
    """Return what follows a heading, such as "use"."""
    prefix = f"  {heading + ':':7} "
    (line,) = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    return line


def test_the_summary_names_the_engine_that_checked_the_file(artifact: ExportedArtifact) -> None:
    assert find_line(format_summary(artifact), "check") == "outputs computed in ort"


def test_the_summary_says_which_engine_has_not_run_the_file(artifact: ExportedArtifact) -> None:
    summary = format_summary(make_stand_in(artifact))
    assert find_line(summary, "check") == "outputs computed in ort; TensorRT has not run this file"
    assert find_line(summary, "use").endswith(
        "inspect out/test.rtx.engine shows its description here; it runs on a machine with"
        " TensorRT: tinyvit-predict out/test.rtx.engine IMAGE"
    )


def test_the_summary_does_not_measure_an_npu_on_a_cpu(artifact: ExportedArtifact) -> None:
    stand_in = make_stand_in(artifact)
    assert find_line(format_summary(stand_in), "speed") == (
        "not measured: tensorrt files do not run on this machine"
    )
    compilation = Compilation("", "sm8550", "QAIRT 2", "", 0.0)
    manifest = replace(artifact.manifest, target="qnn", compilation=compilation)
    summary = format_summary(replace(stand_in, manifest=manifest))
    assert find_line(summary, "speed") == (
        "not measured: a time on this machine says nothing about the time on a Hexagon NPU"
    )
    assert find_line(summary, "use").endswith(" IMAGE --device npu")


def test_the_command_of_the_summary_classifies(
    artifact: ExportedArtifact, images: Path, tmp_path: Path
) -> None:
    path = build_classifier(tmp_path, ".onnx", "host", 1, True)
    command, python = find_line(format_summary(replace(artifact, path=path)), "use").split(
        "   (in Python: "
    )
    assert python == f"tinyvit.Classifier({str(path)!r}).predict(IMAGE))"
    words = shlex.split(command.replace("IMAGE", str(images / "coffee.jpg")))
    process = subprocess.run(words, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[0] == str(images / "coffee.jpg")


def test_several_artifacts_are_a_table_that_fits_on_a_screen(artifact: ExportedArtifact) -> None:
    lines = format_report([make_stand_in(artifact), artifact])
    assert lines[0] == "wrote 2 artifacts to out (19.3 MB)"
    assert find_line(lines, "model") == "test, float32, 32 x 32, 10 classes"
    table = lines.index("  file                size   latency  logits differ by  checked in")
    assert lines[table + 1 :] == [
        "  test.rtx.engine   9.0 MB         -           1.2e-05  ort; TensorRT has not run this"
        " file",
        "  test.onnx        10.2 MB    5.0 ms           1.2e-05  ort",
        "  note:   a note",
        "  note:   test.onnx: another",
        f"  use:    {describe_use(artifact)}",
    ]
    assert len(format_report([artifact] * 7)) <= 24
    assert format_report([artifact]) == format_summary(artifact)
    assert format_report([]) == []


def test_the_table_marks_latencies_that_were_disturbed(artifact: ExportedArtifact) -> None:
    assert artifact.speed is not None
    warning = "other processes used 20% of a core during the measurement: stop them"
    speed = replace(artifact.speed, disturbances=(warning,))
    lines = format_report([replace(artifact, speed=speed), artifact])
    table = lines.index("  file          size   latency  logits differ by  checked in")
    assert lines[table + 1 : table + 4] == [
        "  test.onnx  10.2 MB    5.0 ms*          1.2e-05  ort",
        "  test.onnx  10.2 MB    5.0 ms           1.2e-05  ort",
        "  *       test.onnx: not reliable, because other processes used 20% of a core during the"
        " measurement",
    ]


def test_the_table_of_embeddings_does_not_call_them_logits(artifact: ExportedArtifact) -> None:
    (logits,) = artifact.manifest.outputs
    outputs = (replace(logits, name="embedding", kind="embedding"),)
    embedding = replace(artifact, manifest=replace(artifact.manifest, outputs=outputs))
    lines = format_report([embedding, make_stand_in(embedding)])
    table = lines.index("  file                size   latency  outputs differ by  checked in")
    assert lines[table + 1] == "  test.onnx        10.2 MB    5.0 ms            1.2e-05  ort"
