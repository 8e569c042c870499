"""tinyvit-predict, -verify and -inspect as commands: exit codes, --json, and what they print."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tinyvit import __version__
from tinyvit.labels import Label
from tinyvit.manifest import MANIFEST_KEY, Manifest, Quantization
from tinyvit.runtimes import cli, open_artifact

COMMANDS = {"predict": cli.predict, "verify": cli.verify, "inspect": cli.inspect}


def run(capsys: pytest.CaptureFixture[str], command: str, *argv: object) -> tuple[int, str, str]:
    code = COMMANDS[command]([str(x) for x in argv])
    return code, *capsys.readouterr()


def test_predict(
    build_artifact: Any, image_files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(
        capsys,
        "predict",
        build_artifact(),
        image_files[0],
        image_files[1],
        "--top-k",
        2,
        "--threads",
        1,
    )
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 6
    assert lines[0] == str(image_files[0])
    assert "%" in lines[1]
    assert "thing" in lines[1]


def test_predict_json(
    build_artifact: Any, image_files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jpg").write_text("text")
    (tmp_path / "empty").mkdir()
    code, out, err = run(
        capsys,
        "predict",
        build_artifact(),
        tmp_path / "bad.jpg",
        image_files[0].parent,
        tmp_path / "empty",
        tmp_path / "none.png",
        "--json",
    )
    assert code == 1
    assert len(err.splitlines()) == 3
    data = json.loads(out)
    assert data.keys() == {"artifact", "results"}
    assert [r["image"] for r in data["results"]] == [
        str(x)
        for x in (tmp_path / "bad.jpg", *image_files, tmp_path / "empty", tmp_path / "none.png")
    ]
    assert ["error" in r for r in data["results"]] == [True] + [False] * 9 + [True] * 2
    assert data["results"][1]["predictions"][0].keys() == {"index", "label", "wnid", "score"}
    assert len(data["results"][1]["predictions"]) == 5


def test_predict_a_bad_picture_does_not_stop_the_others(
    build_artifact: Any, image_files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    image_files[3].write_bytes(b"")
    code, out, err = run(capsys, "predict", build_artifact(), *image_files)
    assert code == 1
    assert out.count(".png") == 8
    assert "3.png is empty" in err


def test_predict_with_a_foreign_file_warns_in_a_line(
    build_artifact: Any, image_files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(
        capsys, "predict", build_artifact(manifest=False), image_files[0], "--json"
    )
    assert code == 0
    assert json.loads(out)
    assert err.startswith("warning: ")
    assert len(err.splitlines()) == 1
    assert "from Python: Classifier(path, preprocess=..., labels=...)" in err


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_verify(build_artifact: Any, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "verify", build_artifact(suffix))
    assert (code, err) == (0, "")
    assert out.startswith("PASS")
    code, out, _ = run(capsys, "verify", build_artifact(suffix), "--json", "--threads", 1)
    data = json.loads(out)
    assert data["passed"] is True
    assert data["engine"]["threads"] == 1


def changed(path: Path, manifest: Manifest) -> Path:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {MANIFEST_KEY: manifest.to_json()})
    onnx.save(model, path)
    return path


def test_verify_fails(copy_artifact: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy_artifact()
    changed(path, dataclasses.replace(open_artifact(path).manifest, content_sha256="00"))
    code, out, _ = run(capsys, "verify", path)
    assert code == 1
    assert out.startswith(
        f"FAIL  {path}: the network was changed after export; largest logit difference"
    )
    assert "network: CHANGED" in out
    assert "manifest: as exported" in out
    code, out, _ = run(capsys, "verify", path, "--json")
    assert code == 1
    data = json.loads(out)
    assert (data["content_unchanged"], data["manifest_unchanged"]) == (False, True)
    assert data["reasons"] == ["the network was changed after export"]


def test_an_edited_manifest_is_told(copy_artifact: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy_artifact()
    path.write_bytes(path.read_bytes().replace(b"thing 2", b"thinx 2"))
    code, out, _ = run(capsys, "verify", path)
    assert code == 1
    assert out.startswith(f"FAIL  {path}: the manifest was changed after export; largest")
    code, out, _ = run(capsys, "inspect", path)
    assert code == 0
    assert "thinx 2" in out
    assert next(line for line in out.splitlines() if line.startswith("manifest ")).endswith(
        "CHANGED after export"
    )
    code, out, _ = run(capsys, "inspect", path, "--json")
    data = json.loads(out)
    assert data["intact"] is False
    assert data["sha256"] == open_artifact(path).manifest.sha256


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_inspect(build_artifact: Any, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "inspect", build_artifact(suffix))
    assert (code, err) == (0, "")
    for part in (
        "float32 (batch, 3, 32, 32) NCHW",
        "resize 36",
        "10 classes",
        "thing 2",
        "mit",
        "0" * 64,
        "onnx 1",
        "not measured",
    ):
        assert part in out
    assert "thing 9" not in out
    assert "thing 9" in run(capsys, "inspect", build_artifact(suffix), "--labels")[1]
    code, out, _ = run(capsys, "inspect", build_artifact(suffix), "--json")
    data = json.loads(out)
    assert data.pop("intact") is True
    assert Manifest.from_json(json.dumps(data)) == open_artifact(build_artifact(suffix)).manifest


def test_inspect_a_foreign_file(build_artifact: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "inspect", build_artifact(manifest=False))
    assert (code, out) == (1, "")
    assert "onnx without a manifest" in err


def test_labels_cannot_steer_the_terminal(
    copy_artifact: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy_artifact()
    said = open_artifact(path).manifest
    changed(
        path,
        dataclasses.replace(
            said, labels=(Label("\x1b[2Jevil\ud800\n"), *said.labels[1:]), license="\x1b]0;x"
        ),
    )
    code, out, _ = run(capsys, "inspect", path)
    assert code == 0
    assert "\x1b" not in out
    assert "\\u001b[2Jevil\\ud800" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_errors_are_one_line_and_exit_1(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.onnx").write_text("text")
    for file in (tmp_path / "a.onnx", tmp_path / "none.onnx"):
        code, out, err = run(capsys, command, file, *(["x.png"] if command == "predict" else []))
        assert (code, out) == (1, "")
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("options", [["--runtime", "none"], ["--device", "none"]])
def test_impossible_requests_exit_1(
    build_artifact: Any, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "verify", build_artifact(), *options)
    assert code == 1
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("predict", []),
        ("predict", ["a.onnx"]),
        ("predict", ["a.onnx", "b.png", "--top-k", "0"]),
        ("verify", ["a.onnx", "--threads", "x"]),
        ("verify", ["a.onnx", "--precision", "f8"]),
        ("inspect", []),
        ("inspect", ["a", "--none"]),
    ],
)
def test_command_lines_that_are_not_understood_exit_2(
    command: str, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        COMMANDS[command](argv)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert "usage: tinyvit-" in err
    if "--top-k" in argv:
        assert err.endswith("argument --top-k: '0' is not a whole number from 1\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_version(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option, parts in (
        ("--help", ["examples:", f"  tinyvit-{command} tinyvit_5m"]),
        ("--version", [f"tinyvit-{command} {__version__}"]),
    ):
        with pytest.raises(SystemExit) as caught:
            COMMANDS[command]([option])
        assert caught.value.code == 0
        out = capsys.readouterr().out
        assert all(part in out for part in parts)
    with pytest.raises(SystemExit):
        COMMANDS[command](["--help"])
    assert capsys.readouterr().out.count(f"  tinyvit-{command} ") >= 2


def test_importing_is_cheap_and_needs_no_engine() -> None:
    code = "import sys; from tinyvit.runtimes import classifier, cli, verify; from tinyvit.runtimes.engines import onnxruntime, openvino;"
    code += "assert not {'onnxruntime', 'openvino', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, tinyvit, tinyvit.runtimes; assert 'numpy' not in sys.modules",
        ],
        check=True,
    )


def test_inspect_tells_of_int8(demo):
    manifest = open_artifact(demo["onnx"]).manifest
    assert manifest is not None
    said = Quantization(
        "histogram",
        "",
        256,
        "",
        7,
        "any",
        (),
        0.9145,
        1000,
        98.7,
        85.2,
        85.2,
        ("one",),
        "a processor",
        True,
    )
    shown = cli._summary(dataclasses.replace(manifest, quantization=said))
    assert shown["int8"] == "7-bit weights, for any processor; 91% of the work; 0 units in float32"
    assert shown["  measured"].startswith(
        "98.7% of 1000 images as in float32, top-1 85.2% (float32: 85.2%)"
    )
    assert "forced" in shown["  measured"]
    assert (
        Manifest.from_json(dataclasses.replace(manifest, quantization=said).to_json()).quantization
        == said
    )
